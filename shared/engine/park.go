package engine

import (
	"slices"

	"sentinel-envoy/shared/config"
	"sentinel-envoy/shared/host"
	"sentinel-envoy/shared/lookup"
	"sentinel-envoy/shared/machine"
)

// Park gives up what a filter holds but for what streams need that have entered: Envoy keeps a filter that was replaced for
// as long as its listener drains, which is ten minutes by default, and few of its clients come back. Nothing is lost: state
// is in shared data. Nobody may enter a parked filter before Wake.
func (f *Filter) Park() {
	if f.Parked() {
		return
	}
	f.vm.exportAll()
	f.letGo()
	f.releaseSources()
	f.cfg = withoutResources(f.cfg)
	f.vm.connect(f)
	f.vm.env.Host.Log(host.Debug, "parked "+f.Name)
}

// Parked is whether the filter is parked.
func (f *Filter) Parked() bool { return f.resources == nil }

// Wake lets a parked filter decide again by its own configuration, which must say what it did before.
func (f *Filter) Wake(own *config.Config) {
	if f.Parked() {
		f.apply(own)
		f.vm.env.Host.Log(host.Debug, "woke "+f.Name)
	}
}

// withoutResources is a configuration without what finds resources, which a parked filter does not.
func withoutResources(c *config.Config) *config.Config {
	rest := *c
	rest.Resources = nil
	return &rest
}

// letGo gives up the filter's resources. One in which entries are stays until they have left; one with a rule that counts
// the entries of other resources stays until the filter is woken or removed, lest it miss any.
func (f *Filter) letGo() {
	before := f.counting
	f.counting = nil
	for _, res := range f.resources {
		res.left = true
		if res.refers && !f.draining {
			f.counting = append(f.counting, res)
		} else {
			f.vm.dispose(res)
		}
	}
	f.disposeAll(before)
	f.resources, f.names, f.last = nil, lookup.Table{}, nil
}

func (f *Filter) disposeAll(resources []*guarded) {
	for _, res := range resources {
		f.vm.dispose(res)
	}
}

// dispose gives up a resource that its filter has let go, unless entries are in it.
func (vm *VM) dispose(res *guarded) {
	if res.entries > 0 || res.disposed {
		return
	}
	res.disposed = true
	for _, c := range res.rules {
		vm.release(c)
	}
	if vm.env.Nodes.Release(res.node) {
		r, known := vm.env.Board.Rates(res.node.Hash, vm.lastTick)
		vm.resources.Remove(res.node, !known || r.Idle(), vm.lastTick)
	}
}

// exportOf exports what was counted of a resource and its rules, likewise.
func (vm *VM) exportOf(res *guarded) {
	m, now := vm.env.Metrics, vm.lastTick
	m.Unbounded()
	vm.resources.Export(res.node, now)
	for _, c := range res.rules {
		c.Of().Export(now)
	}
	vm.exportKinds(now)
}

// exportAll exports what was counted, all at once, for it would be lost with the counters.
func (vm *VM) exportAll() {
	vm.env.Metrics.Unbounded()
	vm.atRest = false
	vm.flush(vm.lastTick)
}

// Drain says that the filter is being replaced or removed. It goes on deciding for the streams it has.
func (f *Filter) Drain() {
	f.draining = true
	f.retire()
}

// retire gives up what the filter holds, once it is draining and its last stream is gone.
func (f *Filter) retire() {
	if f.draining && f.streams == 0 && !f.gone {
		f.gone = true
		f.remove()
	}
}

func (f *Filter) remove() {
	vm := f.vm
	vm.exportAll()
	f.letGo()
	f.releaseSources()
	vm.filters = slices.DeleteFunc(vm.filters, func(other *Filter) bool { return other == f })
	if len(vm.filters) == 0 { // without filters it has no ticks, and must not seem to have died
		vm.leave()
	}
	vm.connect(f)
}

// releaseSources gives up the filter's sources, of the machine's figures and of rules.
func (f *Filter) releaseSources() {
	f.unfollow()
	f.vm.releaseMachine(f.Machine)
	f.Machine = nil
}

// releaseMachine gives up a source of the machine's figures. Its gauge must not stay at its last value.
func (vm *VM) releaseMachine(s *machine.Source) {
	if vm.env.Machines.Release(s) {
		vm.showSource(s, false, vm.lastTick)
	}
}

// leave gives up this worker's slot.
func (vm *VM) leave() {
	if me, held := vm.env.Worker.Identity(); held {
		vm.env.Metrics.Gauge(rulesHash(me.Slot), 0, vm.lastTick)
	}
	vm.env.Check("leaving", vm.env.Worker.Leave())
}
