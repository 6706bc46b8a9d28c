package engine

import (
	"errors"
	"strconv"
	"strings"

	"sentinel-envoy/shared/host"
	"sentinel-envoy/shared/ledger"
	"sentinel-envoy/shared/member"
	"sentinel-envoy/shared/stat"
)

const (
	queueName = "sentinel/1/reports"
	// flushEvery is how often counters are told to Envoy, in nanoseconds.
	flushEvery = 500e6
	// messagesPerTick bounds what the aggregator reads in one tick.
	messagesPerTick = 4096
	// touchEvery is how often records in use are marked as such, in nanoseconds; the work is spread over its ticks.
	touchEvery = 60e9
	ticksAMin  = 60000 / TickMs
)

// Tick does what is due at the time now, in nanoseconds: it returns unspent permits, renews this worker's slot, reports
// its counts, and, in the worker that is the aggregator, brings all reports together. Calls that come too early, because
// several filters share a VM, do nothing.
func (vm *VM) Tick(now int64) {
	if vm.ticks > 0 && now-vm.lastTick < TickMs*1e6*3/4 {
		return
	}
	vm.ticks++
	vm.lastTick = now
	vm.metrics.room = definitionsPerTick
	vm.setDebug(vm.host.Enabled(host.Debug))
	vm.settle(now)
	vm.syncMeters(now)
	vm.touchSome(now)
	if err := vm.beat(now); err != nil {
		vm.Fault("claiming a worker's slot", err)
	}
	vm.gates.tick(vm, now)
	vm.hotspots.tick(vm, now)
	vm.syncCircuits(now)
	vm.sync(now)
	if now-vm.flushed >= flushEvery || vm.metrics.behind {
		vm.flush(now)
	}
}

// beat renews this worker's slot, or claims one.
func (vm *VM) beat(now int64) error {
	claimed, err := vm.member.Beat(now)
	if claimed {
		vm.nodes.ReportAll()
		vm.announced = 0
	}
	return err
}

// settle returns what was reserved and not spent since the last tick.
func (vm *VM) settle(now int64) {
	for _, b := range vm.holding {
		b.holding = false
		if err := b.Settle(now); err != nil {
			vm.Fault("returning permits", err)
		}
	}
	clear(vm.holding)
	vm.holding = vm.holding[:0]
}

// touchSome marks a few of the records in use, so that all are once a minute.
func (vm *VM) touchSome(now int64) {
	if len(vm.touch) == 0 && now-vm.touched >= touchEvery {
		vm.touched = now
		vm.collectRecords()
	}
	for range min(len(vm.touch), vm.touches) {
		b := vm.touch[len(vm.touch)-1]
		vm.touch = vm.touch[:len(vm.touch)-1]
		if err := b.Touch(now); err != nil {
			vm.Fault("marking a record", err)
		}
	}
}

// collectRecords lists the records in use, for touchSome.
func (vm *VM) collectRecords() {
	for _, b := range vm.budgets {
		vm.touch = append(vm.touch, b)
	}
	vm.flows.pacers.all(func(p *ledger.Pacer) { vm.touch = append(vm.touch, p) })
	vm.flows.meters.all(func(m *meter) { vm.touch = append(vm.touch, m) })
	vm.flows.warmers.all(func(w *ledger.Warmer) { vm.touch = append(vm.touch, w) })
	for _, g := range vm.gates.byID {
		vm.touch = append(vm.touch, g)
	}
	for _, c := range vm.circuits.byID {
		vm.touch = append(vm.touch, c)
	}
	vm.hotspots.all(func(t toucher) { vm.touch = append(vm.touch, t) })
	vm.touches = 1 + len(vm.touch)/ticksAMin
}

