package breaker_test

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"time"

	"sentinel-envoy/shared/family/breaker"
	"sentinel-envoy/shared/rule"
)

const (
	millisecond = int64(time.Millisecond)
	second      = int64(time.Second)
	start       = 1000 * second
)

// counting is a rule that opens at so many failures in a window of 1 s.
func counting(failures float64, buckets uint32, probes uint64) breaker.Params {
	return breaker.ParamsOf(&rule.CircuitBreaker{
		Strategy: rule.ErrorCount, Threshold: failures, StatIntervalMs: 1000, StatSlidingWindowBucketCount: buckets,
		RetryTimeoutMs: 3000, ProbeNum: probes,
	})
}

func add(s *breaker.State, p *breaker.Params, bad, total uint64, at, now int64) bool {
	return s.Add(p, p.Window.Bucket(at), breaker.Counts{Bad: bad, Total: total}, at, now)
}

// halfOpen is a state that a probe has just made half open, at the time it returns.
func halfOpen(t *testing.T, p *breaker.Params) (*breaker.State, breaker.Probe, int64) {
	t.Helper()
	s := &breaker.State{}
	add(s, p, 100, 100, start, start)
	now := start + p.Retry
	probe, isProbe, ok := s.Enter(p, now)
	if !isProbe || !ok || s.Phase != breaker.HalfOpen {
		t.Fatalf("after the retry timeout: probe %t, admitted %t, %v", isProbe, ok, s.Phase)
	}
	return s, probe, now
}

func TestOpenRefusesUntilTheRetryTime(t *testing.T) {
	p := counting(1, 1, 0)
	s := breaker.State{}
	add(&s, &p, 1, 1, start, start)
	for _, at := range []int64{start, start + p.Retry - 1} {
		if _, _, ok := s.Enter(&p, at); ok {
			t.Errorf("admitted %d ns after opening", at-start)
		}
	}
	if got := s.EntersAt(&p, start); got != start+3*second {
		t.Errorf("enters %d ns after opening", got-start)
	}
	if add(&s, &p, 1, 1, start, start) {
		t.Error("an open breaker counts")
	}
}

func TestLateSuccessOfAnExpiredProbeDecidesNothing(t *testing.T) {
	p := counting(1, 1, 0)
	s, first, now := halfOpen(t, &p)
	if _, _, ok := s.Enter(&p, first.Deadline-1); ok {
		t.Error("a second probe before the first one's deadline")
	}
	if got := s.EntersAt(&p, now); got != first.Deadline {
		t.Errorf("the next place is free at %d, want %d", got, first.Deadline)
	}
	second, isProbe, _ := s.Enter(&p, first.Deadline)
	if !isProbe {
		t.Fatal("no second probe at the first one's deadline")
	}
	if s.Conclude(&p, first, false, first.Deadline+1) || s.Phase != breaker.HalfOpen {
		t.Errorf("the first probe's late success made it %v", s.Phase)
	}
	if s.GiveBack(first) {
		t.Error("the first probe gave the second one's place back")
	}
	if !s.Conclude(&p, second, true, first.Deadline+2) || s.Phase != breaker.Open {
		t.Errorf("the second probe's failure made it %v", s.Phase)
	}
}

func TestProbeOfAnEarlierGenerationDecidesNothing(t *testing.T) {
	p := counting(1, 1, 2)
	s, first, now := halfOpen(t, &p)
	other, _, _ := s.Enter(&p, now)
	s.Conclude(&p, other, true, now) // opens
	now += p.Retry
	again, _, _ := s.Enter(&p, now)
	again2, _, _ := s.Enter(&p, now)
	for range 2 {
		if s.Conclude(&p, first, false, now) {
			t.Error("a probe of the generation before decided")
		}
	}
	s.Conclude(&p, again, false, now)
	if s.Phase != breaker.HalfOpen {
		t.Errorf("one of two successes made it %v", s.Phase)
	}
	if s.Conclude(&p, again, false, now) {
		t.Error("one probe counted twice")
	}
	if s.Conclude(&p, again2, false, now); s.Phase != breaker.Closed {
		t.Errorf("two of two successes made it %v", s.Phase)
	}
}

