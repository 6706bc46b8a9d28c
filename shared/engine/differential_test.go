package engine_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	sentinel "github.com/alibaba/sentinel-golang/api"
	sentinelconfig "github.com/alibaba/sentinel-golang/core/config"
	sentinelflow "github.com/alibaba/sentinel-golang/core/flow"
	"github.com/alibaba/sentinel-golang/util"

	"sentinel-envoy/internal/seeds"
	"sentinel-envoy/internal/sentinellog"
	"sentinel-envoy/shared/engine"
	"sentinel-envoy/shared/host/memhost"
	"sentinel-envoy/shared/request/requesttest"
	"sentinel-envoy/shared/rule"
)

// Guarantee 8: with one worker, decisions equal those of sentinel-golang 1.0.4 for the same trace. What follows runs
// both on one virtual clock. These tests must not run in parallel: sentinel-golang has one clock and one set of rules.

// deviations are all the ways in which our decisions differ from sentinel-golang's for flow rules with Direct and
// Reject, each with its reason and a trace that shows it. Nothing else is excused.
var deviations = []struct {
	name, reason string
	trace        func(d *duel)
	// sentinel and ours are how many entries the last step of the trace admits.
	sentinel, ours int
}{
	{
		name: "a rule for a resource that had none",
		reason: "sentinel-golang counts what the resource passed before it had the rule: it keeps statistics of every " +
			"resource for 10 s. A budget of ours begins when the first request asks for it.",
		trace: func(d *duel) {
			d.load(d.rule("other", 100, 500))
			d.burst(8)
			d.load(d.rule("new", 10, 1000))
			d.burst(20)
		},
		sentinel: 2, ours: 10,
	},
	{
		name: "a changed interval",
		reason: "sentinel-golang reads the same statistic over another interval. A budget of ours counts in the buckets " +
			"of one interval; with another it is a new one, which begins with nothing.",
		trace: func(d *duel) {
			d.load(d.rule("r", 10, 1000))
			d.burst(8)
			d.load(d.rule("r", 10, 2000))
			d.burst(20)
		},
		sentinel: 2, ours: 10,
	},
}

// virtualClock is the time that sentinel-golang sees, in nanoseconds.
type virtualClock struct{ p *memhost.Process }

func (c virtualClock) Now() time.Time            { return time.Unix(0, c.p.Now()) }
func (c virtualClock) Sleep(time.Duration)       {}
func (c virtualClock) CurrentTimeMillis() uint64 { return uint64(c.p.Now() / millisecond) }
func (c virtualClock) CurrentTimeNano() uint64   { return uint64(c.p.Now()) }

func initSentinel(t *testing.T) {
	t.Helper()
	c := sentinelconfig.NewDefaultConfig()
	c.Sentinel.Log.Logger = sentinellog.Logger
	c.Sentinel.Log.Metric.FlushIntervalSec = 0
	c.Sentinel.Stat.System = sentinelconfig.SystemStatConfig{}
	c.Sentinel.UseCacheTime = false
	if err := sentinel.InitWithConfig(c); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := sentinelflow.ClearRules(); err != nil {
			t.Error(err)
		}
		util.SetClock(util.NewRealClock())
	})
}

// duel is one resource under sentinel-golang and under one worker of ours.
type duel struct {
	t        *testing.T
	process  *memhost.Process
	vm       *engine.VM
	filter   *engine.Filter
	resource string
	// cost is how many permits the next entry takes.
	cost uint32
	// sentinel and ours are what the last burst admitted.
	sentinel, ours int
}

// resources counts the resources ever used: sentinel-golang remembers each.
var resources int

func newDuel(t *testing.T, now int64) *duel {
	resources++
	p := memhost.NewProcess(now)
	return &duel{t: t, process: p, vm: engine.New(p.Worker(nil), "test"), cost: 1, resource: fmt.Sprint("duel ", resources)}
}

func (d *duel) rule(id string, threshold float64, intervalMs uint32) rule.Flow {
	return rule.Flow{Target: rule.Target{ID: id, Resource: d.resource}, Threshold: threshold, StatIntervalInMs: uint64(intervalMs)}
}

// load puts rules in force on both sides.
func (d *duel) load(rules ...rule.Flow) {
	d.t.Helper()
	old := d.filter
	d.filter = d.vm.NewFilter("sentinel_http", cfg(rules...), nil)
	if old != nil {
		old.Drain()
	}
	var theirs []*sentinelflow.Rule
	for _, r := range rules {
		theirs = append(theirs, &sentinelflow.Rule{
			ID: r.ID, Resource: r.Resource, Threshold: r.Threshold, StatIntervalInMs: uint32(r.StatIntervalInMs),
			TokenCalculateStrategy: sentinelflow.Direct, ControlBehavior: sentinelflow.Reject,
		})
	}
	util.SetClock(virtualClock{d.process})
	if _, err := sentinelflow.LoadRules(theirs); err != nil {
		d.t.Fatal(err)
	}
	if got := len(sentinelflow.GetRulesOfResource(d.resource)); got != len(rules) {
		d.t.Fatalf("sentinel-golang took %d of %d rules", got, len(rules))
	}
}

