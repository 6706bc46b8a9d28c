package flow_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/alibaba/sentinel-golang/core/base"
	sbase "github.com/alibaba/sentinel-golang/core/stat/base"

	"sentinel-envoy/internal/seeds"
	"sentinel-envoy/shared/family/flow"
)

// sentinelWindow is what core/flow of sentinel-golang 1.0.4 makes of statIntervalInMs with its default configuration
// (the resource's own statistic is 20 × 500 ms, read as 2 × 500 ms), decided by its own exported checks.
func sentinelWindow(t *testing.T, interval uint32) flow.Window {
	t.Helper()
	const total, totalBuckets, bucket, standard, standardBuckets = 10000, 20, 500, 1000, 2
	if interval == 0 || interval == standard {
		return flow.Window{BucketMs: standard / standardBuckets, Buckets: standardBuckets}
	}
	samples := uint32(1)
	if interval >= bucket && interval <= total && interval%bucket == 0 {
		samples = interval / bucket
	}
	switch err := base.CheckValidityForReuseStatistic(samples, interval, totalBuckets, total); err {
	case nil:
		// Read from the resource's statistic, whose buckets are 500 ms.
		return flow.Window{BucketMs: bucket, Buckets: int(interval / bucket)}
	case base.GlobalStatisticNonReusableError:
		own := sbase.NewBucketLeapArray(samples, interval)
		return flow.Window{BucketMs: int64(own.BucketLengthInMs()), Buckets: int(own.SampleCount())}
	default:
		t.Fatalf("sentinel-golang refuses interval %d: %v", interval, err)
		return flow.Window{}
	}
}

func TestWindowOfIsSentinels(t *testing.T) {
	intervals := []uint32{15000, 60000, 600000, 3600000}
	for i := range uint32(12001) {
		intervals = append(intervals, i)
	}
	for _, interval := range intervals {
		if got, want := flow.WindowOf(uint64(interval)), sentinelWindow(t, interval); got != want {
			t.Errorf("WindowOf(%d) = %+v, sentinel-golang has %+v", interval, got, want)
		}
	}
}

// history is the window by brute force: every permit with its bucket.
type history struct {
	w      flow.Window
	newest int64
	taken  map[int64]int64
}

func (r *history) used(at int64) int64 {
	var sum int64
	for b, n := range r.taken {
		if b > at-int64(r.w.Buckets) && b <= at {
			sum += n
		}
	}
	return sum
}

func (r *history) freeAt(capacity int64) int64 {
	for b := r.newest; capacity >= 1; b++ {
		if r.used(b) < capacity {
			return b
		}
	}
	return -1
}

func TestStateEqualsBruteForce(t *testing.T) {
	seeds.Try(t, 1, func(t *testing.T, seed uint64) {
		rng := rand.New(rand.NewPCG(seed, 1))
		for range 2000 {
			if checkTrace(t, rng); t.Failed() {
				t.Fatalf("seed %d", seed)
			}
		}
	})
}

func checkTrace(t *testing.T, rng *rand.Rand) {
	w := flow.Window{BucketMs: 500, Buckets: 1 + rng.IntN(flow.MaxBuckets)}
	capacity := rng.Int64N(30)
	var s flow.State
	model := &history{w: w, taken: map[int64]int64{}}
	bucket := rng.Int64N(100)
	for range 60 {
		switch rng.IntN(4) {
		case 0:
			bucket += rng.Int64N(int64(w.Buckets)+2) - 1 // sometimes back: an older bucket changes nothing
			bucket = max(bucket, 0)
			s.Advance(w, bucket)
			model.newest = max(model.newest, bucket)
		case 1:
			back, n := max(model.newest-rng.Int64N(int64(w.Buckets)+2), 0), rng.Int64N(5)
			inWindow := back > model.newest-int64(w.Buckets)
			if got := s.GiveBack(w, back, n); got != inWindow {
				t.Errorf("GiveBack to bucket %d of newest %d and %d buckets: %t", back, model.newest, w.Buckets, got)
			}
			if inWindow {
				model.taken[back] = max(model.taken[back]-n, 0)
			}
		default:
			want := rng.Int64N(8)
			grant := max(min(want, capacity-model.used(model.newest)), 0)
			if got := s.Take(w, capacity, want); got != grant {
				t.Errorf("Take(%d, %d) = %d, want %d", capacity, want, got, grant)
			}
			model.taken[model.newest] += grant
		}
		if rng.IntN(10) == 0 {
			capacity = rng.Int64N(30) // the rule changes
		}
		checkState(t, &s, model, capacity)
	}
}

func checkState(t *testing.T, s *flow.State, model *history, capacity int64) {
	t.Helper()
	if got, want := s.Used(model.w), model.used(model.newest); got != want {
		t.Errorf("Used = %d, want %d", got, want)
	}
	if got, want := s.FreeAt(model.w, capacity, 1), model.freeAt(capacity); got != want {
		t.Errorf("FreeAt(%d) = %d, want %d (newest %d)", capacity, got, want, model.newest)
	}
	var again flow.State
	if code := s.Encode(nil, model.w); !again.Decode(code, model.w) || again != *s {
		t.Errorf("%+v was decoded as %+v", *s, again)
	}
}

func TestFillLeavesNothing(t *testing.T) {
	w := flow.WindowOf(2000)
	var s flow.State
	s.Advance(w, 7)
	s.Take(w, 10, 3)
	s.Fill(w, 10)
	if got := s.Take(w, 10, 1); got != 0 {
		t.Errorf("a filled window granted %d", got)
	}
	s.Advance(w, 7+int64(w.Buckets))
	if got := s.Take(w, 10, 20); got != 10 {
		t.Errorf("after the filled bucket has left, %d of 10 were granted", got)
	}
}

func TestCapacity(t *testing.T) {
	for threshold, want := range map[float64]int64{
		0: 0, 0.5: 0, 0.999: 0, 1: 1, 1.5: 1, 333.3: 333, -1: 0, math.Inf(1): flow.MaxCapacity, 1e300: flow.MaxCapacity,
	} {
		if got := flow.Capacity(threshold); got != want {
			t.Errorf("Capacity(%g) = %d, want %d", threshold, got, want)
		}
	}
}
