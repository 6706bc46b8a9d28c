package flow_test

import (
	"math/rand/v2"
	"testing"

	"sentinel-envoy/internal/seeds"
	"sentinel-envoy/shared/family/flow"
)

// saturate admits all that a rule allows, in each second for so many seconds from a cold start, and gives how many.
func saturate(w *flow.WarmUp, warmth *flow.Warmth, from, seconds int64) (admitted []int64) {
	passed := int64(0)
	for second := from; second < from+seconds; second++ {
		w.Advance(warmth, second, passed)
		passed = flow.Capacity(w.Threshold(*warmth))
		admitted = append(admitted, passed)
	}
	return admitted
}

// The published behaviour of Sentinel for Java's WarmUpController: from threshold / coldFactor when cold to the threshold
// after the warm-up period; idle, it cools down.
func TestWarmUpAsPublished(t *testing.T) {
	for _, c := range []struct {
		threshold      float64
		period, factor uint32
	}{{100, 10, 3}, {1000, 5, 3}, {60, 20, 2}, {500, 10, 5}} {
		w := flow.NewWarmUp(c.threshold, 1000, c.period, c.factor)
		var warmth flow.Warmth
		const first = 5000
		admitted := saturate(w, &warmth, first, 3*int64(c.period))
		if cold := int64(c.threshold / float64(c.factor)); admitted[0] != cold {
			t.Errorf("%+v: a cold second admits %d, want %d", c, admitted[0], cold)
		}
		warmAfter := int64(0)
		for i, n := range admitted {
			if i > 0 && n < admitted[i-1] {
				t.Errorf("%+v: the threshold falls under load: %v", c, admitted)
				break
			}
			if n < int64(c.threshold) {
				warmAfter = int64(i) + 1
			}
		}
		// A warm-up period of full use, give or take its last seconds: it is the tokens of the period that are used up.
		if p := int64(c.period); warmAfter < p || warmAfter > p+p/4+2 {
			t.Errorf("%+v: warm after %d s: %v", c, warmAfter, admitted)
		}
		now := int64(first) + 3*int64(c.period)
		w.Advance(&warmth, now+1, int64(c.threshold))
		w.Advance(&warmth, now+1+10*int64(c.period), 0)
		if got := int64(w.Threshold(warmth)); got != int64(c.threshold)/int64(c.factor) {
			t.Errorf("%+v: after a long idle time it admits %d", c, got)
		}
	}
}

// The example of Sentinel for Java's own test: threshold 10, 10 s, factor 3. Cold it refuses the ninth in a second; after
// ten seconds of full use it admits ten.
func TestWarmUpOfTheJavaExample(t *testing.T) {
	w := flow.NewWarmUp(10, 1000, 10, 3)
	var warmth flow.Warmth
	w.Advance(&warmth, 100, 1)
	if got := w.Threshold(warmth); got < 2 || got >= 9 {
		t.Errorf("cold threshold %v", got)
	}
	for second := int64(101); second <= 110; second++ {
		w.Advance(&warmth, second, 10)
	}
	if got := w.Threshold(warmth); got != 10 {
		t.Errorf("warm threshold %v", got)
	}
}

func TestWarmUpInEveryInterval(t *testing.T) {
	for _, interval := range []uint32{100, 500, 700, 1000, 2000, 10000, 60000} {
		threshold := 100 * float64(interval) / 1000
		w := flow.NewWarmUp(threshold, uint64(interval), 10, 3)
		var warmth flow.Warmth
		w.Advance(&warmth, 5000, 0)
		cold := w.Threshold(warmth)
		if cold < threshold/3 || cold > threshold/3+1e-6 {
			t.Errorf("%d ms: cold %v of %v", interval, cold, threshold)
		}
		for second := int64(5001); second < 5030; second++ {
			w.Advance(&warmth, second, flow.Capacity(w.Threshold(warmth)))
		}
		if got := w.Threshold(warmth); got != threshold {
			t.Errorf("%d ms: after 30 s of full use %v of %v", interval, got, threshold)
		}
	}
}

