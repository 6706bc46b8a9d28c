package flow_test

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"

	"sentinel-envoy/internal/seeds"
	"sentinel-envoy/shared/family/flow"
	"sentinel-envoy/shared/host/memhost"
	"sentinel-envoy/shared/record"
	"sentinel-envoy/shared/rule"
)

// worstOf is the largest number of times within any interval of a length, both its ends included.
func worstOf(times []int64, length int64) (worst int) {
	slices.Sort(times)
	from := 0
	for to, at := range times {
		for at-times[from] > length {
			from++
		}
		worst = max(worst, to-from+1)
	}
	return worst
}

func drawExact(r *rand.Rand) scenario {
	s := draw(r)
	s.shape = rule.ExactWindow
	if r.IntN(4) == 0 {
		s.workers = 64 + r.IntN(193)
	}
	return s
}

func TestGuarantee1NoIntervalIsOverWithAnExactWindow(t *testing.T) {
	var admitted atomic.Int64 // of all runs: one with few requests, whose workers die, may lose them all
	seeds.Try(t, *simRuns, func(t *testing.T, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 11))
		s := drawExact(r)
		s.deaths, s.stalls = r.IntN(2) == 0, r.IntN(2) == 0
		if r.IntN(3) == 0 {
			s.lower = s.threshold / 2
		}
		o := simulate(t, seed, s, 2*second+r.Int64N(2*second))
		worst := worstOf(o.times, nanoseconds(s.intervalMs))
		if int64(worst) > flow.Capacity(s.threshold) {
			t.Errorf("an interval has %d: %v", worst, s)
		}
		admitted.Add(int64(worst))
	})
	if admitted.Load() == 0 {
		t.Error("nothing was admitted")
	}
}

func TestGuarantee2AnExactWindowLosesOnePerCentAtMost(t *testing.T) {
	seeds.Try(t, *simRuns, func(t *testing.T, seed uint64) {
		s := drawExact(rand.New(rand.NewPCG(seed, 12)))
		if s.threshold < 1 || s.intervalMs < 100 && s.intervalMs > 0 || s.intervalMs > 2000 {
			s.threshold, s.lower, s.intervalMs = 200, 200, 1000
		}
		if s.spread == changing {
			s.spread = skewed // between two workers' turns there would be none
		}
		interval := nanoseconds(s.intervalMs)
		// Twice the threshold, and so many that a permit which has come back is not left waiting for the next request.
		s.demand = max(2*s.threshold, 400) / (float64(interval) / 1e9)
		o := simulate(t, seed, s, 12*interval)
		slices.Sort(o.times)
		from := o.times[0] + interval
		to := from + 10*interval
		admitted := 0
		for _, at := range o.times {
			if at >= from && at < to {
				admitted++
			}
		}
		if want := 10 * float64(flow.Capacity(s.threshold)); float64(admitted) < 0.99*want-1 {
			t.Errorf("admitted %d of %.0f over ten intervals: %v", admitted, want, s)
		}
	})
}

// A fixed window has twice the threshold in a few milliseconds, one that slides over half seconds in little more than one of
// these. An exact one has not.
func TestWhatASecondHasAcrossTheEndOfABucket(t *testing.T) {
	const threshold = 100
	for shape, want := range map[rule.Window]int{rule.FixedWindow: 2 * threshold, rule.SlidingWindow: threshold, rule.ExactWindow: threshold} {
		p := memhost.NewProcess(start + second - 3*millisecond)
		b := flow.NewBudget(record.NewTable(p.Worker(nil)), record.IDOf("r"), flow.ShapedWindow(1000, shape))
		admitted := 0
		for range 3 * threshold {
			if take(t, b, threshold, p.Now()) {
				admitted++
			}
			p.Advance(20_000)
		}
		if admitted != want {
			t.Errorf("%s: %d admitted in 6 ms across the end of a second, want %d", shape, admitted, want)
		}
	}
	// At the end of a half second, and at the beginning of the next but one: 502 ms apart.
	for shape, want := range map[rule.Window]int{rule.SlidingWindow: 2 * threshold, rule.ExactWindow: threshold} {
		p := memhost.NewProcess(start + second/2 - 1*millisecond)
		b := flow.NewBudget(record.NewTable(p.Worker(nil)), record.IDOf("r"), flow.ShapedWindow(1000, shape))
		admitted := 0
		for range 2 {
			for range threshold {
				if take(t, b, threshold, p.Now()) {
					admitted++
				}
			}
			p.Advance(502 * millisecond)
		}
		if admitted != want {
			t.Errorf("%s: %d admitted in 502 ms, want %d", shape, admitted, want)
		}
	}
}

