package engine

import (
	"strconv"

	"sentinel-envoy/shared/flow"
	"sentinel-envoy/shared/ledger"
)

// relatedRule refuses entries to one resource while another, the rule's refResource, has more than the threshold. What
// other workers let in there is seen after two ticks at most: one until they have told, one until this worker reads.
type relatedRule struct {
	flowRule
	relation *relation
}

func (r *relatedRule) enter(now int64) (decision, error) {
	limit, err := r.limit(now)
	if err != nil {
		return decision{}, err
	}
	used, threshold, err := r.relation.read(limit, now)
	if err != nil {
		return decision{}, err
	}
	if float64(used+1) <= threshold {
		return decision{ok: true}, nil
	}
	r.bound = threshold
	return decision{seen: float64(used)}, nil
}

func (r *relatedRule) undo(token, int64) error { return nil }

func (r *relatedRule) release() { r.relation.release() }

// relation is what a rule knows of another resource.
type relation struct {
	vm       *VM
	resource string
	meterID  ledger.ID
	meter    *ledger.Meter
	warm     *flow.WarmUp
	warmerID ledger.ID
	warmer   *ledger.Warmer
}

// newRelation begins to meter the refResource of a rule. All rules with the same one and the same window share a meter.
func (vm *VM) newRelation(f *flowRule) *relation {
	w := f.window()
	r := &relation{vm: vm, resource: f.RefResource, warm: f.warm}
	r.meterID = ledger.IDOf("meter", f.RefResource, strconv.FormatInt(w.BucketMs, 10), strconv.Itoa(w.Buckets))
	r.meter = vm.flows.meters.acquire(r.meterID, func() *meter {
		return &meter{Meter: ledger.NewMeter(vm.table, r.meterID, w, vm.host.Now), resource: f.RefResource}
	}).Meter
	if f.warm != nil {
		r.warmerID = f.recordID("warm")
		r.warmer = vm.flows.warmers.acquire(r.warmerID, func() *ledger.Warmer {
			return ledger.NewWarmer(vm.table, r.warmerID, vm.host.Now)
		})
	}
	return r
}

// read is how many entries the other resource has had in the window, and the threshold that holds at the time now: limit,
// unless it warms up.
func (r *relation) read(limit float64, now int64) (used int64, threshold float64, err error) {
	if err := r.meter.Read(now, TickMs*1e6); err != nil {
		return 0, 0, err
	}
	used, previous := r.meter.Counts(now)
	if r.warm == nil {
		return used, limit, nil
	}
	threshold, err = r.warmer.Threshold(r.warm, previous, now)
	return used, threshold, err
}

func (r *relation) release() {
	if r.vm.flows.meters.release(r.meterID) {
		r.vm.connectMeters()
	}
	if r.warmer != nil {
		r.vm.flows.warmers.release(r.warmerID)
	}
}

// meter counts what a resource that rules refer to lets in, in all filters of this worker.
type meter struct {
	*ledger.Meter
	resource string
}

// connectMeters lets every filter's resources count for the meters there are.
func (vm *VM) connectMeters() {
	byName := map[string][]*ledger.Meter{}
	vm.flows.meters.all(func(m *meter) { byName[m.resource] = append(byName[m.resource], m.Meter) })
	for _, f := range vm.filters {
		for name, res := range f.resources {
			res.meters = byName[name]
		}
	}
}

// syncMeters tells the other workers what this one has counted.
func (vm *VM) syncMeters(now int64) {
	vm.flows.meters.all(func(m *meter) {
		if err := m.Sync(now); err != nil {
			vm.Fault("telling a count", err)
		}
	})
}

// pass counts an entry that was admitted.
func (res *resource) pass(vm *VM, now int64) {
	res.node.Pass(now)
	for _, m := range res.meters {
		if err := m.Add(now); err != nil {
			vm.Fault("telling a count", err)
		}
	}
}
