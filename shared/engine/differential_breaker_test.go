package engine_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	sentinel "github.com/alibaba/sentinel-golang/api"
	"github.com/alibaba/sentinel-golang/core/base"
	"github.com/alibaba/sentinel-golang/core/circuitbreaker"
	"github.com/alibaba/sentinel-golang/util"

	"sentinel-envoy/internal/seeds"
	"sentinel-envoy/shared/config"
	"sentinel-envoy/shared/engine"
	"sentinel-envoy/shared/host/memhost"
	"sentinel-envoy/shared/rule"
)

// breakerDeviations are all the ways in which our decisions differ from sentinel-golang's for circuit breaker rules, with
// one worker and counters that are up to date before each decision. Nothing else is excused. Each trace ends with a burst.
var breakerDeviations = []struct {
	name, reason string
	rule         rule.CircuitBreaker
	trace        func(d *breakerDuel)
	// sentinel and ours are how many entries the burst admits.
	sentinel, ours int
}{
	{
		name: "more than probeNum probes",
		reason: "with probeNum > 0 sentinel-golang lets everybody in while half open; a service that is still down gets " +
			"the whole load. Of ours, at most probeNum are under way (and at most 64).",
		rule: rule.CircuitBreaker{Strategy: rule.ErrorCount, Threshold: 1, ProbeNum: 3},
		trace: func(d *breakerDuel) {
			d.fail(1)
			d.process.Advance(second)
			d.burst(10)
		},
		sentinel: 10, ours: 3,
	},
	{
		name: "an end that is not a probe's",
		reason: "sentinel-golang takes any end while half open for a probe's: one of a request that had entered before " +
			"the breaker opened closes it, whatever the probe finds. Of ours, only probes decide.",
		rule: rule.CircuitBreaker{Strategy: rule.ErrorCount, Threshold: 1},
		trace: func(d *breakerDuel) {
			early := d.enter()
			d.fail(1)
			d.process.Advance(second)
			d.enter() // the probe
			d.exit(early, false)
			d.burst(10)
		},
		sentinel: 10, ours: 0,
	},
	{
		name: "a changed rule",
		reason: "sentinel-golang closes a breaker whose rule changes. An update reaches our workers one after another, and " +
			"filter chains that drain go on by the old rule: a breaker that is open stays so, for the new retry timeout.",
		rule: rule.CircuitBreaker{Strategy: rule.ErrorCount, Threshold: 1},
		trace: func(d *breakerDuel) {
			d.fail(1)
			changed := d.rules[0]
			changed.Threshold = 2
			d.load(changed)
			d.burst(10)
		},
		sentinel: 10, ours: 0,
	},
	{
		name: "parts of a millisecond",
		reason: "sentinel-golang subtracts whole milliseconds of the clock: 0.2 ms across the turn of one take 1. We " +
			"subtract first.",
		rule: rule.CircuitBreaker{Strategy: rule.SlowRequestRatio, Threshold: 1, MaxAllowedRtMs: 0},
		trace: func(d *breakerDuel) {
			d.process.Advance(9 * millisecond / 10)
			e := d.enter()
			d.process.Advance(millisecond / 5)
			d.exit(e, false)
			d.burst(10)
		},
		sentinel: 0, ours: 10,
	},
}

// breakerDuel is one resource under sentinel-golang and under one worker of ours.
type breakerDuel struct {
	t        *testing.T
	process  *memhost.Process
	vm       *engine.VM
	filter   *engine.Filter
	resource string
	rules    []rule.CircuitBreaker
	open     []*breakerEntry
	// excused counts the decisions that a listed deviation made different.
	excused        int
	sentinel, ours int
}

// breakerEntry is one entry on both sides; either is nil where it was refused.
type breakerEntry struct {
	theirs *base.SentinelEntry
	ours   *engine.Entry
	start  int64
	// probes are the generations of sentinel-golang's half-open phases whose probe it is, by rule.
	probes map[string]int
}

// phases are what sentinel-golang says of its breakers, by rule.
type phases struct {
	now        map[string]circuitbreaker.State
	generation map[string]int
}

func (p *phases) OnTransformToClosed(_ circuitbreaker.State, r circuitbreaker.Rule) {
	p.now[r.Id] = circuitbreaker.Closed
}

func (p *phases) OnTransformToOpen(_ circuitbreaker.State, r circuitbreaker.Rule, _ any) {
	p.now[r.Id] = circuitbreaker.Open
}

func (p *phases) OnTransformToHalfOpen(_ circuitbreaker.State, r circuitbreaker.Rule) {
	p.now[r.Id] = circuitbreaker.HalfOpen
	p.generation[r.Id]++
}

var theirPhases = &phases{now: map[string]circuitbreaker.State{}, generation: map[string]int{}}

func initBreakers(t *testing.T) {
	t.Helper()
	initSentinel(t)
	circuitbreaker.ClearStateChangeListeners()
	circuitbreaker.RegisterStateChangeListeners(theirPhases)
	t.Cleanup(func() {
		if err := circuitbreaker.ClearRules(); err != nil {
			t.Error(err)
		}
		circuitbreaker.ClearStateChangeListeners()
	})
}

