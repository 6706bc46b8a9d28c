package engine

import (
	"sentinel-envoy/shared/ledger"
	"sentinel-envoy/shared/stat"
)

// QueueName is the queue of the reports.
const QueueName = queueName

// PageKey is the shared-data key of the page of the snapshot that has a resource.
func PageKey(resource string) string { return pageKey(stat.PageOf(stat.HashOf(resource))) }

// Permits are the verdicts of the rules that admitted the last entry. It is valid until the next Enter.
func (vm *VM) Permits() (verdicts []ledger.Verdict) {
	for _, p := range vm.taken {
		verdicts = append(verdicts, p.verdict)
	}
	return verdicts
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
		"budgets": len(vm.budgets), "nodes": nodes, "filters": len(vm.filters), "holding": len(vm.holding),
		"touch": len(vm.touch), "metrics of nodes": len(vm.metrics.nodes), "labels": len(vm.metrics.resources),
	}
}

// MetricIDs is how many ids of metrics a worker remembers, MaxMetricIDs how many it may.
func (vm *VM) MetricIDs() int { return len(vm.metrics.ids) }

// MaxMetricIDs bounds MetricIDs.
const MaxMetricIDs = maxIDs
