package engine

import "sentinel-envoy/shared/machine"

const (
	// restMs is how often a VM at rest should tick, in milliseconds, aggregatorRestMs the same of the aggregator's: its role
	// and its watch over the others are renewed before they run out, also when a tick is late by as much again.
	restMs           = 800
	aggregatorRestMs = 400
	// restWorkEvery is how often a VM at rest does all that a tick does, in nanoseconds. Between, it says that it lives.
	restWorkEvery = 1600e6
	// hushedAfter is for how long the aggregator must have received nothing before it rests, in nanoseconds: by then it has
	// published that nothing happens.
	hushedAfter = 3e9
)

// Period is how often Tick should be called from now on, in milliseconds. quiet is whether the VM has had no streams for
// long; it then rests, unless others wait for what it does. Whoever brings it a stream, or a message, must call Tick first:
// then what it knows is no older than if it had not rested.
func (vm *VM) Period(quiet bool, now int64) uint32 {
	vm.period = TickMs
	_, held := vm.env.Worker.Identity()
	if !quiet || !held || vm.env.Metrics.Behind() || !vm.leader.mayRest(now) {
		return vm.period
	}
	vm.period = restMs
	if vm.leader.role.Mine {
		vm.period = aggregatorRestMs
	}
	vm.env.Machines.All(func(s *machine.Source) { // each is asked when it is due, and that is looked at in ticks
		vm.period = max(min(vm.period, s.Config().IntervalMs/2), TickMs)
	})
	vm.period = vm.store.period(vm.sources.period(vm.period), now)
	return vm.period
}

// Wake does the tick that is due before a VM at rest decides anything, or hears of anything.
func (vm *VM) Wake(now int64) {
	vm.worked = 0
	vm.Tick(now)
	vm.Period(false, now)
}

// doze finds whether there is nothing more to do in a tick: the VM rests, and all is as it was when it last did everything.
func (vm *VM) doze(now int64) {
	vm.dozed = false
	if vm.period > TickMs && now-vm.worked < restWorkEvery {
		vm.dozed = vm.leader.holds(now)
	}
}

// holds renews this worker's role, if it has it, and reports whether the aggregator is the one that it was.
func (l *leader) holds(now int64) bool {
	role, err := l.env.Worker.Role(now)
	return err == nil && role.Term == l.role.Term && role.Mine == l.role.Mine
}

// mayRest is whether nobody waits for what this worker does as the leader, or would do.
func (l *leader) mayRest(now int64) bool {
	return l.queue != 0 && (!l.role.Mine || now-l.received >= hushedAfter)
}

// Reopen lets the aggregator say anew who hears of messages: whoever did is about to end.
func (vm *VM) Reopen() { vm.leader.queue = 0 }

// due is for how many ticks one stands: at rest it does what many would have done.
func (vm *VM) due(now int64) uint64 {
	return uint64(max(min(now-vm.lastTick, int64(vm.period)*1e6)/(TickMs*1e6), 1))
}
