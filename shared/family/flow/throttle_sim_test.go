package flow_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"sentinel-envoy/internal/seeds"
	"sentinel-envoy/shared/family/flow"
	"sentinel-envoy/shared/host/memhost"
	"sentinel-envoy/shared/record"
)

// Scheduled times are never closer than the interval, whoever stalls or dies, and with enough demand hardly further.
func TestTurnsAreNeverCloserThanTheInterval(t *testing.T) {
	seeds.Try(t, *simRuns, func(t *testing.T, seed uint64) {
		rng := rand.New(rand.NewPCG(seed, 3))
		s := scenario{workers: 1 + rng.IntN(64), threshold: []float64{1, 3, 20, 100, 333.3, 1000}[rng.IntN(6)]}
		s.deaths, s.stalls = rng.IntN(2) == 0, rng.IntN(2) == 0
		var warm *flow.WarmUp
		if rng.IntN(2) == 0 {
			warm = flow.NewWarmUp(s.threshold, 1000, 1+rng.Uint32N(5), 2+rng.Uint32N(4))
		}
		pace := flow.Pace{IntervalMs: 1000, MaxWaitMs: []uint32{0, 10, 300, 5000}[rng.IntN(4)]}
		turns := takeTurns(t, seed, s, pace, warm, 4*second)
		gap := pace.Gap(s.threshold, 1)
		slices.Sort(turns)
		for i := 1; i < len(turns); i++ {
			if turns[i]-turns[i-1] < gap {
				t.Fatalf("two turns are %d ns apart, want %d: %v", turns[i]-turns[i-1], gap, s)
			}
		}
		if warm != nil || s.deaths || s.stalls || float64(pace.MaxWaitMs)*s.threshold < 3000 {
			return // where nobody may wait for a few turns, some are not asked for in time
		}
		// The turns of the time that was simulated, and those given out for after it.
		lasts := turns[len(turns)-1] - turns[0]
		if got := float64(len(turns)) * float64(gap) / float64(lasts+gap); got < 0.9 && len(turns) > 20 {
			t.Errorf("only %.2f of the turns were given out: %v", got, s)
		}
	})
}

// takeTurns lets workers ask for turns, each several times as fast as all together get them.
func takeTurns(t *testing.T, seed uint64, s scenario, pace flow.Pace, warm *flow.WarmUp, duration int64) (turns []int64) {
	start := 1000*second + int64(seed%997)*millisecond
	sim := memhost.NewSim(seed, start)
	defer sim.Close()
	between := max(int64(float64(second)/s.threshold)/3*int64(s.workers), millisecond)
	for i := range s.workers {
		sim.Go(func(task *memhost.Task) {
			rng := rand.New(rand.NewPCG(uint64(i), seed))
			p := flow.NewThrottle(record.NewTable(task), record.IDOf("pace", "r"), flow.WindowOf(1000))
			for now := start; now < start+duration; now = task.Now() {
				turn, err := p.Next(pace, s.threshold, warm, 1, int64(pace.MaxWaitMs)*millisecond, now)
				if err != nil {
					t.Error(err)
				}
				if turn.OK {
					turns = append(turns, turn.At)
					// The decision was some time between now and the time after it: this worker may have stalled.
					if wait := turn.At - task.Now(); wait > int64(pace.MaxWaitMs)*millisecond {
						t.Errorf("a turn after %d ms, of %d at most", wait/millisecond, pace.MaxWaitMs)
					}
				}
				task.Sleep(now + between/2 + rng.Int64N(between))
			}
		})
	}
	for sim.Step() {
		disturb(sim, s)
	}
	return turns
}

// The curve of a warm-up is the same under any number of workers, within 2 % and one permit.
func TestWarmUpCurveIsThatOfOneWorker(t *testing.T) {
	const seconds = 12
	seeds.Try(t, max(*simRuns/20, 1), func(t *testing.T, seed uint64) { // each takes a while
		rng := rand.New(rand.NewPCG(seed, 4))
		s := scenario{workers: 1 + rng.IntN(64), threshold: []float64{50, 100, 400}[rng.IntN(3)], spread: rng.IntN(spreads)}
		period, factor := 3+rng.Uint32N(8), 2+rng.Uint32N(3)
		s.stalls = false
		one := s
		one.workers, one.spread = 1, evenly
		want := warmUpCurve(t, seed, one, flow.NewWarmUp(s.threshold, 1000, period, factor), seconds)
		got := warmUpCurve(t, seed, s, flow.NewWarmUp(s.threshold, 1000, period, factor), seconds)
		for i := range want {
			if math.Abs(got[i]-want[i]) > 0.02*want[i]+1 {
				t.Fatalf("second %d: %.0f, alone %.0f (%v, %d s, factor %d)\n%v\n%v", i, got[i], want[i], s, period, factor, got, want)
			}
		}
	})
}

