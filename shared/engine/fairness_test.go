package engine_test

import (
	"math/rand/v2"
	"testing"

	"sentinel-envoy/internal/seeds"
	"sentinel-envoy/shared/config"
	"sentinel-envoy/shared/engine"
	"sentinel-envoy/shared/host/memhost"
	"sentinel-envoy/shared/outcome"
	"sentinel-envoy/shared/rule"
)

// farAway are rules of each family that contend for a record and are far from their thresholds.
var farAway = []struct {
	name string
	rule rule.Rule
}{
	{"flow", &rule.Flow{Target: rule.Target{ID: "f", Resource: "r"}, Threshold: 1e5, StatIntervalInMs: 1000}},
	{"flow in short buckets", &rule.Flow{Target: rule.Target{ID: "f", Resource: "r"}, Threshold: 1e5, StatIntervalInMs: 100}},
	{"warm-up", &rule.Flow{Target: rule.Target{ID: "f", Resource: "r"}, Threshold: 1e6, StatIntervalInMs: 1000,
		TokenCalculateStrategy: rule.WarmUp, WarmUpPeriodSec: 10, WarmUpColdFactor: 3}},
	{"throttling", &rule.Flow{Target: rule.Target{ID: "f", Resource: "r"}, Threshold: 1e6, StatIntervalInMs: 1000,
		ControlBehavior: rule.Throttling, MaxQueueingTimeMs: 1000}},
	{"associated", &rule.Flow{Target: rule.Target{ID: "f", Resource: "r"}, Threshold: 1e5, StatIntervalInMs: 1000,
		RelationStrategy: rule.AssociatedResource, RefResource: "r"}},
	{"isolation", &rule.Isolation{Target: rule.Target{ID: "i", Resource: "r"}, Threshold: 1e4}},
	{"hotspot", &rule.Hotspot{Target: rule.Target{ID: "h", Resource: "r"}, Param: rule.Param{ParamSource: rule.Host}, MetricType: rule.HotspotQPS,
		Threshold: 1e5, DurationInSec: 1}},
	{"hotspot throttling", &rule.Hotspot{Target: rule.Target{ID: "h", Resource: "r"}, Param: rule.Param{ParamSource: rule.Host},
		MetricType: rule.HotspotQPS, Threshold: 1e6, DurationInSec: 1, ControlBehavior: rule.Throttling, MaxQueueingTimeMs: 1000}},
	{"hotspot concurrency", &rule.Hotspot{Target: rule.Target{ID: "h", Resource: "r"}, Param: rule.Param{ParamSource: rule.Host},
		MetricType: rule.HotspotConcurrency, Threshold: 1e4}},
	{"system QPS", &rule.System{Target: rule.Target{ID: "s"}, MetricType: rule.SystemInboundQPS, TriggerCount: 1e5}},
	{"system concurrency", &rule.System{Target: rule.Target{ID: "s"}, MetricType: rule.SystemConcurrency, TriggerCount: 1e4}},
}

// 256 workers that all wake at once, and are interleaved at every call to the host, refuse nobody far from a threshold.
func TestGuarantee2FarFromAThresholdNobodyIsRefused(t *testing.T) {
	for _, of := range farAway {
		t.Run(of.name, func(t *testing.T) {
			seeds.Try(t, 1, func(t *testing.T, seed uint64) {
				sim := memhost.NewSim(seed, start)
				defer sim.Close()
				c := &config.Config{Resources: []config.Resource{{Name: "r"}}, Rules: []rule.Rule{of.rule}, RuleHash: 1}
				var entered, refused int
				for i := range 256 {
					sim.Go(func(task *memhost.Task) {
						rng := rand.New(rand.NewPCG(seed, uint64(i)))
						f := engine.New(task, "test").NewFilter("sentinel_http", c, nil)
						f.Stream.Of(oneHost{})
						for round := range int64(6) {
							var open []*engine.Entry
							now := task.Now()
							for range 1 + rng.IntN(3) {
								e := &engine.Entry{}
								f.Stream.Begin()
								if f.Enter("r", now, e) != nil {
									refused++
									continue
								}
								entered++
								open = append(open, e)
							}
							for _, e := range open {
								e.Exit(now, outcome.End{Outcome: outcome.Well})
							}
							task.Sleep(start + round*7*millisecond)
						}
					})
				}
				for sim.Step() {
				}
				if refused > 0 || entered < 6*256 {
					t.Errorf("%d of %d were refused", refused, entered+refused)
				}
			})
		})
	}
}
