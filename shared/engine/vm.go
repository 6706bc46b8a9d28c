// Package engine decides: it knows the rules of each filter, asks the ledger for permits, counts, and does in each tick
// what keeps the workers of a process together. It is the one package that plugins call.
package engine

import (
	"strconv"

	"sentinel-envoy/shared/host"
	"sentinel-envoy/shared/ledger"
	"sentinel-envoy/shared/member"
	"sentinel-envoy/shared/stat"
)

// TickMs is how often Tick should be called, in milliseconds.
const TickMs = 20

// VM is what all filters of one worker's VM share. It is not safe for concurrent use: a worker has one thread.
//
// Nothing is written to shared data or the queue before the first tick or the first request: a VM that only checks a
// configuration leaves no trace.
type VM struct {
	host     host.Host
	about    string
	table    *ledger.Table
	budgets  map[ledger.ID]*budget
	flows    flows
	gates    gates
	hotspots hotspots
	system   systemState
	circuits circuits
	nodes    *stat.Nodes
	member   *member.Member
	metrics  *metrics
	filters  []*Filter

	// holding are the budgets that may have reserved permits to return.
	holding []*budget

	ticks     uint64
	lastTick  int64
	debug     bool
	role      member.Role
	queue     uint32
	report    []byte
	reported  int64
	flushed   int64
	announced uint64
	touch     []toucher
	touches   int
	touched   int64
	counted   int64
	agg       *stat.Aggregator
	pages     [stat.Pages]page
	faults    uint64
	// corrupt counts pages of the snapshot, and figures of the machine, that nobody of us can have written.
	corrupt uint64
}

// New returns a VM on a host. about says what is running, for the log: a version and a commit.
func New(h host.Host, about string) *VM {
	vm := &VM{
		host:     h,
		about:    about,
		table:    ledger.NewTable(h),
		budgets:  map[ledger.ID]*budget{},
		flows:    newFlows(),
		gates:    gates{byID: map[ledger.ID]*gate{}},
		circuits: circuits{byID: map[ledger.ID]*circuit{}},
		nodes:    stat.NewNodes(),
		member:   member.New(h),
		agg:      stat.NewAggregator(),
	}
	vm.metrics = newMetrics(h)
	vm.hotspots = newHotspots(vm.table)
	return vm
}

// Fault counts a failure that is ours or the host's.
func (vm *VM) Fault(what string, err error) {
	vm.faults++
	if vm.faults&(vm.faults-1) == 0 { // the 1st, 2nd, 4th, 8th …: a fault a request must not fill the log
		vm.host.Log(host.Error, "fault "+strconv.FormatUint(vm.faults, 10)+": "+what+": "+err.Error())
	}
}

// RuleHash tells apart the rule sets that this worker applies. It covers all filters whose contexts are not draining.
func (vm *VM) RuleHash() uint64 {
	var h uint64
	for _, f := range vm.filters {
		if !f.draining {
			h += f.hash
		}
	}
	return h
}