func TestAnExactWindowIsFreeOneIntervalAfter(t *testing.T) {
	p := memhost.NewProcess(start)
	b := flow.NewBudget(record.NewTable(p.Worker(nil)), record.IDOf("r"), flow.ShapedWindow(1000, rule.ExactWindow))
	var given []flow.Verdict
	for range 3 {
		v, err := b.Take(3, 1, p.Now())
		if err != nil || !v.OK {
			t.Fatal(v, err)
		}
		given = append(given, v)
		p.Advance(100 * millisecond)
	}
	v, err := b.Take(3, 1, p.Now())
	if err != nil || v.OK || v.Used != 3 || v.Capacity != 3 {
		t.Fatalf("a fourth: %+v, %v", v, err)
	}
	if wait := v.FreeAt - given[0].At; wait <= second || wait > second+second/flow.ExactTicks {
		t.Errorf("free %d ns after the first", wait)
	}
	p.Advance(given[0].At + second - p.Now())
	if take(t, b, 3, p.Now()) {
		t.Error("a fourth in a second, both its ends included")
	}
	p.Advance(v.FreeAt - p.Now())
	if !take(t, b, 3, p.Now()) || take(t, b, 3, p.Now()) {
		t.Error("when it says that one is free, there is not one")
	}
	if err := b.GiveBack(given[1].At, 1, p.Now()); err != nil {
		t.Fatal(err)
	}
	if !take(t, b, 3, p.Now()) || take(t, b, 3, p.Now()) {
		t.Error("a permit that was given back is not free")
	}
}

// TestLogIsASlidingLog compares a log with one that keeps every time: it never admits where that does not.
func TestLogIsASlidingLog(t *testing.T) {
	seeds.Try(t, *simRuns, func(t *testing.T, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 13))
		capacity := []int64{1, 2, 10, 127, 128, 129, 500, 5000}[r.IntN(8)]
		var l flow.Log
		var kept []int64 // ticks
		now := int64(1e6)
		for range 4000 {
			now += r.Int64N(2 * flow.ExactTicks / min(capacity, 300))
			code := l.Encode(nil)
			if !l.Decode(code) || !bytes.Equal(l.Encode(nil), code) {
				t.Fatalf("%x cannot be read again", code)
			}
			l.Advance(now)
			kept = slices.DeleteFunc(kept, func(at int64) bool { return now-at > flow.ExactTicks })
			free := capacity - l.Used()
			if truth := capacity - int64(len(kept)); free > truth || free < 0 {
				t.Fatalf("%d free of %d, there are %d", free, capacity, truth)
			}
			if free == 0 {
				continue
			}
			n := 1 + r.Int64N(min(free, 20))
			ahead := r.Int64N(11)
			l.Take(now+ahead, n)
			for range n {
				kept = append(kept, now+r.Int64N(ahead+1))
			}
			if r.IntN(3) == 0 {
				i := r.IntN(len(kept))
				l.GiveBack(kept[i], 1)
				kept = slices.Delete(kept, i, i+1)
			}
		}
	})
}

// FuzzLog reads rubbish as a log. What is accepted is encoded as it was, can be worked with, and never gives more than there
// is.
func FuzzLog(f *testing.F) {
	var l flow.Log
	l.Advance(50_000)
	l.Take(50_000, 3)
	l.Advance(60_000)
	l.Take(60_010, 200)
	f.Add(l.Encode(nil))
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte{0x7f}, 40))
	f.Add(bytes.Repeat([]byte{1}, 1000))
	f.Fuzz(func(t *testing.T, code []byte) {
		var l flow.Log
		if !l.Decode(code) || l.Newest > 1<<60 {
			return
		}
		if again := l.Encode(nil); !bytes.Equal(again, code) {
			t.Errorf("%x was encoded as %x", code, again)
		}
		if free := l.FreeAt(10, 1); free < l.Newest || l.Used() < 0 {
			t.Errorf("free at %d, before %d; %d used", free, l.Newest, l.Used())
		}
		for range 500 {
			l.Advance(l.Newest + 7)
			l.Take(l.Newest+9, 1)
			l.GiveBack(l.Newest-100, 1)
		}
		l.Advance(l.Newest + 2*flow.ExactTicks)
		if l.Used() != 0 {
			t.Errorf("%d used after two intervals", l.Used())
		}
	})
}