// sync reports this worker's counts and, in the aggregator, merges and publishes.
func (vm *VM) sync(now int64) {
	role, err := vm.member.Role(now)
	if err != nil {
		vm.Fault("asking for the aggregator", err)
		return
	}
	if role.Term != vm.role.Term {
		vm.nodes.ReportAll() // the new one has heard of nothing
		if role.Mine {
			vm.agg = stat.NewAggregator()
			vm.adopt(now)
			vm.queue = 0
		}
	}
	vm.role = role
	if !vm.findQueue(role) {
		return
	}
	if role.Fresh { // else nobody drains the queue: it must not grow
		vm.sendReport(now)
	}
	if role.Mine {
		vm.aggregate(now)
		vm.announce(now)
	}
}

// countWorkers tells how many VMs live. The slots are counted, and not whoever reports: a worker without traffic does not.
func (vm *VM) countWorkers(now int64) {
	if now-vm.counted < flushEvery {
		return
	}
	vm.counted = now
	live, err := vm.member.Census(now)
	if err != nil {
		vm.Fault("counting workers", err)
		return
	}
	vm.gauge("sentinel_workers", uint64(live), now)
}

// findQueue makes sure that the queue's id is known. The aggregator opens it, the others wait until it has.
func (vm *VM) findQueue(role member.Role) bool {
	if vm.queue != 0 {
		return true
	}
	find := vm.host.Resolve
	if role.Mine {
		find = vm.host.Open
	}
	id, err := find(queueName)
	if err != nil {
		if !errors.Is(err, host.ErrNotFound) {
			vm.Fault("finding the queue", err)
		}
		return false
	}
	vm.queue = id
	return true
}

func (vm *VM) sendReport(now int64) {
	lease, held := vm.member.Lease()
	if !held {
		return
	}
	if now-vm.reported >= stat.ReportEvery {
		vm.nodes.ReportRecent(now)
		vm.reported = now
	}
	message, any := vm.nodes.Report(vm.report[:0], stat.Origin{Slot: lease.Slot, Epoch: lease.Epoch})
	vm.report = message[:0]
	if !any {
		return
	}
	if err := vm.host.Enqueue(vm.queue, message); err != nil {
		vm.Fault("sending a report", err)
	}
}

func (vm *VM) aggregate(now int64) {
	for range messagesPerTick {
		message, err := vm.host.Dequeue(vm.queue)
		if errors.Is(err, host.ErrEmpty) {
			break
		}
		if err != nil {
			vm.Fault("reading the queue", err)
			return
		}
		if err := vm.agg.Receive(message, now); err != nil {
			vm.Fault("reading a report", err)
		}
	}
	for _, slot := range vm.agg.Expire(now) {
		vm.gauge("sentinel_rules_hash;worker="+strconv.Itoa(int(slot)), 0, now)
	}
	vm.countWorkers(now)
	vm.agg.Publish(stat.PageHeader{Term: vm.role.Term, At: now}, vm.showRates, vm.putPage)
	vm.gauge("sentinel_aggregator_term", vm.role.Term, now)
}

// adopt takes over what the aggregator before this one has published.
func (vm *VM) adopt(now int64) {
	for number := range stat.Pages {
		content, _, err := vm.host.Get(pageKey(number))
		switch {
		case err == nil:
			vm.agg.Adopt(content, now)
		case !errors.Is(err, host.ErrNotFound):
			vm.Fault("taking over the snapshot", err)
			return
		}
	}
}

// putPage publishes one page, unless a later aggregator has.
func (vm *VM) putPage(number int, content []byte) bool {
	key := pageKey(number)
	old, cas, err := vm.host.Get(key)
	switch {
	case errors.Is(err, host.ErrNotFound):
		cas, err = host.CreateOnly, nil
	case err == nil && vm.isSucceeded(old):
		return false
	}
	if err == nil {
		err = vm.host.Set(key, content, cas)
	}
	if err != nil && !errors.Is(err, host.ErrCASMismatch) {
		vm.Fault("publishing", err)
	}
	return err == nil
}

