package engine

import (
	"sentinel-envoy/shared/family"
	"sentinel-envoy/shared/host"
	"sentinel-envoy/shared/machine"
	"sentinel-envoy/shared/metrics"
	"sentinel-envoy/shared/quota"
	"sentinel-envoy/shared/stat"
)

const (
	// flushEvery is how often counters are exported to Envoy, in nanoseconds.
	flushEvery = 500e6
	// touchEvery is how often records in use are marked as such, in nanoseconds; the work is spread over its ticks.
	touchEvery = 60e9
)

// Tick does what is due at the time now, in nanoseconds: this worker renews its slot, each family ticks, the worker reports
// its counts, the one that is the aggregator brings all reports together, and all export. A panic ends one of these and not
// the others. Calls that come too early, because several filters share a VM, do nothing.
func (vm *VM) Tick(now int64) {
	env := vm.env
	if env.Tick > 0 && now-vm.lastTick < TickMs*1e6*3/4 && !vm.dozed {
		return
	}
	env.Tick += vm.due(now)
	vm.lastTick = now
	env.Try("renewing the slot", now, vm.beat)
	env.Try("looking for new rules", now, vm.sources.tick)
	if env.Try("looking at the aggregator", now, vm.doze); vm.dozed {
		return
	}
	vm.worked = now
	env.Metrics.BeginTick()
	env.Board.BeginTick(now)
	env.Machines.BeginTick()
	env.Try("reserving", now, env.Quotas.Tick)
	for _, k := range vm.kinds {
		env.Try("ticking", now, k.Tick)
	}
	env.Debug = env.Host.Enabled(host.Debug)
	env.Try("marking records", now, vm.touch)
	env.Try("leading", now, vm.leader.tick)
	env.Try("announcing", now, vm.announce)
	if now-vm.flushed >= flushEvery || env.Metrics.Behind() {
		env.Try("exporting", now, vm.flush)
	}
}

func (vm *VM) touch(now int64) { vm.keeper.tick(vm, now) }

func (vm *VM) announce(int64) {
	vm.leader.announce(vm.RuleHash(), vm.filters)
	vm.leader.warn(vm.filters)
}

// beat renews this worker's slot, or claims one.
func (vm *VM) beat(now int64) {
	vm.env.Check("claiming a worker's slot", vm.env.Worker.Beat(now))
	if me, held := vm.env.Worker.Identity(); held && me != vm.identity {
		vm.identity = me
		vm.leader.rejoined()
	}
}

// keeper marks a few of the records in use in each tick, so that all are once a minute, however late ticks are.
type keeper struct {
	due   []family.Toucher
	total int
	begun int64
}

func (k *keeper) tick(vm *VM, now int64) {
	if len(k.due) == 0 && now-k.begun >= touchEvery {
		k.begun = now
		for _, kind := range vm.kinds {
			kind.Records(func(t family.Toucher) { k.due = append(k.due, t) })
		}
		vm.env.Machines.All(func(s *machine.Source) { k.due = append(k.due, s) })
		vm.env.Quotas.All(func(q *quota.Quota) { k.due = append(k.due, q) })
		k.total = len(k.due)
	}
	left := k.total - int(int64(k.total)*min(now-k.begun+TickMs*1e6, touchEvery)/touchEvery)
	for len(k.due) > left {
		last := len(k.due) - 1
		vm.env.Check("marking a record", k.due[last].Touch(now))
		k.due[last] = nil
		k.due = k.due[:last]
	}
}

// flush exports what was counted since the last time.
func (vm *VM) flush(now int64) {
	env := vm.env
	vm.flushed = now
	env.Metrics.BeginExport()
	if resting := vm.period > TickMs; !resting || !vm.atRest {
		vm.flushCounts(now)
		vm.atRest = resting
	}
	env.Metrics.Export(&env.QueueFull, now)
	vm.exportKinds(now)
	vm.health.export(env, now)
	env.Quotas.Export(env.Metrics, now)
	env.Machines.All(func(s *machine.Source) { vm.showSource(s, s.Stale(now), now) })
	vm.sources.export(now)
	vm.store.export(now)
	if me, held := env.Worker.Identity(); held {
		env.Metrics.Gauge(rulesHash(me.Slot), vm.RuleHash()&0xffffffff, now)
	}
}

// exportKinds exports the metrics of each family's own.
func (vm *VM) exportKinds(now int64) {
	for _, k := range vm.kinds {
		vm.env.Try("exporting a family", now, k.Export)
	}
}

// flushCounts exports what entries were counted in. At rest there are none, and once is enough.
func (vm *VM) flushCounts(now int64) {
	env := vm.env
	env.Nodes.All(func(n *stat.Node) { vm.resources.Export(n, now) })
	for _, f := range vm.filters {
		env.Metrics.Export(&f.Unnamed, now)
		for _, c := range f.exempt {
			env.Metrics.Export(c, now)
		}
	}
	vm.checkers.All(func(c *sharedChecker) {
		c.Of().Export(now)
		if line := c.Of().FlushAudit(); line != "" {
			env.Host.Log(host.Debug, line)
		}
	})
}

// showSource says whether a source of the machine's figures is silent. All workers that have it say the same.
func (vm *VM) showSource(s *machine.Source, stale bool, now int64) {
	name := "sentinel_system_source_stale" + metrics.Resource(s.Config().Cluster+s.Config().Path)
	vm.env.Metrics.Gauge(name, bit(stale), now)
}

func bit(set bool) uint64 {
	if set {
		return 1
	}
	return 0
}

// health are the counters that have no resource.
type health struct {
	faults, retries, contended, corrupt metrics.Counter
	// ticks of all VMs go on for as long as any lives; lost are VMs that were silent for long, returned those of them that
	// were only held up.
	ticks, lost, returned metrics.Counter
}

func newHealth() health {
	return health{
		faults:    metrics.Counter{Name: "sentinel_faults"},
		retries:   metrics.Counter{Name: "sentinel_cas_retries"},
		contended: metrics.Counter{Name: "sentinel_cas_contended"},
		corrupt:   metrics.Counter{Name: "sentinel_records_replaced"},
		ticks:     metrics.Counter{Name: "sentinel_ticks"},
		lost:      metrics.Counter{Name: "sentinel_workers_lost"},
		returned:  metrics.Counter{Name: "sentinel_workers_returned"},
	}
}

func (h *health) export(env *family.Env, now int64) {
	seen := env.Table.Counts()
	h.faults.N, h.retries.N, h.contended.N, h.ticks.N = env.Faults(), seen.Retries, seen.Contended, env.Tick
	h.corrupt.N = seen.Corrupt + env.Worker.Corrupt() + env.Metrics.Corrupt() + env.Board.Corrupt()
	h.lost.N, h.returned.N = env.Worker.Lost()
	for _, c := range [...]*metrics.Counter{&h.faults, &h.retries, &h.contended, &h.corrupt, &h.ticks, &h.lost, &h.returned} {
		// Defined though there is nothing to export: an operator wants to see that there were no faults.
		env.Metrics.Define(c, now)
		env.Metrics.Export(c, now)
	}
}
