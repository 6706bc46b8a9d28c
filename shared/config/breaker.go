package config

import "sentinel-envoy/shared/rule"

// breakerFields are the keys of a circuit breaker rule.
func (r *rules) breakerFields(c *rule.CircuitBreaker) []field {
	return r.targetFields(&c.Target,
		field{"strategy", enum(r.parser, &c.Strategy, rule.SlowRequestRatio, rule.ErrorRatio, rule.ErrorCount)},
		field{"retryTimeoutMs", integer(r.parser, &c.RetryTimeoutMs, 1, maxUint32)},
		field{"minRequestAmount", integer(r.parser, &c.MinRequestAmount, 0, maxExact)},
		field{"statIntervalMs", integer(r.parser, &c.StatIntervalMs, 1, maxInterval)},
		field{"statSlidingWindowBucketCount", integer(r.parser, &c.StatSlidingWindowBucketCount, 0, maxBuckets)},
		field{"maxAllowedRtMs", integer(r.parser, &c.MaxAllowedRtMs, 0, maxExact)},
		field{"threshold", r.number(&c.Threshold)},
		field{"probeNum", integer(r.parser, &c.ProbeNum, 0, maxExact)},
	)
}

// circuitBreaker completes a circuit breaker rule, and finds what is wrong with it.
func (r *rules) circuitBreaker(at *place, seen uint64, fields []field, c *rule.CircuitBreaker) {
	r.javaDefaults(at, seen, fields, "minRequestAmount", "5", "statIntervalMs", "1000")
	r.require(at, seen, fields, "resource", "retryTimeoutMs", "statIntervalMs", "threshold")
	r.checkCircuitBreaker(at, c)
	r.checkResource(at, &c.Target)
	r.include(at, c)
}

func (r *rules) checkCircuitBreaker(at *place, c *rule.CircuitBreaker) {
	isRatio := c.Strategy == rule.SlowRequestRatio || c.Strategy == rule.ErrorRatio
	if isRatio && c.Threshold > 1 {
		r.add(at.at("threshold"), "must be from 0 to 1 with ", c.Strategy.String())
	}
	if c.StatSlidingWindowBucketCount == 0 {
		c.StatSlidingWindowBucketCount = 1
	}
	if c.StatIntervalMs%c.StatSlidingWindowBucketCount != 0 { // upstream would silently use 1
		r.add(at.at("statSlidingWindowBucketCount"), "must divide statIntervalMs")
	}
}
