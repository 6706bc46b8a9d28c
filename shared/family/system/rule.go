package system

import (
	"sentinel-envoy/shared/family"
	"sentinel-envoy/shared/family/flow"
	"sentinel-envoy/shared/machine"
	"sentinel-envoy/shared/rule"
	"sentinel-envoy/shared/stat"
)

// measures are what the metrics count.
var measures = [...]string{
	rule.SystemAvgRT: "ms on average", rule.SystemInboundQPS: "in 1000 ms",
	rule.SystemLoad: "load of the machine", rule.SystemCPUUsage: "CPU usage of the machine",
}

// figureRule compares a published figure with its trigger.
type figureRule struct {
	family.Base
	of   *rule.System
	kind *kind
}

// Enter implements family.Checker.
func (r *figureRule) Enter(_ *family.Ticket, now int64) (*family.Refusal, error) {
	seen, over, err := r.look(now)
	if err != nil || !over {
		return nil, err
	}
	return r.Refuse(seen, r.of.TriggerCount, measures[r.of.MetricType], 0, now), nil
}

// look returns the figure of the rule, and whether it refuses for it. What is not known refuses nothing.
func (r *figureRule) look(now int64) (seen float64, over bool, err error) {
	rates, known := r.kind.inboundRates(now)
	if r.of.MetricType == rule.SystemAvgRT {
		if known && rates.Complete > 0 {
			seen = float64(rates.RT / rates.Complete) // in whole milliseconds, as Sentinel's
		}
		return seen, seen >= r.of.TriggerCount, nil
	}
	figures, fresh, err := r.Machine.Figures(now)
	if err != nil {
		return 0, false, err
	}
	if seen = figures.Load; r.of.MetricType == rule.SystemCPUUsage {
		seen = figures.CPU
	}
	if !fresh || seen == machine.Unknown || seen <= r.of.TriggerCount {
		return seen, false, nil
	}
	return seen, r.of.Strategy != rule.BBR || known && isCongested(rates), nil
}

func isCongested(r stat.Rates) bool {
	return congested(r.InFlight, r.MaxComplete, stat.BucketMs, r.MinRT)
}

// inboundQPS lets in at most so many entries in a second.
type inboundQPS struct {
	family.Base
	budget *flow.SharedBudget
	of     *rule.System
	bound  float64
	// capacity is what the bound admits in a window.
	capacity int64
}

// Enter implements family.Checker.
func (r *inboundQPS) Enter(t *family.Ticket, now int64) (*family.Refusal, error) {
	if r.budget.Spend(r.capacity, 1, now) {
		t.At = now
		return nil, nil
	}
	v, err := r.budget.Take(r.bound, nil, 1, now)
	switch {
	case err != nil:
		return nil, err
	case !v.OK:
		return r.Refuse(float64(v.Used), r.of.TriggerCount, measures[r.of.MetricType], v.FreeAt, now), nil
	}
	t.At = v.At
	return nil, nil
}

// Undo implements family.Checker.
func (r *inboundQPS) Undo(t family.Ticket, now int64) error { return r.budget.GiveBack(t.At, 1, now) }

// Release implements family.Checker.
func (r *inboundQPS) Release(now int64) { r.budget.Release(now) }
