package engine

import (
	"sentinel-envoy/shared/stat"
)

// QueueName is the queue of the reports.
const QueueName = queueName

// PageKey is the shared-data key of the page of the snapshot that has a resource.
func PageKey(resource string) string { return pageKey(stat.PageOf(stat.HashOf(resource))) }

// DecidedAt are the times at which the rules of an entry decided that has just entered, all of them flow rules.
func (e *Entry) DecidedAt() (at []int64) {
	for _, h := range e.holds[:e.next] { // beyond the length: an entry keeps no hold that nobody wants to hear the end of
		at = append(at, h.token.at)
	}
	return at
}

// Rates is what was last published about a resource.
func (vm *VM) Rates(resource string, now int64) (stat.Rates, bool) {
	return vm.rates(stat.HashOf(resource), now)
}

// Aggregates is whether this worker has the aggregator's role, as far as it knows.
func (vm *VM) Aggregates() bool { return vm.role.Mine }

// Term is the aggregator's term, as far as this worker knows.
func (vm *VM) Term() uint64 { return vm.role.Term }

// Faults are what was counted.
func (vm *VM) Faults() uint64 { return vm.faults }

// Sizes are how many of each thing a worker keeps.
func (vm *VM) Sizes() map[string]int {
	nodes := 0
	vm.nodes.All(func(*stat.Node) { nodes++ })
	return map[string]int{
		"budgets": len(vm.budgets), "gates": len(vm.gates.byID) + len(vm.gates.held), "nodes": nodes, "filters": len(vm.filters), "holding": len(vm.holding),
		"touch": len(vm.touch), "metrics of nodes": len(vm.metrics.nodes), "labels": len(vm.metrics.resources),
	}
}

// MetricIDs is how many ids of metrics a worker remembers, MaxMetricIDs how many it may.
func (vm *VM) MetricIDs() int { return len(vm.metrics.ids) }

// MaxMetricIDs bounds MetricIDs.
const MaxMetricIDs = maxIDs

// CountAtOnce makes circuit breakers count completions at once, not with the next tick: with one worker their counters
// are then up to date before each decision.
func (vm *VM) CountAtOnce() { vm.circuits.atOnce = true }

// Probe is one breaker's probe that an entry is: the rule's id, and its deadline in nanoseconds.
type Probe struct {
	Rule     string
	Deadline int64
}

// Probes are the circuit breakers whose probe an entry is that has entered.
func (e *Entry) Probes() (probes []Probe) {
	for _, h := range e.holds {
		if r, ok := h.rule.(*breakerRule); ok && h.token != (token{}) {
			probes = append(probes, Probe{Rule: r.ID, Deadline: h.token.at})
		}
	}
	return probes
}

// Circuits is how many circuit breakers a worker keeps.
func (vm *VM) Circuits() int { return len(vm.circuits.byID) + len(vm.circuits.active) }

// MaxWaiting is how many entries may wait in one worker.
const MaxWaiting = maxWaiting

// Hotspots is how many rules' values a worker keeps.
func (vm *VM) Hotspots() int { return len(vm.hotspots.values) + len(vm.hotspots.crowds) }

// FiguresKey is the shared-data key of the figures of the machine.
const FiguresKey = figuresKey