// warmUpCurve is what is admitted in each second from a cold start, with ten times the demand.
func warmUpCurve(t *testing.T, seed uint64, s scenario, warm *flow.WarmUp, seconds int64) []float64 {
	t.Helper()
	const start = 1000 * second
	s.demand = 10 * s.threshold
	sim := memhost.NewSim(seed, start)
	defer sim.Close()
	w := flow.WindowOf(1000)
	admitted := make([]float64, seconds)
	for i := range s.workers {
		sim.Go(func(task *memhost.Task) {
			rng := rand.New(rand.NewPCG(uint64(i), seed))
			b := flow.NewBudget(record.NewTable(task), record.IDOf("flow", "r"), w)
			nextTick := start + rng.Int64N(tick)
			for now := int64(start); now < start+seconds*second; now = task.Now() {
				if now >= nextTick {
					nextTick = now + tick
					if err := b.Settle(now); err != nil {
						t.Error(err)
					}
				}
				gap := s.gap(i, now)
				if gap < 0 {
					task.Sleep(nextTick)
					continue
				}
				v, err := b.TakeWarm(warm, 1, now)
				if err != nil {
					t.Error(err)
				}
				if n := (v.At - start) / second; v.OK && n < seconds {
					admitted[n]++
				}
				task.Sleep(now + gap/2 + rng.Int64N(gap+1))
			}
		})
	}
	for sim.Step() {
		disturb(sim, s)
	}
	return admitted
}

// Where the record is lost nobody knows the last turn that was given out, but that nobody waits for longer than the rule
// lets wait: the next turn comes after that.
func TestTurnsAfterALostRecord(t *testing.T) {
	p := memhost.NewProcess(start)
	pace := flow.Pace{IntervalMs: 1000, MaxWaitMs: 500}
	throttle := flow.NewThrottle(record.NewTable(p.Worker(nil)), record.IDOf("r"), flow.WindowOf(1000))
	next := func() flow.Turn {
		turn, err := throttle.Next(pace, 10, nil, 1, 500*millisecond, p.Now())
		if err != nil {
			t.Fatal(err)
		}
		return turn
	}
	var last flow.Turn
	for range 4 {
		last = next()
	}
	p.Corrupt(func(key string, value []byte) ([]byte, bool) { return value[:5], strings.Contains(key, "/rec/") })
	if turn := next(); turn.OK {
		t.Errorf("%d ms after the last turn another is given, which may be somebody's", (turn.At-last.At)/millisecond)
	}
	p.Advance(500 * millisecond)
	if turn := next(); !turn.OK || turn.At < last.At+100*millisecond {
		t.Errorf("after the longest wait: %+v, the last before was at %d", turn, last.At)
	}
}

// A refusal is remembered for a moment: under the same threshold, for who cannot wait longer, and not beyond its end.
func TestTooLateIsRemembered(t *testing.T) {
	p := memhost.NewProcess(1000 * second)
	asked := 0
	th := flow.NewThrottle(record.NewTable(p.Worker(func() { asked++ })), record.IDOf("pace", "r"), flow.WindowOf(1000))
	pace := flow.Pace{IntervalMs: 1000, MaxWaitMs: 10}
	ask := func(threshold float64, wait int64) (ok, hostAsked bool) {
		t.Helper()
		before := asked
		turn, err := th.Next(pace, threshold, nil, 1, wait, p.Now())
		if err != nil {
			t.Fatal(err)
		}
		return turn.OK, asked > before
	}
	if ok, _ := ask(10, 0); !ok {
		t.Fatal("the first has no turn")
	}
	for _, c := range []struct {
		name      string
		threshold float64
		wait      int64
		after     int64
		ok, asks  bool
	}{
		{"the second is too early", 10, 0, 0, false, true},
		{"so is who comes with it", 10, 0, 0, false, false},
		{"and a little later", 10, 0, millisecond, false, false},
		{"who can wait longer is another", 10, 99 * millisecond, 0, true, true},
		{"the next turn is later", 10, 0, 0, false, true},
		{"after a while it is asked again", 10, 0, 3 * millisecond, false, true},
		{"another threshold is another gap", 1000, 0, 0, false, true},
		{"its turn comes within the moment", 1000, 2 * millisecond, 96 * millisecond, true, true},
	} {
		p.Advance(c.after)
		if ok, asks := ask(c.threshold, c.wait); ok != c.ok || asks != c.asks {
			t.Errorf("%s: admitted %v, asked %v", c.name, ok, asks)
		}
	}
}