func newBreakerDuel(t *testing.T, now int64) *breakerDuel {
	resources++
	p := memhost.NewProcess(now)
	d := &breakerDuel{t: t, process: p, vm: engine.New(p.Worker(nil), "test"), resource: fmt.Sprint("duel ", resources)}
	return d
}

// load puts rules in force on both sides, with an id and what they leave out.
func (d *breakerDuel) load(rules ...rule.CircuitBreaker) {
	d.t.Helper()
	var theirs []*circuitbreaker.Rule
	for i := range rules {
		r := &rules[i]
		r.ID, r.Resource = fmt.Sprint(d.resource, " ", i), d.resource
		if r.StatIntervalMs == 0 {
			r.StatIntervalMs, r.RetryTimeoutMs = 1000, 1000
		}
		theirs = append(theirs, &circuitbreaker.Rule{
			Id: r.ID, Resource: r.Resource, Strategy: circuitbreaker.Strategy(r.Strategy), RetryTimeoutMs: r.RetryTimeoutMs,
			MinRequestAmount: r.MinRequestAmount, StatIntervalMs: r.StatIntervalMs,
			StatSlidingWindowBucketCount: r.StatSlidingWindowBucketCount, MaxAllowedRtMs: r.MaxAllowedRtMs,
			Threshold: r.Threshold, ProbeNum: r.ProbeNum,
		})
	}
	d.rules = rules
	old := d.filter
	d.filter = d.vm.NewFilter("sentinel_http", &config.Config{Rules: list(rules)}, nil)
	if old != nil {
		old.Drain()
	}
	util.SetClock(virtualClock{d.process})
	if _, err := circuitbreaker.LoadRules(theirs); err != nil {
		d.t.Fatal(err)
	}
	if got := len(circuitbreaker.GetRulesOfResource(d.resource)); got != len(rules) {
		d.t.Fatalf("sentinel-golang took %d of %d rules", got, len(rules))
	}
}

// enter asks both sides for one entry.
func (d *breakerDuel) enter() *breakerEntry {
	e, _ := d.enterOurs()
	d.enterTheirs(e)
	return e
}

func (d *breakerDuel) enterOurs() (*breakerEntry, *engine.Block) {
	e := &breakerEntry{ours: &engine.Entry{}, start: d.process.Now(), probes: map[string]int{}}
	block := d.filter.Enter(d.resource, e.start, e.ours)
	if block != nil {
		e.ours = nil
	}
	return e, block
}

func (d *breakerDuel) enterTheirs(e *breakerEntry) {
	util.SetClock(virtualClock{d.process})
	if entry, blocked := sentinel.Entry(d.resource); blocked == nil {
		e.theirs = entry
	}
	if e.ours == nil {
		return
	}
	for _, p := range e.ours.Probes() {
		e.probes[p.Rule] = theirPhases.generation[p.Rule]
	}
}

// exit ends an entry on both sides.
func (d *breakerDuel) exit(e *breakerEntry, failed bool) {
	util.SetClock(virtualClock{d.process})
	if e.theirs != nil {
		if failed {
			e.theirs.Exit(base.WithError(errors.New("failed")))
		} else {
			e.theirs.Exit()
		}
	}
	if e.ours != nil {
		e.ours.Finish(d.process.Now(), failed)
		d.vm.CatchUp(d.process.Now())
	}
}

func (d *breakerDuel) fail(n int) {
	for range n {
		d.exit(d.enter(), true)
	}
}

func (d *breakerDuel) burst(n int) {
	d.sentinel, d.ours = 0, 0
	for range n {
		e := d.enter()
		if e.theirs != nil {
			d.sentinel++
		}
		if e.ours != nil {
			d.ours++
		}
	}
}

func TestBreakerDeviationsAreTheListedOnes(t *testing.T) {
	initBreakers(t)
	for _, c := range breakerDeviations {
		d := newBreakerDuel(t, start)
		d.load(c.rule)
		c.trace(d)
		if d.sentinel != c.sentinel || d.ours != c.ours {
			t.Errorf("%s: sentinel-golang admits %d and we %d, listed are %d and %d (%s)",
				c.name, d.sentinel, d.ours, c.sentinel, c.ours, c.reason)
		}
	}
}

// longest is how long an entry takes at most: no probe of a random trace outlives its deadline.
const longest = 900 * millisecond

