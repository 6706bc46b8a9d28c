// Package breaker holds the pure part of Sentinel's circuit breaker rules: what a rule asks, the state it shares over all
// workers, and the transitions of that state. Nothing here knows about workers, Envoy or clocks.
//
//	closed ──(window over the threshold)──▶ open ──(retry timeout)──▶ half open ──(all probes succeed)──▶ closed
//	                                         ▲                            │
//	                                         └──────(a probe fails)───────┘
package breaker

import (
	"math"

	"sentinel-envoy/shared/outcome"
	"sentinel-envoy/shared/rule"
)

const (
	// MaxBuckets is the largest number of buckets in a window.
	MaxBuckets = 60
	// MaxOutstanding is the largest number of probes that are under way at one time. A rule with more gets them one after
	// another.
	MaxOutstanding = 64
	// precision is how near a ratio has to come to the threshold to count as equal, as in sentinel-golang.
	precision = 1e-8
)

// Window is how a rule's statistic interval is cut into aligned buckets. At time t it spans the bucket that holds t and
// the Buckets−1 before it.
type Window struct {
	BucketNs int64
	Buckets  int
}

// Bucket is the number of the bucket that holds the time now, in nanoseconds.
func (w Window) Bucket(now int64) int64 { return now / w.BucketNs }

// Params is what a rule asks, in the units of the state. Times are nanoseconds.
type Params struct {
	Strategy  rule.BreakerStrategy
	Threshold float64
	// MinRequests is how many completions a window must have to be judged.
	MinRequests uint64
	// MaxRTMs is the longest response time, in milliseconds, that is not slow.
	MaxRTMs uint64
	// Retry is how long the breaker stays open before the first probe, Multiplier by how much longer each time that it opens
	// again before it has recovered, MaxRetry at most.
	Retry, MaxRetry int64
	Multiplier      float64
	// Recovery is how long it lets in only a share of the requests once it has closed, ever more.
	Recovery int64
	// Probes is how many probes must succeed to close it, at least 1.
	Probes uint64
	Window Window
}

// ParamsOf is what a checked rule asks.
func ParamsOf(r *rule.CircuitBreaker) Params {
	buckets := int64(max(r.StatSlidingWindowBucketCount, 1))
	return Params{
		Strategy:    r.Strategy,
		Threshold:   r.Threshold,
		MinRequests: r.MinRequestAmount,
		MaxRTMs:     r.MaxAllowedRtMs,
		Retry:       int64(r.RetryTimeoutMs) * 1e6,
		MaxRetry:    maxRetryOf(r),
		Multiplier:  max(r.RetryTimeoutMultiplier, 1),
		Recovery:    int64(r.RecoveryDurationMs) * 1e6,
		Probes:      max(r.ProbeNum, 1),
		Window:      Window{BucketNs: max(int64(r.StatIntervalMs)/buckets, 1) * 1e6, Buckets: int(min(buckets, MaxBuckets))},
	}
}

func maxRetryOf(r *rule.CircuitBreaker) int64 {
	if r.MaxRetryTimeoutMs > 0 {
		return int64(r.MaxRetryTimeoutMs) * 1e6
	}
	return math.MaxUint32 * 1e6
}

// retryAfter is how long the breaker stays open that has opened again so often before it has recovered.
func (p *Params) retryAfter(again uint64) int64 {
	wait, most := float64(p.Retry), float64(p.MaxRetry)
	for range min(again, maxAgain) {
		if wait *= p.Multiplier; wait >= most {
			return max(p.MaxRetry, p.Retry)
		}
	}
	return int64(wait)
}

// maxAgain is up to where it is counted how often a breaker has opened again.
const maxAgain = 1024

// Weigh is whether the end of an entry counts, and whether against the resource.
func (p *Params) Weigh(end outcome.End) (bad, counts bool) {
	if p.Strategy == rule.SlowRequestRatio {
		return end.TookLonger(p.MaxRTMs)
	}
	return end.Outcome == outcome.Badly, end.Outcome != outcome.Silent
}

// judge is the figure that a window's counts make, and whether it opens the breaker.
func (p *Params) judge(c Counts) (figure float64, opens bool) {
	if p.Strategy == rule.ErrorCount {
		return float64(c.Bad), c.Total >= p.MinRequests && c.Bad >= uint64(p.Threshold)
	}
	figure = float64(c.Bad) / float64(max(c.Total, 1))
	over := figure > p.Threshold || math.Abs(figure-p.Threshold) < precision
	return figure, c.Total >= p.MinRequests && over
}
