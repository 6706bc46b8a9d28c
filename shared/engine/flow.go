package engine

import (
	"strconv"

	"sentinel-envoy/shared/config"
	"sentinel-envoy/shared/flow"
	"sentinel-envoy/shared/ledger"
	"sentinel-envoy/shared/rule"
	"sentinel-envoy/shared/system"
)

// flowRule is what Sentinel's flow rules have in common, whatever they measure and however they answer.
type flowRule struct {
	*rule.Flow
	vm    *VM
	mode  config.Mode
	count ruleCounters
	// of is the resource among those of the rule's expression, empty where it has none.
	of string
	// warm is nil where the threshold always holds.
	warm *flow.WarmUp
	// memory is nil where the threshold does not follow it.
	memory *flow.Memory
	// bound is the threshold of the last refusal, and measure what it counts.
	bound   float64
	measure string
}

// flows are what flow rules keep in a VM, besides budgets.
type flows struct {
	pacers  registry[*ledger.Pacer]
	meters  registry[*meter]
	warmers registry[*ledger.Warmer]
	// waiting are the entries that wait for their turn, queueFull counts those that were refused because too many did.
	waiting   int
	queueFull counter
}

func newFlows() flows {
	return flows{
		pacers: registry[*ledger.Pacer]{}, meters: registry[*meter]{}, warmers: registry[*ledger.Warmer]{},
		queueFull: counter{name: "sentinel_queue_full"},
	}
}

// newFlowRule returns the checker of a rule, for one of the resources that its expression matches where it has one.
func (vm *VM) newFlowRule(r *rule.Flow, of string, mode config.Mode) checker {
	name := r.Resource
	if of != "" {
		name = of
	}
	f := flowRule{Flow: r, vm: vm, mode: mode, of: of, count: newRuleCounters(name, r.ID, FlowControl)}
	f.measure = "in " + strconv.FormatUint(uint64(r.StatIntervalInMs), 10) + " ms"
	switch r.TokenCalculateStrategy {
	case rule.WarmUp:
		f.warm = flow.NewWarmUp(r.Threshold, r.StatIntervalInMs, r.WarmUpPeriodSec, r.WarmUpColdFactor)
	case rule.MemoryAdaptive:
		f.memory = &flow.Memory{
			Low: r.LowMemUsageThreshold, High: r.HighMemUsageThreshold,
			LowMark: r.MemLowWaterMarkBytes, HighMark: r.MemHighWaterMarkBytes,
		}
	}
	switch {
	case r.ControlBehavior == rule.Throttling:
		return vm.newPacedRule(f)
	case r.RelationStrategy == rule.AssociatedResource:
		return &relatedRule{flowRule: f, relation: vm.newRelation(&f)}
	}
	return &rejectRule{flowRule: f, budget: vm.acquire(&f)}
}

// recordID names a record of the rule's. Rules with one id have the same; shadow decisions, windows of another length,
// and the resources of an expression have each their own.
func (r *flowRule) recordID(kind string) ledger.ID {
	w := r.window()
	parts := []string{kind, r.ID, strconv.FormatInt(w.BucketMs, 10), strconv.Itoa(w.Buckets), r.mode.String()}
	if r.of != "" {
		parts = append(parts, r.of)
	}
	return ledger.IDOf(parts...)
}

// limit is the threshold at the time now, of a rule that warms up that of a warm one.
//
// With MemoryAdaptive it is read at most once a tick, from the last answer of the system_source. Workers may differ in it
// for a tick: a window admits at most what the largest of theirs does. While the last answer is too old, or there was
// none yet, the smaller threshold of the rule holds, and the gauge sentinel_system_source_stale is 1.
func (r *flowRule) limit(now int64) (float64, error) {
	if r.memory == nil {
		return r.Threshold, nil
	}
	if err := r.vm.readFigures(now); err != nil {
		return 0, err
	}
	used := float64(system.Unknown)
	if s := &r.vm.system; s.fresh {
		used = s.figures.Memory
	}
	return r.memory.Threshold(used), nil
}

func (r *flowRule) window() flow.Window { return flow.WindowOf(r.StatIntervalInMs) }

func (r *flowRule) exit(token, int64, uint32, bool) error { return nil }

func (r *flowRule) id() string { return r.ID }

func (r *flowRule) explain(b *Block) {
	b.Reason, b.Rule, b.Threshold, b.Measure = FlowControl, r.ID, r.bound, r.measure
}

func (r *flowRule) counters() *ruleCounters { return &r.count }

// forResource implements perResource.
func (r *flowRule) forResource(name string) checker { return r.vm.newFlowRule(r.Flow, name, r.mode) }
