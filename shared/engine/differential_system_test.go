package engine_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	sentinel "github.com/alibaba/sentinel-golang/api"
	"github.com/alibaba/sentinel-golang/core/base"
	sentinelsystem "github.com/alibaba/sentinel-golang/core/system"
	"github.com/alibaba/sentinel-golang/core/system_metric"
	"github.com/alibaba/sentinel-golang/util"

	"sentinel-envoy/internal/seeds"
	"sentinel-envoy/shared/config"
	"sentinel-envoy/shared/engine"
	"sentinel-envoy/shared/host/memhost"
	"sentinel-envoy/shared/rule"
)

// There is no deviation for system rules. What is compared is whether an entry passes: sentinel-golang asks the rules in
// the order of a map.

// systemEpoch keeps the duels apart in time: sentinel-golang has one statistic of all inbound entries, for ever and since
// the process started.
var systemEpoch = (time.Now().Unix() + 1000) * second

// machine is what both sides are told of the machine.
type machine struct {
	idle, total float64
	filter      *engine.Filter
}

// be sets the load, and the use of the CPU since the last call, in quarters of it.
func (m *machine) be(load float64, quarters int, now int64) {
	m.total += 8
	m.idle += float64(8 - 2*quarters)
	m.filter.Answered(fmt.Appendf(nil, "node_load1 %g\nnode_cpu_seconds_total{mode=\"idle\"} %g\n"+
		"node_cpu_seconds_total{mode=\"user\"} %g\n", load, m.idle, m.total-m.idle), nil, now)
	system_metric.SetSystemLoad(load)
	system_metric.SetSystemCpuUsage(float64(quarters) / 4)
}

func randomSystemRules(rng *rand.Rand) (rules []rule.System) {
	for i := range 1 + rng.IntN(3) {
		r := rule.System{Target: rule.Target{ID: fmt.Sprint("s", i)}, MetricType: rule.SystemMetric(rng.IntN(5)), Strategy: rule.NoAdaptive}
		switch r.MetricType {
		case rule.SystemLoad:
			r.TriggerCount = float64(rng.IntN(4))
		case rule.SystemCPUUsage:
			r.TriggerCount = float64(rng.IntN(5)) / 4
		case rule.SystemAvgRT:
			r.TriggerCount = []float64{50, 100, 150.5, 300}[rng.IntN(4)]
		default:
			r.TriggerCount = []float64{0, 0.5, 1, 2, 7.5, 12, 30}[rng.IntN(7)]
		}
		if rng.IntN(2) == 0 {
			r.Strategy = rule.BBR
		}
		rules = append(rules, r)
	}
	return rules
}

func loadSystemRules(t *testing.T, rules []rule.System) {
	t.Helper()
	var theirs []*sentinelsystem.Rule
	for _, r := range rules {
		theirs = append(theirs, &sentinelsystem.Rule{
			ID: r.ID, MetricType: sentinelsystem.MetricType(r.MetricType), TriggerCount: r.TriggerCount,
			Strategy: sentinelsystem.AdaptiveStrategy(r.Strategy),
		})
	}
	if _, err := sentinelsystem.LoadRules(theirs); err != nil {
		t.Fatal(err)
	}
	if got := len(sentinelsystem.GetRules()); got != len(rules) {
		t.Fatalf("sentinel-golang took %d of %d rules", got, len(rules))
	}
}

func TestGuarantee8SystemSameAsSentinel(t *testing.T) {
	initSentinel(t)
	t.Cleanup(func() {
		if err := sentinelsystem.ClearRules(); err != nil {
			t.Error(err)
		}
	})
	refused, passed := map[rule.SystemMetric]int{}, 0
	seeds.Try(t, 150, func(t *testing.T, seed uint64) {
		rng := rand.New(rand.NewPCG(seed, 81))
		systemEpoch += 1000 * second
		p := memhost.NewProcess(systemEpoch)
		util.SetClock(virtualClock{p})
		rules := randomSystemRules(rng)
		loadSystemRules(t, rules)
		vm := engine.New(p.Worker(nil), "test")
		f := vm.NewFilter("sentinel_http", &config.Config{Rules: list(rules), Resources: []config.Resource{{Name: "a"}, {Name: "b"}},
			SystemSource: &config.SystemSource{Cluster: "node", IntervalMs: 60_000}}, nil)
		m := &machine{filter: f}
		m.be(0, 0, p.Now())
		type open struct {
			theirs *base.SentinelEntry
			ours   *engine.Entry
		}
		var entries []open
		for step := range 400 {
			p.Advance(millisecond * (tick/millisecond + rng.Int64N(1+rng.Int64N(120))))
			util.SetClock(virtualClock{p}) // a tick of ours sets another
			for n := rng.IntN(3); n > 0 && len(entries) > 0; n-- {
				i := rng.IntN(len(entries))
				entries[i].theirs.Exit()
				entries[i].ours.Finish(p.Now(), false)
				entries = append(entries[:i], entries[i+1:]...)
			}
			if rng.IntN(20) == 0 {
				m.be(float64(rng.IntN(5)), rng.IntN(5), p.Now())
			}
			vm.Tick(p.Now()) // brings the counters up to date
			util.SetClock(virtualClock{p})
			name := []string{"a", "b"}[rng.IntN(2)]
			theirs, blocked := sentinel.Entry(name, sentinel.WithTrafficType(base.Inbound))
			ours := &engine.Entry{}
			block := f.Enter(name, p.Now(), ours)
			if (blocked == nil) != (block == nil) {
				t.Fatalf("seed %d, step %d, %d in flight: sentinel-golang says %v, we %+v, rules %+v",
					seed, step, len(entries), blocked, block, rules)
			}
			if block != nil {
				for _, r := range rules {
					if r.ID == block.Rule {
						refused[r.MetricType]++
					}
				}
				if block.Reason != rule.SystemFamily.Name {
					t.Fatalf("refused for %q", block.Reason)
				}
				continue
			}
			passed++
			entries = append(entries, open{theirs, ours})
		}
		util.SetClock(virtualClock{p})
		for _, e := range entries {
			e.theirs.Exit()
			e.ours.Finish(p.Now(), false)
		}
	})
	if seeds.Complete() && (len(refused) < 5 || passed == 0) {
		t.Errorf("refused by metric: %v, passed: %d", refused, passed)
	}
}
