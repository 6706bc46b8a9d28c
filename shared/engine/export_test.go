package engine

import (
	"sentinel-envoy/shared/family"
	"sentinel-envoy/shared/outcome"
	"sentinel-envoy/shared/rule"
	"sentinel-envoy/shared/stat"
)

// QueueName is the queue of the reports.
const QueueName = queueName

// PageKey is the shared-data key of the page of the snapshot that has a resource.
func PageKey(resource string) string { return stat.PageKey(stat.PageOf(stat.HashOf(resource))) }

// DecidedAt is the time at which the rule of an entry decided that has just entered, of a filter with one flow rule.
func (e *Entry) DecidedAt() []int64 {
	if !e.inFlight || len(e.resource.rules) != 1 {
		panic("not in flight, or several rules have decided")
	}
	return []int64{e.ticket.At}
}

// Rates is what was last published about a resource.
func (vm *VM) Rates(resource string, now int64) (stat.Rates, bool) {
	return vm.env.Board.Rates(stat.HashOf(resource), now)
}

// Aggregates is whether this worker has the aggregator's role, as far as it knows.
func (vm *VM) Aggregates() bool { return vm.leader.role.Mine }

// Term is the aggregator's term, as far as this worker knows.
func (vm *VM) Term() uint64 { return vm.leader.role.Term }

// Faults are what was counted.
func (vm *VM) Faults() uint64 { return vm.env.Faults() }

// Records is how many records all rules of a worker have.
func (vm *VM) Records() (n int) {
	for _, k := range vm.kinds {
		k.Records(func(family.Toucher) { n++ })
	}
	return n
}

// Sizes are how many of each thing a worker keeps.
func (vm *VM) Sizes() map[string]int {
	nodes := 0
	vm.env.Nodes.All(func(*stat.Node) { nodes++ })
	return map[string]int{
		"records": vm.Records(), "nodes": nodes, "filters": len(vm.filters), "due": len(vm.keeper.due), "checkers": vm.checkers.Len(),
		"metrics of resources": vm.resources.Len(),
	}
}

// MetricIDs is how many ids of metrics a worker remembers.
func (vm *VM) MetricIDs() int { return vm.env.Metrics.Len() }

// CatchUp brings all counters up to date, as a tick does.
func (vm *VM) CatchUp(now int64) {
	for _, k := range vm.kinds {
		k.Tick(now)
	}
}

// Finish ends an entry whose service took from its admission to now.
func (e *Entry) Finish(now int64, failed bool) {
	end := outcome.End{Outcome: outcome.Well, ResponseMs: e.WaitMs(now)}
	if failed {
		end.Outcome = outcome.Badly
	}
	e.Exit(now, end)
}

// Probe is one breaker's probe that an entry is: the rule's id, and its mark.
type Probe struct {
	Rule string
	Mark int64
}

// Probes are the circuit breakers whose probe an entry is that has entered.
func (e *Entry) Probes() (probes []Probe) {
	for _, h := range e.holds {
		if h.rule.Of().Family == rule.BreakerFamily && h.ticket.ID != 0 {
			probes = append(probes, Probe{Rule: h.rule.Of().ID, Mark: h.ticket.At})
		}
	}
	return probes
}

// MaxWaiting is how many entries may wait in one worker.
const MaxWaiting = family.MaxWaiting

// Restored is whether the worker knows that the document of the process before was taken over.
func (vm *VM) Restored() bool { return vm.store.restored }

// SnapshotBegun is when the worker has begun the snapshot that it made last, in nanoseconds.
func (vm *VM) SnapshotBegun() int64 { return vm.store.begun }

// Restoring is how many entries of a document the worker has taken over of those that there are, -1 where it has none.
func (vm *VM) Restoring() (done, of int) {
	if vm.store.document == nil {
		return -1, -1
	}
	return vm.store.next, len(vm.store.document.Entries)
}
