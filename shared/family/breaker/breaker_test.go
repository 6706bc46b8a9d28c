package breaker_test

import (
	"bytes"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"sentinel-envoy/shared/family/breaker"
	"sentinel-envoy/shared/outcome"
	"sentinel-envoy/shared/rule"
	"sentinel-envoy/shared/worker"
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

// watching is the watch of a worker that has run for long.
func watching(now int64) *worker.Watch {
	w := &worker.Watch{}
	for at := now - 2*worker.TTL; at <= now; at += 100 * millisecond {
		w.Look(at)
	}
	return w
}

// halfOpen is a state that a probe has just made half open, at the time it returns.
func halfOpen(t *testing.T, p *breaker.Params) (*breaker.State, breaker.Probe, int64) {
	t.Helper()
	s := &breaker.State{}
	add(s, p, 100, 100, start, start)
	now := start + p.Retry
	probe, isProbe, ok := s.Enter(p, watching(now), now)
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
		if _, _, ok := s.Enter(&p, watching(at), at); ok {
			t.Errorf("admitted %d ns after opening", at-start)
		}
	}
	if got := s.EntersAt(&p, watching(start), start); got != start+3*second {
		t.Errorf("enters %d ns after opening", got-start)
	}
	if add(&s, &p, 1, 1, start, start) {
		t.Error("an open breaker counts")
	}
}

// enter asks for entry as a worker does.
func enter(s *breaker.State, p *breaker.Params, now int64) (breaker.Probe, bool) {
	probe, isProbe, ok := s.Enter(p, watching(now), now)
	return probe, isProbe && ok
}

// A probe has its place for as long as its worker says so, and decides at last.
func TestAProbeLivesAsLongAsItRuns(t *testing.T) {
	p := counting(1, 1, 0)
	s, probe, now := halfOpen(t, &p)
	for end := now + 3600*second; now < end; now += second {
		if !s.Renew(probe, now) {
			t.Fatal("it has lost its place")
		}
		if _, isProbe := enter(s, &p, now+second-1); isProbe {
			t.Fatal("a second one while it runs")
		}
	}
	if held, decides := s.Conclude(&p, probe, false, now); !held || !decides || s.Phase != breaker.Closed {
		t.Errorf("its success, after an hour, made it %v", s.Phase)
	}
}

// A worker that is dead keeps its places for worker.TTL.
func TestADeadWorkersPlaceIsAnothers(t *testing.T) {
	p := counting(1, 1, 0)
	s, first, begun := halfOpen(t, &p)
	const tick = 20 * millisecond
	now := begun
	next, isProbe := breaker.Probe{}, false
	for ; !isProbe && now < begun+10*second; now += tick {
		if at := s.EntersAt(&p, watching(now), now); at <= now && now < begun+worker.TTL {
			t.Fatalf("%d ms after it was seen last its place is free", (now-begun)/millisecond)
		}
		next, isProbe = enter(s, &p, now)
	}
	if now > begun+worker.TTL+2*tick {
		t.Errorf("its place is free after %d ms", (now-begun)/millisecond)
	}
	if s.Renew(first, now) || s.GiveBack(first) {
		t.Error("the dead worker's probe still has its place")
	}
	if held, decides := s.Conclude(&p, first, false, now); held || decides || s.Phase != breaker.HalfOpen {
		t.Errorf("its late success made it %v", s.Phase)
	}
	if s.Conclude(&p, next, true, now); s.Phase != breaker.Open {
		t.Errorf("the second probe's failure made it %v", s.Phase)
	}
}

// When all workers have stood still, none is dead: who wakes first leaves the others the time to say so.
func TestAllWorkersStoodStill(t *testing.T) {
	p := counting(1, 1, 0)
	s, probe, now := halfOpen(t, &p)
	w := watching(now)
	for _, still := range []int64{worker.TTL, 3600 * second} {
		now += still
		for range 90 { // its worker wakes late
			if _, _, ok := s.Enter(&p, w, now); ok {
				t.Fatal("one that woke up took the place")
			}
			now += 20 * millisecond
			w.Look(now)
		}
		if !s.Renew(probe, now) {
			t.Fatal("it has lost its place")
		}
	}
}

func TestProbeOfAnEarlierGenerationDecidesNothing(t *testing.T) {
	p := counting(1, 1, 2)
	s, first, now := halfOpen(t, &p)
	other, _ := enter(s, &p, now)
	s.Conclude(&p, other, true, now) // opens
	now += p.Retry
	s.Renew(first, now)
	again, isProbe := enter(s, &p, now)
	if !isProbe {
		t.Fatal("one of two places is free")
	}
	if _, isProbe := enter(s, &p, now); isProbe {
		t.Error("three of two probes are under way")
	}
	if held, decides := s.Conclude(&p, first, false, now); !held || decides {
		t.Errorf("a probe of the generation before held %t, decided %t", held, decides)
	}
	if held, _ := s.Conclude(&p, first, false, now); held {
		t.Error("it ended twice")
	}
	again2, _ := enter(s, &p, now)
	s.Conclude(&p, again, false, now)
	if s.Phase != breaker.HalfOpen {
		t.Errorf("one of two successes made it %v", s.Phase)
	}
	if held, _ := s.Conclude(&p, again, false, now); held {
		t.Error("one probe counted twice")
	}
	if s.Conclude(&p, again2, false, now); s.Phase != breaker.Closed {
		t.Errorf("two of two successes made it %v", s.Phase)
	}
}

