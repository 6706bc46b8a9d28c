package load

import (
	"math"
	"math/bits"
	"time"
)

const (
	subBits    = 6 // 2^6 buckets per power of two: a quantile is at most 1/64 above the true one
	subBuckets = 1 << subBits
	maxExp     = 63 - (subBits + 1)
)

// histogram counts durations in logarithmic buckets of fixed number, whatever the durations are. The zero value is empty.
type histogram struct {
	counts [(maxExp + 2) * subBuckets]uint64
	n      uint64
	max    time.Duration
}

// bucket returns the index of the bucket of d, which is not negative.
func bucket(d time.Duration) int {
	v := uint64(d)
	exp := max(bits.Len64(v)-(subBits+1), 0)
	return exp*subBuckets + int(v>>exp)
}

// bucketTop returns the longest duration in bucket i.
func bucketTop(i int) time.Duration {
	exp := max(i/subBuckets-1, 0)
	return time.Duration((uint64(i-exp*subBuckets)+1)<<exp - 1)
}

// add counts d; a negative d counts as 0.
func (h *histogram) add(d time.Duration) {
	d = max(d, 0)
	h.counts[bucket(d)]++
	h.n++
	h.max = max(h.max, d)
}

// merge adds all of o.
func (h *histogram) merge(o *histogram) {
	for i, c := range o.counts {
		h.counts[i] += c
	}
	h.n += o.n
	h.max = max(h.max, o.max)
}

// quantile returns the q-quantile, 0 < q ≤ 1, by nearest rank, at most 1/64 too long; 0 when empty.
func (h *histogram) quantile(q float64) time.Duration {
	rank := max(uint64(math.Ceil(q*float64(h.n))), 1)
	var seen uint64
	for i, c := range h.counts {
		if seen += c; seen >= rank {
			return min(bucketTop(i), h.max)
		}
	}
	return h.max
}

// latency sums h up.
func (h *histogram) latency() Latency {
	return Latency{P50: h.quantile(.5), P90: h.quantile(.9), P99: h.quantile(.99), Max: h.max}
}
