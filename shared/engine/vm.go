// Package engine decides: it knows the rules of each filter, asks them in their order, counts, and does in each tick what
// keeps the workers of a process together. It is the one package that plugins call.
package engine

import (
	"sentinel-envoy/shared/family"
	"sentinel-envoy/shared/host"
	"sentinel-envoy/shared/metrics"
	"sentinel-envoy/shared/request"
	"sentinel-envoy/shared/rule"
	"sentinel-envoy/shared/stat"
	"sentinel-envoy/shared/worker"
)

// TickMs is how often Tick should be called, in milliseconds.
const TickMs = family.TickMs

// VM is what all filters of one worker's VM share. It is not safe for concurrent use: a worker has one thread.
//
// Nothing is written to shared data or the queue before the first tick or the first request: a VM that only checks a
// configuration leaves no trace.
type VM struct {
	env *family.Env
	// kinds are in the order of the registry, byFamily has the same.
	kinds    []family.Kind
	byFamily map[*rule.Family]family.Kind
	// filters are those that were not removed, parked ones included.
	filters []*Filter
	// checkers are shared by the filters, and so are the streams, by root_id.
	checkers  family.Pool[checkerKey, *sharedChecker]
	streams   map[string]*request.Stream
	resources *metrics.Resources
	leader    *leader
	sources   *sources
	store     *store
	keeper    keeper
	health    health
	tracer    tracer

	lastTick int64
	// period is how often it should tick, in milliseconds.
	period  uint32
	flushed int64
	// worked is when a tick last did all that there is to do, dozed whether the last one did not.
	worked int64
	dozed  bool
	// atRest is whether its counts were exported since it rests.
	atRest bool
	// warned is whether a filter has the warnings of the VM's own configuration.
	warned bool
	// identity is who this worker was in the last tick.
	identity worker.Identity
}

// New returns a VM on a host. about says what is running, for the log: a version and a commit.
func New(h host.Host, about string) *VM {
	env := family.NewEnv(h)
	vm := &VM{
		env: env, byFamily: map[*rule.Family]family.Kind{}, checkers: family.NewPool[checkerKey, *sharedChecker](),
		streams: map[string]*request.Stream{}, resources: metrics.NewResources(env.Metrics), health: newHealth(),
		period: TickMs,
	}
	for _, r := range registry {
		k := r.new(env)
		vm.kinds, vm.byFamily[r.family] = append(vm.kinds, k), k
	}
	vm.sources = newSources(env)
	vm.store = newStore(vm)
	vm.leader = newLeader(env, vm.resources, about)
	return vm
}

// Configured says what the VM's own configuration is, before the first tick: workers of VMs that differ in it are told apart.
func (vm *VM) Configured(text []byte) { vm.env.Worker.Of(stat.HashOf(vm.leader.about + string(text))) }

// Fault counts a failure that is ours or the host's.
func (vm *VM) Fault(what string, err error) { vm.env.Fault(what, err) }

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