// isSucceeded is whether a page is of a later term than this worker's, and neither left over from before the role's record
// was lost nor of a time to come.
func (vm *VM) isSucceeded(page []byte) bool {
	h, err := stat.DecodePageHeader(page)
	if err != nil {
		vm.corrupt++
		return false
	}
	return h.Term > vm.role.Term && h.At+ratesTTL >= vm.lastTick && (h.At <= vm.lastTick || h.At <= vm.host.Now())
}

// showRates sets the gauges of one resource.
func (vm *VM) showRates(hash uint64, r stat.Rates) {
	name, ok := vm.metrics.resources[hash]
	if !ok {
		return
	}
	now := vm.lastTick
	vm.gauge("sentinel_in_flight"+name, uint64(r.InFlight), now)
	vm.gauge("sentinel_pass_qps"+name, r.Pass, now)
	vm.gauge("sentinel_block_qps"+name, r.Block, now)
	vm.gauge("sentinel_rt_ms"+name, uint64(r.AvgRT()+0.5), now)
}

// forget drops what is kept for a node that is gone. Its gauges must not stay at their last value.
func (vm *VM) forget(n *stat.Node) {
	if n.Total != (stat.Counts{}) {
		vm.showRates(n.Hash, stat.Rates{})
	}
	vm.metrics.forget(n)
}

func (vm *VM) gauge(name string, value uint64, now int64) {
	if err := vm.metrics.set(name, value, now); err != nil {
		vm.Fault("setting a gauge", err)
	}
}

// flush tells Envoy what was counted since the last time.
func (vm *VM) flush(now int64) {
	vm.flushed = now
	vm.metrics.behind = false
	vm.nodes.All(func(n *stat.Node) {
		if n != vm.system.inbound { // its counts are the others' once more
			vm.check(vm.metrics.node(n, now))
		}
	})
	for _, f := range vm.filters {
		for _, r := range f.rules {
			c := r.counters()
			vm.check(vm.metrics.tell(&c.blocked, now))
			vm.check(vm.metrics.tell(&c.shadow, now))
		}
	}
	vm.check(vm.metrics.tell(&vm.flows.queueFull, now))
	vm.hotspots.flush(vm, now)
	seen := vm.table.Counts()
	seen.Corrupt += vm.member.Corrupt() + vm.metrics.names.Corrupt() + vm.corrupt
	vm.metrics.ticks.n = vm.ticks
	vm.metrics.lost.n, vm.metrics.returned.n = vm.member.Lost()
	vm.check(vm.metrics.process(seen, vm.faults, now))
	vm.tellSource(now)
	if lease, held := vm.member.Lease(); held {
		vm.gauge("sentinel_rules_hash;worker="+strconv.Itoa(int(lease.Slot)), vm.RuleHash()&0xffffffff, now)
	}
}

func (vm *VM) check(err error) {
	if err != nil {
		vm.Fault("telling a metric", err)
	}
}

// announce writes once, from one worker of the process, what is in force.
func (vm *VM) announce(now int64) {
	hash := vm.RuleHash()
	if hash == vm.announced || len(vm.filters) == 0 {
		return
	}
	vm.announced = hash
	var parts []string
	for _, f := range vm.filters {
		if !f.draining {
			parts = append(parts, f.describe())
		}
	}
	vm.host.Log(host.Info, "sentinel "+vm.about+": "+strings.Join(parts, "; ")+"; rules_hash "+
		strconv.FormatUint(hash&0xffffffff, 10)+"; this worker ("+strconv.Itoa(int(vm.role.Slot))+") aggregates")
}

// setDebug turns auditing on and off, and writes what was counted.
func (vm *VM) setDebug(on bool) {
	if vm.debug {
		for _, b := range vm.budgets {
			if line := b.audit.flush(b.name, b.Window()); line != "" {
				vm.host.Log(host.Debug, line)
			}
		}
	}
	vm.debug = on
}