func TestAProbeGivenBackIsAnothers(t *testing.T) {
	p := counting(1, 1, 1)
	s, probe, now := halfOpen(t, &p)
	if !s.GiveBack(probe) || s.GiveBack(probe) {
		t.Error("a place was not given back once")
	}
	next, isProbe, _ := s.Enter(&p, now)
	if !isProbe {
		t.Fatal("the place that was given back is not free")
	}
	if s.Conclude(&p, next, false, now); s.Phase != breaker.Closed {
		t.Errorf("%v", s.Phase)
	}
}

func TestManyProbesComeOneAfterAnother(t *testing.T) {
	const probes = 1000
	p := counting(1, 1, probes)
	s, probe, now := halfOpen(t, &p)
	ready := []breaker.Probe{probe}
	ended := 0
	for s.Phase == breaker.HalfOpen {
		for {
			next, _, ok := s.Enter(&p, now)
			if !ok {
				break
			}
			ready = append(ready, next)
		}
		if len(ready) > breaker.MaxOutstanding {
			t.Fatalf("%d probes are under way", len(ready))
		}
		s.Conclude(&p, ready[0], false, now)
		ready = ready[1:]
		ended++
	}
	if ended != probes || s.Phase != breaker.Closed {
		t.Errorf("%v after %d successes", s.Phase, ended)
	}
}

// A rule that asks for fewer probes than have succeeded already must not wait for none.
func TestFewerProbesAfterAnUpdate(t *testing.T) {
	p := counting(1, 1, 5)
	s, probe, now := halfOpen(t, &p)
	s.Conclude(&p, probe, false, now)
	p = counting(1, 1, 1)
	if _, isProbe, ok := s.Enter(&p, now); !ok || isProbe || s.Phase != breaker.Closed {
		t.Errorf("probe %t, admitted %t, %v", isProbe, ok, s.Phase)
	}
}

func TestLateCountsBelongToTheirWindow(t *testing.T) {
	p := counting(10, 1, 0)
	s := breaker.State{}
	add(&s, &p, 6, 6, start, start+10*millisecond)
	add(&s, &p, 1, 1, start+second, start+second+10*millisecond) // another worker's, of the next bucket
	if s.Phase != breaker.Closed {
		t.Fatal("7 failures in two windows opened it")
	}
	if add(&s, &p, 4, 4, start+second-millisecond, start+second+15*millisecond); s.Phase != breaker.Open || s.Seen != 10 {
		t.Errorf("%v at %v: 10 failures were in the first window", s.Phase, s.Seen)
	}
}

func TestCountsFromBeforeItClosedAreForgotten(t *testing.T) {
	p := counting(5, 1, 0)
	s, probe, now := halfOpen(t, &p)
	s.Conclude(&p, probe, false, now)
	if add(s, &p, 50, 50, now-10*millisecond, now+10*millisecond) || s.Phase != breaker.Closed {
		t.Errorf("%v by failures that had been counted before it closed", s.Phase)
	}
	if add(s, &p, 5, 5, now+millisecond, now+10*millisecond); s.Phase != breaker.Open {
		t.Errorf("%v", s.Phase)
	}
}

func TestThresholds(t *testing.T) {
	slow := rule.CircuitBreaker{Strategy: rule.SlowRequestRatio, Threshold: 0.5, MinRequestAmount: 4, MaxAllowedRtMs: 10}
	ratio := rule.CircuitBreaker{Strategy: rule.ErrorRatio, Threshold: 0.1 + 0.2, MinRequestAmount: 10}
	count := rule.CircuitBreaker{Strategy: rule.ErrorCount, Threshold: 2.9, MinRequestAmount: 5}
	for _, c := range []struct {
		rule       rule.CircuitBreaker
		bad, total uint64
		opens      bool
	}{
		{slow, 3, 3, false}, {slow, 2, 4, true}, {slow, 1, 4, false},
		{ratio, 3, 10, true}, {ratio, 2, 10, false}, {ratio, 9, 9, false},
		{count, 1, 5, false}, {count, 2, 5, true}, {count, 4, 4, false},
	} {
		c.rule.StatIntervalMs, c.rule.RetryTimeoutMs = 1000, 1000
		p := breaker.ParamsOf(&c.rule)
		s := breaker.State{}
		add(&s, &p, c.bad, c.total, start, start)
		if (s.Phase == breaker.Open) != c.opens {
			t.Errorf("%v %v: %d of %d made it %v", c.rule.Strategy, c.rule.Threshold, c.bad, c.total, s.Phase)
		}
	}
	p := breaker.ParamsOf(&slow)
	if p.Bad(10, true) || !p.Bad(11, false) {
		t.Error("slow is what took longer than maxAllowedRtMs")
	}
}

