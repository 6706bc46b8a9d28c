package config

import "sentinel-envoy/shared/rule"

// breakerDraft is a circuit breaker rule as it is read.
type breakerDraft struct {
	rule.CircuitBreaker
	java javaDegrade
}

// breakerWords are the keys of a circuit breaker rule.
func (r *rules) breakerWords(d *breakerDraft) words {
	c := &d.CircuitBreaker
	return words{
		both: r.targetFields(&c.Target,
			r.limitApp(&c.LimitApp),
			field{"minRequestAmount", integer(r.parser, &c.MinRequestAmount, 0, maxExact)},
			field{"statIntervalMs", integer(r.parser, &c.StatIntervalMs, 1, maxInterval)},
		),
		own: []field{
			{"strategy", enum(r.parser, &c.Strategy, rule.SlowRequestRatio, rule.ErrorRatio, rule.ErrorCount)},
			{"retryTimeoutMs", integer(r.parser, &c.RetryTimeoutMs, 1, maxUint32)},
			{"statSlidingWindowBucketCount", integer(r.parser, &c.StatSlidingWindowBucketCount, 0, maxBuckets)},
			{"maxAllowedRtMs", integer(r.parser, &c.MaxAllowedRtMs, 0, maxExact)},
			{"threshold", r.number(&c.Threshold)},
			{"probeNum", integer(r.parser, &c.ProbeNum, 0, maxExact)},
			{"retryTimeoutMultiplier", r.multiplier(&c.RetryTimeoutMultiplier)},
			{"maxRetryTimeoutMs", integer(r.parser, &c.MaxRetryTimeoutMs, 1, maxUint32)},
			{"recoveryDurationMs", integer(r.parser, &c.RecoveryDurationMs, 0, maxInterval)},
			{"forced", enum(r.parser, &c.Forced, rule.ForcedOpen, rule.ForcedClosed)},
		},
		java: r.javaDegradeFields(&d.java),
	}
}

// circuitBreaker completes a circuit breaker rule, and finds what is wrong with it.
func (r *rules) circuitBreaker(s *saying, d *breakerDraft) {
	c := d.CircuitBreaker // a copy: the draft is the next rule's, too
	if s.java {
		r.fromJavaDegrade(s, &d.java, &c)
	} else {
		r.require(s, "resource", "retryTimeoutMs", "statIntervalMs", "threshold")
		r.checkCircuitBreaker(s.at, &c)
	}
	r.ignoreLimitApp(s, &c.Target)
	if c.StatSlidingWindowBucketCount == 0 {
		c.StatSlidingWindowBucketCount = 1
	}
	r.checkResource(s.at, &c.Target)
	r.include(s, &c)
}

func (r *rules) checkCircuitBreaker(at *place, c *rule.CircuitBreaker) {
	isRatio := c.Strategy == rule.SlowRequestRatio || c.Strategy == rule.ErrorRatio
	if isRatio && c.Threshold > 1 {
		r.add(at.at("threshold"), "must be from 0 to 1 with ", c.Strategy.String())
	}
	switch {
	case c.MaxRetryTimeoutMs == 0:
	case c.RetryTimeoutMultiplier <= 1:
		r.warn(at.at("maxRetryTimeoutMs"), "has no effect without a retryTimeoutMultiplier above 1")
	case c.MaxRetryTimeoutMs < c.RetryTimeoutMs:
		r.add(at.at("maxRetryTimeoutMs"), "must be ≥ retryTimeoutMs")
	}
	if n := c.StatSlidingWindowBucketCount; n > 0 && c.StatIntervalMs%n != 0 { // upstream would silently use 1
		r.add(at.at("statSlidingWindowBucketCount"), "must divide statIntervalMs")
	}
}

// maxMultiplier bounds by how much longer a breaker stays open from one time to the next.
const maxMultiplier = 100

// multiplier reads by how much that is; 1 is as good as none.
func (r *rules) multiplier(dst *float64) setter {
	return func(at *place, v value) {
		if f, ok := r.float(at, v); ok && r.inRange(at, v, f, 1, maxMultiplier) && f > 1 {
			*dst = f
		}
	}
}