func TestBreakersDecideAsSentinels(t *testing.T) {
	initBreakers(t)
	seen := map[string]int{}
	seeds.Try(t, 300, func(t *testing.T, seed uint64) {
		rng := rand.New(rand.NewPCG(seed, 9))
		d := newBreakerDuel(t, start+rng.Int64N(20_000)*millisecond)
		var rules []rule.CircuitBreaker
		for range 1 + rng.IntN(3) {
			rules = append(rules, randomBreaker(rng))
		}
		d.load(rules...)
		health := rng.Float64()
		for step := range 500 {
			if rng.IntN(60) == 0 {
				health = []float64{0, 0.5, 1, rng.Float64()}[rng.IntN(4)]
			}
			d.pass(rng)
			switch {
			case rng.IntN(10) == 0:
				d.vm.Tick(d.process.Now())
			case rng.IntN(2) == 0 && len(d.open) > 0:
				d.end(rng.IntN(len(d.open)), rng.Float64() > health)
			default:
				if problem := d.try(seen); problem != "" {
					t.Fatalf("seed %d, step %d at %d ms: %s, rules %+v", seed, step, d.process.Now()/millisecond, problem, d.rules)
				}
			}
		}
		seen["excused"] += d.excused
	})
	for _, kind := range []string{"both admit", "both refuse", "probe", "excused"} {
		if seeds.Complete() && seen[kind] < 1000 {
			t.Errorf("%v: the traces try too little of %q", seen, kind)
		}
	}
}

func randomBreaker(rng *rand.Rand) rule.CircuitBreaker {
	r := rule.CircuitBreaker{
		Strategy:         rule.BreakerStrategy(rng.IntN(3)),
		StatIntervalMs:   []uint32{1000, 500, 100, 3000, 10_000}[rng.IntN(5)],
		RetryTimeoutMs:   []uint32{20, 200, 1000, 2500}[rng.IntN(4)],
		MinRequestAmount: []uint64{0, 1, 3, 10}[rng.IntN(4)],
		MaxAllowedRtMs:   []uint64{0, 10, 50}[rng.IntN(3)],
		ProbeNum:         []uint64{0, 0, 1, 2, 5}[rng.IntN(5)],
		Threshold:        []float64{0, 0.2, 1. / 3, 0.5, 0.9, 1}[rng.IntN(6)],
	}
	r.StatSlidingWindowBucketCount = []uint32{0, 1, 2, 5, 10, 20}[rng.IntN(6)]
	if r.Strategy == rule.ErrorCount {
		r.Threshold = []float64{0, 1, 2, 3.7, 10}[rng.IntN(5)]
	}
	return r
}

// pass lets time pass, in whole milliseconds; what is then too long in its resource ends before.
func (d *breakerDuel) pass(rng *rand.Rand) {
	var ahead int64
	switch rng.IntN(20) {
	case 0:
		ahead = rng.Int64N(3000)
	case 1:
		r := d.rules[rng.IntN(len(d.rules))]
		bucket := int64(r.StatIntervalMs / max(r.StatSlidingWindowBucketCount, 1))
		ahead = bucket - d.process.Now()/millisecond%bucket - rng.Int64N(2)
	case 2:
		ahead = int64(d.rules[rng.IntN(len(d.rules))].RetryTimeoutMs) - rng.Int64N(2)
	case 3, 4, 5, 6, 7, 8:
		ahead = rng.Int64N(20)
	}
	for ; ahead > 0; ahead -= 50 {
		d.process.Advance(min(ahead, 50) * millisecond)
		// The youngest first: an end that has to wait for another's waits for a younger one's.
		for i := len(d.open) - 1; i >= 0; i-- {
			if d.process.Now()-d.open[i].start > longest {
				d.end(i, rng.IntN(2) == 0)
			}
		}
	}
}

// end ends one of the open entries, unless a deviation would make that decide on one side only: the end of one that is
// no probe of a breaker that is half open. It then goes on.
func (d *breakerDuel) end(i int, failed bool) {
	e := d.open[i]
	for _, r := range d.rules {
		generation, probes := e.probes[r.ID]
		isProbe := probes && generation == theirPhases.generation[r.ID]
		if theirPhases.now[r.ID] == circuitbreaker.HalfOpen && !isProbe {
			d.excused++
			return
		}
	}
	d.open = append(d.open[:i], d.open[i+1:]...)
	d.exit(e, failed)
}

// try asks both sides for one entry and returns what is wrong with the answers.
func (d *breakerDuel) try(seen map[string]int) (problem string) {
	e, block := d.enterOurs()
	if block != nil {
		for _, r := range d.rules {
			if r.ID == block.Rule && r.ProbeNum > 0 && theirPhases.now[r.ID] == circuitbreaker.HalfOpen {
				d.excused++ // it would let everybody in
				return ""
			}
		}
	}
	d.enterTheirs(e)
	if (e.ours == nil) != (e.theirs == nil) {
		return fmt.Sprintf("sentinel-golang admits %t, we %t (%+v), its phases %v", e.theirs != nil, e.ours != nil, block, d.theirPhases())
	}
	switch {
	case e.ours == nil:
		seen["both refuse"]++
		return ""
	case len(e.probes) > 0:
		seen["probe"]++
	}
	seen["both admit"]++
	d.open = append(d.open, e)
	return ""
}

func (d *breakerDuel) theirPhases() (list []circuitbreaker.State) {
	for _, r := range d.rules {
		list = append(list, theirPhases.now[r.ID])
	}
	return list
}