func TestProbeTime(t *testing.T) {
	for _, c := range []struct {
		retryMs uint32
		maxRTMs uint64
		want    int64
	}{{10, 20, second}, {5000, 20, 5 * second}, {10, 7000, 7 * second}} {
		r := rule.CircuitBreaker{RetryTimeoutMs: c.retryMs, MaxAllowedRtMs: c.maxRTMs, StatIntervalMs: 1000}
		if p := breaker.ParamsOf(&r); p.ProbeTime != c.want {
			t.Errorf("%+v: %d", c, p.ProbeTime)
		}
	}
}

// wander takes a state through random transitions, and calls see after each.
func wander(rng *rand.Rand, p *breaker.Params, see func(s *breaker.State)) {
	var s breaker.State
	var probes []breaker.Probe
	now := start
	for range 200 {
		now += rng.Int64N(p.Retry / 2)
		switch rng.IntN(4) {
		case 0:
			add(&s, p, rng.Uint64N(3), 3, now-rng.Int64N(second), now)
		case 1:
			if len(probes) > 0 {
				s.Conclude(p, probes[rng.IntN(len(probes))], rng.IntN(4) == 0, now)
			}
		case 2:
			if len(probes) > 0 {
				s.GiveBack(probes[rng.IntN(len(probes))])
			}
		default:
			if probe, isProbe, _ := s.Enter(p, now); isProbe {
				probes = append(probes, probe)
			}
		}
		s.At = now
		see(&s)
	}
}

func TestCodecKeepsWhatMatters(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	rng := rand.New(rand.NewPCG(seed, 1))
	phases := map[breaker.Phase]int{}
	for range 50 {
		p := counting(float64(1+rng.IntN(4)), uint32(1+rng.IntN(20)), rng.Uint64N(100))
		wander(rng, &p, func(s *breaker.State) {
			phases[s.Phase]++
			code := s.Encode(nil, p.Window)
			var again breaker.State
			if !again.Decode(code, p.Window) {
				t.Fatalf("seed %d: %+v was not decoded", seed, *s)
			}
			want := *s
			if want.Phase != breaker.Closed { // only a closed breaker has counts
				want.Newest, want.Counts = 0, again.Counts
			}
			if again != want {
				t.Fatalf("seed %d: %+v was decoded as %+v", seed, want, again)
			}
			if len(code) > 600 {
				t.Errorf("%d bytes", len(code))
			}
		})
	}
	for phase := range breaker.Open + 1 {
		if phases[phase] < 100 {
			t.Errorf("%v: too few of %v", phases, phase)
		}
	}
}

func FuzzDecode(f *testing.F) {
	rng := rand.New(rand.NewPCG(1, 1))
	p := counting(2, 3, 4)
	wander(rng, &p, func(s *breaker.State) {
		if rng.IntN(20) == 0 {
			f.Add(s.Encode(nil, p.Window))
		}
	})
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte{0xff}, 100))
	f.Fuzz(func(t *testing.T, code []byte) {
		var s breaker.State
		if !s.Decode(code, p.Window) {
			return
		}
		if again := s.Encode(nil, p.Window); !bytes.Equal(again, code) {
			t.Errorf("%x was encoded as %x", code, again)
		}
		// Whatever was accepted can be worked with.
		now := s.At + second
		probe, _, ok := s.Enter(&p, now)
		if ok && s.EntersAt(&p, now) < now {
			t.Error("enters before now")
		}
		s.Conclude(&p, probe, false, now)
		add(&s, &p, 1, 2, now, now)
	})
}

// A generation that a probe could not carry would leave the breaker half open for ever.
func TestGenerationsThatNobodyReaches(t *testing.T) {
	p := counting(2, 3, 4)
	s := breaker.State{Phase: breaker.HalfOpen, At: second, Since: second, Generation: 1 << 48}
	var got breaker.State
	if !got.Decode(s.Encode(nil, p.Window), p.Window) || got != s {
		t.Errorf("%+v became %+v", s, got)
	}
	if s.Generation++; got.Decode(s.Encode(nil, p.Window), p.Window) {
		t.Errorf("%+v was read", s)
	}
}