func TestWarmUpNeverStarves(t *testing.T) {
	seeds.Try(t, 1, func(t *testing.T, seed uint64) {
		rng := rand.New(rand.NewPCG(seed, 1))
		for range 3000 {
			threshold := []float64{1, 1.5, 2, 3, 10, 1e4, 1e18, 1e300}[rng.IntN(8)]
			interval, period, factor := 1+rng.Uint32N(100_000), 1+rng.Uint32N(5000), 2+rng.Uint32N(1000)
			w := flow.NewWarmUp(threshold, uint64(interval), period, factor)
			var warmth flow.Warmth
			second := 1 + rng.Int64N(1_000_000)
			for range 20 {
				second += rng.Int64N(100)
				w.Advance(&warmth, second, rng.Int64N(1+flow.Capacity(threshold)))
				if got := w.Threshold(warmth); !(got >= 1 && got <= threshold*1.000001) {
					t.Fatalf("seed %d: threshold %v of %v in %d ms, %d s, factor %d, %+v", seed, got, threshold, interval, period, factor, warmth)
				}
				var again flow.Warmth
				if !again.Decode(warmth.Encode(nil)) || again != warmth {
					t.Fatalf("seed %d: %+v was decoded as %+v", seed, warmth, again)
				}
			}
		}
	})
}

func TestWarmStateEqualsBruteForce(t *testing.T) {
	seeds.Try(t, 1, func(t *testing.T, seed uint64) {
		rng := rand.New(rand.NewPCG(seed, 1))
		for range 500 {
			w := flow.Window{BucketMs: 500, Buckets: 1 + rng.IntN(flow.MaxBuckets)}
			var s flow.WarmState
			counted := map[int64]int64{}
			bucket := rng.Int64N(50)
			s.Advance(w, bucket)
			for range 60 {
				bucket += rng.Int64N(3) * rng.Int64N(int64(w.Buckets)+3) / 2
				s.Advance(w, bucket)
				at, n := max(bucket-rng.Int64N(int64(w.Buckets)+1), 0), rng.Int64N(9)
				s.Add(w, at, n)
				counted[at] += n
				used, previous := int64(0), int64(0)
				for b := bucket - int64(w.Buckets) + 1; b <= bucket; b++ {
					used, previous = used+counted[b], previous+counted[b-1]
				}
				if s.Used(w) != used || s.Previous(w) != previous {
					t.Fatalf("seed %d: used %d and %d before, want %d and %d (%d buckets)",
						seed, s.Used(w), s.Previous(w), used, previous, w.Buckets)
				}
				var again flow.WarmState
				if !again.DecodeCounts(s.EncodeCounts(nil, w), w) || again != s {
					t.Fatalf("seed %d: %+v was decoded as %+v", seed, s, again)
				}
			}
		}
	})
}

func TestPaceCountsEqualBruteForce(t *testing.T) {
	seeds.Try(t, 1, func(t *testing.T, seed uint64) {
		rng := rand.New(rand.NewPCG(seed, 1))
		const bucket = 500 * 1e6
		for range 500 {
			w := flow.Window{BucketMs: 500, Buckets: 1 + rng.IntN(flow.MaxBuckets)}
			s := flow.PaceState{Warmth: flow.Warmth{Filled: 1}}
			counted := map[int64]int64{}
			now := rng.Int64N(100 * bucket)
			for range 80 {
				now += rng.Int64N(3) * rng.Int64N(8*bucket)
				at := now + rng.Int64N(10*bucket)
				s.Count(w, at, now, 1)
				counted[w.Bucket(at)]++
				if rng.IntN(5) == 0 {
					s.Count(w, at, now, -1)
					counted[w.Bucket(at)]--
				}
				var want int64
				for b := w.Bucket(now) - int64(w.Buckets); b < w.Bucket(now); b++ {
					want += counted[b]
				}
				if got := s.Previous(w, now); got != want {
					t.Fatalf("seed %d: %d in the window before, want %d (%d buckets)", seed, got, want, w.Buckets)
				}
				var again flow.PaceState
				if !again.Decode(s.Encode(nil)) || again != s {
					t.Fatalf("seed %d: %+v was decoded as %+v", seed, s, again)
				}
			}
		}
	})
}