// However often the breaker opens again, and closes, a service that hangs has no more requests than the rule has probes.
func TestUnderWayOverAllGenerations(t *testing.T) {
	const probes = 10
	p := counting(1, 1, probes)
	s, probe, now := halfOpen(t, &p)
	running := []breaker.Probe{probe}
	for round := range 100 {
		for {
			probe, isProbe := enter(s, &p, now)
			if !isProbe {
				break
			}
			running = append(running, probe)
		}
		if len(running) > probes {
			t.Fatalf("%d probes are under way", len(running))
		}
		s.Conclude(&p, running[len(running)-1], round%2 == 0, now) // the others hang
		running = running[:len(running)-1]
		if s.Phase == breaker.Closed {
			add(s, &p, 100, 100, now, now)
		}
		now += p.Retry
		for _, probe := range running {
			if !s.Renew(probe, now) {
				t.Fatal("a probe has lost its place")
			}
		}
	}
}

func TestAProbeGivenBackIsAnothers(t *testing.T) {
	p := counting(1, 1, 1)
	s, probe, now := halfOpen(t, &p)
	if !s.GiveBack(probe) || s.GiveBack(probe) {
		t.Error("a place was not given back once")
	}
	next, isProbe := enter(s, &p, now)
	if !isProbe {
		t.Fatal("the place that was given back is not free")
	}
	if next.Mark == probe.Mark {
		t.Error("two probes have one mark")
	}
	if s.Conclude(&p, next, false, now); s.Phase != breaker.Closed {
		t.Errorf("%v", s.Phase)
	}
}

// Each who asks goes by its own rule: a filter with a longer retry timeout, fewer probes and a higher threshold by those.
func TestEachGoesByItsOwnRule(t *testing.T) {
	hasty, patient := counting(3, 1, 1), counting(100, 1, 2)
	patient.Retry = 10 * second
	s := &breaker.State{}
	if add(s, &patient, 5, 5, start, start); s.Phase != breaker.Closed {
		t.Fatal("5 of 100 failures opened it")
	}
	if add(s, &hasty, 0, 1, start, start); s.Phase != breaker.Open {
		t.Fatal("5 of 3 failures did not open it")
	}
	now := start + hasty.Retry
	if _, isProbe := enter(s, &patient, now); isProbe {
		t.Error("a probe before the retry timeout of the rule that asks")
	}
	first, isProbe := enter(s, &hasty, now)
	if !isProbe {
		t.Fatal("no probe after the retry timeout of the rule that asks")
	}
	if _, isProbe := enter(s, &hasty, now); isProbe {
		t.Error("a second probe of one")
	}
	second, isProbe := enter(s, &patient, now)
	if !isProbe {
		t.Fatal("no second probe of two")
	}
	if s.Conclude(&patient, first, false, now); s.Phase != breaker.HalfOpen {
		t.Errorf("one of two successes made it %v", s.Phase)
	}
	if s.Conclude(&patient, second, false, now); s.Phase != breaker.Closed {
		t.Errorf("two of two successes made it %v", s.Phase)
	}
}