// enter asks both sides for one entry.
func (d *duel) enter() (sentinels, ours bool) {
	util.SetClock(virtualClock{d.process})
	entry, blocked := sentinel.Entry(d.resource, sentinel.WithBatchCount(d.cost))
	if blocked == nil {
		entry.Exit()
	}
	now := d.process.Now()
	d.filter.Stream.Of(&requesttest.Client{Headers: map[string]string{"x-cost": fmt.Sprint(d.cost)}})
	var e engine.Entry
	block := d.filter.Enter(d.resource, now, &e)
	e.Finish(now, false)
	return blocked == nil, block == nil
}

func (d *duel) burst(n int) {
	d.sentinel, d.ours = 0, 0
	for range n {
		theirs, ours := d.enter()
		if theirs {
			d.sentinel++
		}
		if ours {
			d.ours++
		}
	}
}

func TestGuarantee8SameAsSentinel(t *testing.T) {
	initSentinel(t)
	verdicts := map[bool]int{}
	seeds.Try(t, 300, func(t *testing.T, seed uint64) {
		rng := rand.New(rand.NewPCG(seed, 8))
		d := newDuel(t, start+rng.Int64N(20*second))
		var rules []rule.Flow
		for i := range 1 + rng.IntN(4) {
			rules = append(rules, d.rule(fmt.Sprint("r", i), threshold(rng), []uint32{0, 1000, 500, 700, 2000, 10000, 15000, 1500}[rng.IntN(8)]))
		}
		costs := seed%2 == 0
		if costs {
			for i := range rules {
				rules[i].Cost = &rule.Cost{Param: rule.Param{ParamSource: rule.Header, ParamKey: "x-cost"}, Default: 1, Max: 1000}
			}
		}
		d.load(rules...)
		for step := range 400 {
			wait(d.process, rng, rules)
			if costs {
				d.cost = 1 + rng.Uint32N(4)*rng.Uint32N(4)
			}
			switch {
			case rng.IntN(100) == 0:
				rules = slices.Clone(rules)
				rules[rng.IntN(len(rules))].Threshold = threshold(rng)
				d.load(rules...)
			case rng.IntN(10) == 0:
				d.vm.Tick(d.process.Now())
			}
			if theirs, ours := d.enter(); theirs != ours {
				t.Fatalf("seed %d, step %d at %d ms: sentinel-golang admits %t, we %t, rules %+v",
					seed, step, d.process.Now()/millisecond, theirs, ours, rules)
			} else {
				verdicts[ours]++
			}
		}
	})
	if seeds.Complete() && (verdicts[true] < 10000 || verdicts[false] < 10000) {
		t.Errorf("verdicts %v: the traces try too little", verdicts)
	}
}

func threshold(rng *rand.Rand) float64 {
	return []float64{0, 0.5, 1, 1.5, 2, 3, 7.9, 20, 100}[rng.IntN(9)]
}

// wait lets time pass: none in a burst, some, a long gap, or exactly to the end of a bucket of some rule.
func wait(p *memhost.Process, rng *rand.Rand, rules []rule.Flow) {
	switch rng.IntN(20) {
	case 0:
		p.Advance(rng.Int64N(3 * second))
	case 1:
		p.Advance(rng.Int64N(20) * rng.Int64N(second))
	case 2:
		bucket := newTally(uint32(rules[rng.IntN(len(rules))].StatIntervalInMs)).window.BucketMs * millisecond
		p.Advance(bucket - p.Now()%bucket - rng.Int64N(2))
	case 3, 4, 5, 6:
		p.Advance(rng.Int64N(60 * millisecond))
	case 7, 8:
		p.Advance(rng.Int64N(millisecond))
	}
}

func TestGuarantee8DeviationsAreTheListedOnes(t *testing.T) {
	initSentinel(t)
	for _, c := range deviations {
		d := newDuel(t, start)
		c.trace(d)
		if d.sentinel != c.sentinel || d.ours != c.ours {
			t.Errorf("%s: sentinel-golang admits %d and we %d, listed are %d and %d (%s)",
				c.name, d.sentinel, d.ours, c.sentinel, c.ours, c.reason)
		}
	}
}
