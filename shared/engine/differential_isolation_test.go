package engine_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	sentinel "github.com/alibaba/sentinel-golang/api"
	"github.com/alibaba/sentinel-golang/core/base"
	sentinelflow "github.com/alibaba/sentinel-golang/core/flow"
	sentinelisolation "github.com/alibaba/sentinel-golang/core/isolation"
	"github.com/alibaba/sentinel-golang/util"

	"sentinel-envoy/internal/seeds"
	"sentinel-envoy/shared/config"
	"sentinel-envoy/shared/engine"
	"sentinel-envoy/shared/rule"
)

// isolationDeviations are all the ways in which our decisions differ from sentinel-golang's for isolation rules, each
// with its reason and a trace that shows it. Nothing else is excused.
var isolationDeviations = []struct {
	name, reason   string
	trace          func(d *inFlightDuel)
	sentinel, ours int
}{
	{
		name: "entries from before the rule",
		reason: "sentinel-golang counts all that the resource has in flight. A rule of ours counts what it has let in: a " +
			"stream keeps to the configuration that it began with.",
		trace: func(d *inFlightDuel) {
			d.load(nil, nil)
			d.burst(3)
			d.load(nil, []rule.Isolation{d.rule("new", 5)})
			d.burst(10)
		},
		sentinel: 2, ours: 5,
	},
}

// inFlightDuel is a duel whose entries stay in flight until they are told to end.
type inFlightDuel struct {
	*duel
	open []pair
}

type pair struct {
	theirs *base.SentinelEntry
	ours   *engine.Entry
}

func (d *inFlightDuel) rule(id string, threshold uint32) rule.Isolation {
	return rule.Isolation{Target: rule.Target{ID: id, Resource: d.resource}, Threshold: threshold}
}

func (d *inFlightDuel) load(flow []rule.Flow, isolation []rule.Isolation) {
	d.t.Helper()
	d.duel.load(flow...)
	// duel.load has loaded the flow rules on both sides; ours once more, with the others.
	old := d.filter
	d.filter = d.vm.NewFilter("sentinel_http", &config.Config{Rules: append(list(flow), list(isolation)...), ResourceName: d.resource}, nil)
	old.Drain()
	var theirs []*sentinelisolation.Rule
	for _, r := range isolation {
		theirs = append(theirs, &sentinelisolation.Rule{
			ID: r.ID, Resource: r.Resource, MetricType: sentinelisolation.Concurrency, Threshold: r.Threshold,
		})
	}
	if _, err := sentinelisolation.LoadRules(theirs); err != nil {
		d.t.Fatal(err)
	}
	if got := len(sentinelisolation.GetRulesOfResource(d.resource)); got != len(isolation) {
		d.t.Fatalf("sentinel-golang took %d of %d rules", got, len(isolation))
	}
}

// enter asks both sides for one entry, and returns what refused it.
func (d *inFlightDuel) enter() (theirs, ours string) {
	util.SetClock(virtualClock{d.process})
	now := d.process.Now()
	entry, blocked := sentinel.Entry(d.resource)
	e := &engine.Entry{}
	block := d.filter.Enter(d.resource, now, e)
	if blocked != nil {
		theirs = map[base.BlockType]string{
			base.BlockTypeFlow: rule.FlowFamily.Name, base.BlockTypeIsolation: rule.IsolationFamily.Name,
		}[blocked.BlockType()]
	}
	if block != nil {
		ours = block.Reason
	}
	if blocked == nil && block == nil {
		d.open = append(d.open, pair{entry, e})
		return theirs, ours
	}
	// They differ, or both refuse: what one side has let in must not count.
	if blocked == nil {
		entry.Exit()
	}
	e.Finish(now, false)
	return theirs, ours
}

func (d *inFlightDuel) leave(i int) {
	util.SetClock(virtualClock{d.process})
	d.open[i].theirs.Exit()
	d.open[i].ours.Finish(d.process.Now(), false)
	d.open = append(d.open[:i], d.open[i+1:]...)
}

// burst makes entries, none of which ends; sentinel and ours are what each side admits by itself.
func (d *inFlightDuel) burst(n int) {
	util.SetClock(virtualClock{d.process})
	d.sentinel, d.ours = 0, 0
	for range n {
		if entry, blocked := sentinel.Entry(d.resource); blocked == nil {
			d.sentinel++
			d.t.Cleanup(func() { entry.Exit() })
		}
		e := &engine.Entry{}
		if d.filter.Enter(d.resource, d.process.Now(), e) == nil {
			d.ours++
		}
	}
}

func newInFlightDuel(t *testing.T, now int64) *inFlightDuel {
	t.Cleanup(func() {
		if err := sentinelisolation.ClearRules(); err != nil {
			t.Error(err)
		}
		if err := sentinelflow.ClearRules(); err != nil {
			t.Error(err)
		}
	})
	return &inFlightDuel{duel: newDuel(t, now)}
}

func TestGuarantee8IsolationSameAsSentinel(t *testing.T) {
	initSentinel(t)
	refused := 0
	seeds.Try(t, 100, func(t *testing.T, seed uint64) {
		rng := rand.New(rand.NewPCG(seed, 80))
		d := newInFlightDuel(t, start+rng.Int64N(20*second))
		var flow []rule.Flow
		var isolation []rule.Isolation
		for i := range rng.IntN(3) {
			flow = append(flow, d.duel.rule(fmt.Sprint("f", i), threshold(rng), 1000))
		}
		for i := range 1 + rng.IntN(3) {
			isolation = append(isolation, d.rule(fmt.Sprint("i", i), 1+rng.Uint32N(30)))
		}
		d.load(flow, isolation)
		for step := range 600 {
			switch rng.IntN(10) {
			case 0:
				d.vm.Tick(d.process.Now())
			case 1, 2:
				d.process.Advance(rng.Int64N(100 * millisecond))
			case 3, 4, 5:
				if n := len(d.open); n > 0 {
					d.leave(rng.IntN(n))
				}
			default:
				theirs, ours := d.enter()
				if theirs != ours {
					t.Fatalf("seed %d, step %d: sentinel-golang refuses for %q, we for %q; %d in flight, rules %+v, %+v",
						seed, step, theirs, ours, len(d.open), flow, isolation)
				}
				if theirs == rule.IsolationFamily.Name {
					refused++
				}
			}
			if rng.IntN(200) == 0 {
				isolation = slices.Clone(isolation)
				isolation[rng.IntN(len(isolation))].Threshold = 1 + rng.Uint32N(30)
				d.load(flow, isolation)
			}
		}
		for len(d.open) > 0 {
			d.leave(0)
		}
	})
	if seeds.Complete() && refused == 0 {
		t.Error("no isolation rule has refused anything")
	}
}

func TestGuarantee8IsolationDeviationsAreTheListedOnes(t *testing.T) {
	initSentinel(t)
	for _, c := range isolationDeviations {
		d := newInFlightDuel(t, start)
		c.trace(d)
		if d.sentinel != c.sentinel || d.ours != c.ours {
			t.Errorf("%s: sentinel-golang admits %d and we %d, listed are %d and %d (%s)",
				c.name, d.sentinel, d.ours, c.sentinel, c.ours, c.reason)
		}
	}
}