func TestWeigh(t *testing.T) {
	type weight struct{ bad, counts bool }
	for _, c := range []struct {
		end          outcome.End
		errors, slow weight
	}{
		{outcome.End{Outcome: outcome.Well, ResponseMs: 10}, weight{false, true}, weight{false, true}},
		{outcome.End{Outcome: outcome.Well, ResponseMs: 11}, weight{false, true}, weight{true, true}},
		{outcome.End{Outcome: outcome.Badly, ResponseMs: 10}, weight{true, true}, weight{false, true}},
		{outcome.End{ResponseMs: outcome.NoTime}, weight{}, weight{}},
		{outcome.End{ResponseMs: 10, GaveUp: true}, weight{}, weight{}},
		{outcome.End{ResponseMs: 11, GaveUp: true}, weight{}, weight{true, true}},
	} {
		for strategy, want := range map[rule.BreakerStrategy]weight{
			rule.ErrorCount: c.errors, rule.ErrorRatio: c.errors, rule.SlowRequestRatio: c.slow,
		} {
			p := breaker.ParamsOf(&rule.CircuitBreaker{Strategy: strategy, MaxAllowedRtMs: 10, StatIntervalMs: 1000})
			if bad, counts := p.Weigh(c.end); (weight{bad, counts}) != want {
				t.Errorf("%v of %+v: bad %t, counts %t", strategy, c.end, bad, counts)
			}
		}
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
			next, _, ok := s.Enter(&p, watching(now), now)
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
	if _, isProbe, ok := s.Enter(&p, watching(now), now); !ok || isProbe || s.Phase != breaker.Closed {
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
}

// wander takes a state through random transitions, and calls see after each.
func wander(rng *rand.Rand, p *breaker.Params, see func(s *breaker.State)) {
	var s breaker.State
	var probes []breaker.Probe
	now := start
	for range 200 {
		now += rng.Int64N(p.Retry / 2)
		switch rng.IntN(5) {
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
		case 3:
			if len(probes) > 0 {
				s.Renew(probes[rng.IntN(len(probes))], now)
			}
		default:
			if probe, isProbe, _ := s.Enter(p, watching(now), now); isProbe {
				probes = append(probes, probe)
			}
		}
		s.At = now
		see(&s)
	}
}

// maxRecord is the largest record, in bytes: 64 leases, and 21 buckets.
const maxRecord = 65 + 64*16 + 8 + 21*16

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
			if len(code) > maxRecord {
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
		probe, _, ok := s.Enter(&p, watching(now), now)
		if ok && s.EntersAt(&p, watching(now), now) < now {
			t.Error("enters before now")
		}
		if ok && s.Phase == breaker.HalfOpen && !s.Renew(probe, now) {
			t.Error("a new probe has no place")
		}
		s.Conclude(&p, probe, false, now)
		add(&s, &p, 1, 2, now, now)
	})
}

// A record of a time that no clock reaches, or with marks far ahead of its time, was written by nobody.
func TestRecordsOfNoTime(t *testing.T) {
	p := counting(2, 3, 4)
	for _, s := range []breaker.State{
		{Phase: breaker.HalfOpen, At: math.MaxInt64, Since: second},
		{Phase: breaker.HalfOpen, At: second, Since: second, Granted: 2 * second},
		{Phase: breaker.HalfOpen, At: second, Since: second, First: 1},
		{Phase: breaker.Open, At: second, Since: second, Granted: 1, Places: [breaker.MaxOutstanding]breaker.Lease{{Mark: 2}}},
		{Phase: breaker.Open, At: second, Granted: 1, Places: [breaker.MaxOutstanding]breaker.Lease{{Mark: 1, Renewed: 2 * second}}},
	} {
		var got breaker.State
		if got.Decode(s.Encode(nil, p.Window), p.Window) {
			t.Errorf("%+v was read", s)
		}
	}
}

// Each time that it opens again before it has recovered it stays open for longer, up to a bound; once it has, it begins anew.
func TestRetryTimesGrow(t *testing.T) {
	p := breaker.ParamsOf(&rule.CircuitBreaker{Strategy: rule.ErrorCount, Threshold: 1, StatIntervalMs: 1000, RetryTimeoutMs: 1000,
		RetryTimeoutMultiplier: 2, MaxRetryTimeoutMs: 5000, RecoveryDurationMs: 10_000})
	s, now := &breaker.State{}, start
	opened := func() (retry int64) { return (s.EntersAt(&p, watching(now), now) - now) / second }
	probe := func(bad bool) {
		t.Helper()
		now = s.EntersAt(&p, watching(now), now)
		probe, isProbe, ok := s.Enter(&p, watching(now), now)
		if !isProbe || !ok {
			t.Fatalf("no probe at %d: %+v", now, s)
		}
		s.Conclude(&p, probe, bad, now)
	}
	add(s, &p, 1, 1, now, now)
	for _, want := range []int64{1, 2, 4, 5, 5} {
		if got := opened(); got != want {
			t.Errorf("it stays open for %d s, want %d", got, want)
		}
		probe(true)
	}
	probe(false)
	if until := s.RecoversUntil(&p); until != now+10*second {
		t.Errorf("recovers until %d, want in 10 s", until-now)
	}
	now += 10*second - 1
	if add(s, &p, 1, 1, now, now); opened() != 5 {
		t.Errorf("it opens again while it recovers, for %d s, want 5", opened())
	}
	probe(false)
	now += 10 * second
	if add(s, &p, 1, 1, now, now); opened() != 1 {
		t.Errorf("it opens again once it has recovered, for %d s, want 1", opened())
	}
}

// Without a multiplier and a recovery everything is as in Sentinel, however often it opens.
func TestRetryTimesStay(t *testing.T) {
	p := counting(1, 1, 1)
	s, _, now := halfOpen(t, &p)
	for range 5 {
		s.Conclude(&p, breaker.Probe{Mark: s.Granted}, true, now)
		if at := s.EntersAt(&p, watching(now), now); at != now+p.Retry {
			t.Errorf("enters after %d", at-now)
		}
		now += p.Retry
		s.Enter(&p, watching(now), now)
	}
	if s.RecoversUntil(&p) != 0 {
		t.Error("it recovers")
	}
}
