package engine_test

import (
	"math/rand/v2"
	"testing"

	"sentinel-envoy/internal/seeds"
	"sentinel-envoy/shared/config"
	"sentinel-envoy/shared/engine"
	"sentinel-envoy/shared/outcome"
	"sentinel-envoy/shared/rule"
)

const day = 24 * 3600 * second

// In windows of up to 366 days all workers admit the threshold, no more, and it is there again once the window is over.
func TestLongWindows(t *testing.T) {
	seeds.Try(t, 60, func(t *testing.T, seed uint64) {
		rng := rand.New(rand.NewPCG(seed, 13))
		days := []int64{1, 7, 49, 50, 366}[rng.IntN(5)]
		threshold := 1 + rng.IntN(500)
		h := perUser("h", int64(threshold))
		h.DurationInSec = days * 86_400
		f := limit("f", float64(threshold), 0)
		f.StatIntervalInMs = uint64(days) * 86_400_000
		c, isFlow := hot(h), rng.IntN(2) == 0
		if isFlow {
			c = cfg(f)
		}
		w := newProcess(1+rng.IntN(8), c)
		w.Advance(days*day - w.Now()%(days*day) + second) // a flow rule's windows are aligned
		for window := range 3 {
			begin, admitted := w.Now(), 0
			for range 4*threshold + 50 {
				wk := w.workers[rng.IntN(len(w.workers))]
				switch b := wk.try("alice", 200, w.Now()); {
				case b == nil:
					admitted++
				case b.RetryAfterMs < 1 || b.RetryAfterMs > days*86_400_000+1:
					t.Fatalf("again after %d ms", b.RetryAfterMs)
				}
				w.Advance(rng.Int64N(days * day / int64(8*threshold+100)))
				if rng.IntN(4) == 0 {
					w.run(tick)
				}
			}
			if admitted != threshold {
				t.Errorf("%d days, flow %t, window %d: %d admitted of %d", days, isFlow, window, admitted, threshold)
			}
			w.Advance(begin + days*day + 2*second - w.Now())
		}
	})
}

// A value's use of a long window makes it no colder than it is: it is known for as long.
func TestLongWindowOutlivesAFlood(t *testing.T) {
	h := perUser("h", 2)
	h.DurationInSec = 366 * 86_400
	w := newProcess(1, hot(h))
	wk := w.workers[0]
	for range 10 { // refused more often than any of the flood
		wk.try("alice", 200, w.Now())
	}
	w.Advance(360 * day)
	for i := range 200_000 {
		wk.try(string(rune(0x4e00+i%20000))+string(rune('a'+i/20000)), 200, w.Now())
	}
	if b := wk.try("alice", 200, w.Now()); b == nil {
		t.Error("360 days later a flood of other values has freed the value")
	}
	w.Advance(7 * day)
	if b := wk.try("alice", 200, w.Now()); b != nil {
		t.Errorf("the window is over: %+v", b)
	}
}

// A breaker slides over as many buckets as its interval has seconds, up to a minute.
func TestBreakerOfSixtyBuckets(t *testing.T) {
	b := rule.CircuitBreaker{Target: rule.Target{ID: "b", Resource: "r"}, Strategy: rule.ErrorCount, Threshold: 3, MinRequestAmount: 1,
		StatIntervalMs: 60_000, StatSlidingWindowBucketCount: 60, RetryTimeoutMs: 1000}
	for _, c := range []struct {
		apart int64
		opens bool
	}{{29 * second, true}, {31 * second, false}} {
		w := newProcess(3, &config.Config{ResourceName: "r", Rules: list([]rule.CircuitBreaker{b})})
		w.Advance(60*second - w.Now()%(60*second))
		for i := range 3 {
			var e engine.Entry
			if refused := w.workers[i].http.Enter("r", w.Now(), &e); refused != nil {
				t.Fatalf("failure %d is refused: %+v", i, refused)
			}
			e.Exit(w.Now(), outcome.End{Outcome: outcome.Badly})
			w.run(100 * millisecond)
			if i < 2 {
				w.Advance(c.apart - 100*millisecond)
			}
		}
		var e engine.Entry
		if opens := w.workers[0].http.Enter("r", w.Now(), &e) != nil; opens != c.opens {
			t.Errorf("three failures, %d s apart: it opens: %t", c.apart/second, opens)
		}
	}
}
