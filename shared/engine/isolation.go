package engine

import (
	"sentinel-envoy/shared/config"
	"sentinel-envoy/shared/isolation"
	"sentinel-envoy/shared/ledger"
	"sentinel-envoy/shared/member"
	"sentinel-envoy/shared/rule"
)

// concurrencyRule is Sentinel's isolation rule, and its system rule for concurrency: at most threshold entries are in
// flight in all workers.
type concurrencyRule struct {
	vm        *VM
	gate      *gate
	reason    Reason
	name      string
	threshold int64
	count     ruleCounters
}

// gate is the entries in flight under a rule in this worker, shared by all filters that have a rule with its id.
type gate struct {
	*isolation.Gate
	id   ledger.ID
	refs int
	// held is whether the gate is among those that a tick looks after.
	held bool
}

// gates are those of a VM.
type gates struct {
	byID map[ledger.ID]*gate
	held []*gate
	// asked is the tick in which there was no slot for this worker.
	asked uint64
}

// newIsolationRule returns the checker of a rule.
func (vm *VM) newIsolationRule(r *rule.Isolation, mode config.Mode) checker {
	c := vm.newConcurrencyRule(Isolation, r.ID, r.Resource, int64(r.Threshold), ledger.IDOf("isolation", r.ID, mode.String()))
	if !r.Regex {
		return c
	}
	return &isolationRules{concurrencyRule: c, rule: r, mode: mode}
}

// isolationRules are a rule with an expression: each resource that it matches has a count of its own.
type isolationRules struct {
	*concurrencyRule
	rule *rule.Isolation
	mode config.Mode
}

// forResource implements perResource.
func (r *isolationRules) forResource(name string) checker {
	id := ledger.IDOf("isolation", r.rule.ID, r.mode.String(), name)
	return r.vm.newConcurrencyRule(Isolation, r.rule.ID, name, int64(r.rule.Threshold), id)
}

func (vm *VM) newConcurrencyRule(reason Reason, name, resource string, threshold int64, id ledger.ID) *concurrencyRule {
	return &concurrencyRule{
		vm: vm, gate: vm.acquireGate(id), reason: reason, name: name, threshold: threshold,
		count: newRuleCounters(resource, name, Isolation),
	}
}

func (vm *VM) acquireGate(id ledger.ID) *gate {
	g := vm.gates.byID[id]
	if g == nil {
		g = &gate{Gate: isolation.NewGate(vm.table, id, vm.host.Now), id: id}
		vm.gates.byID[id] = g
	}
	g.refs++
	return g
}

func (r *concurrencyRule) enter(now int64) (decision, error) {
	holder, err := r.vm.holder(now)
	if err != nil {
		return decision{}, err
	}
	v, err := r.gate.Enter(holder, r.threshold, now)
	r.vm.gates.hold(r.gate)
	if err != nil {
		return decision{}, err
	}
	return decision{ok: v.OK, exit: true, seen: float64(v.InFlight)}, nil
}

func (r *concurrencyRule) undo(_ token, now int64) error { return r.gate.Exit(now) }

func (r *concurrencyRule) exit(_ token, now int64, _ uint32, _ bool) error { return r.gate.Exit(now) }

func (r *concurrencyRule) id() string { return r.name }

func (r *concurrencyRule) explain(b *Block) {
	b.Reason, b.Rule, b.Threshold, b.Measure = r.reason, r.name, float64(r.threshold), "in flight"
}

func (r *concurrencyRule) counters() *ruleCounters { return &r.count }

func (r *concurrencyRule) release() {
	r.gate.refs--
	r.vm.gates.drop(r.gate)
}

// holder is who this worker is to others. A worker that is asked before its first tick claims its slot now; one for which
// there was none asks again in the next tick.
func (vm *VM) holder(now int64) (isolation.Holder, error) {
	lease, held := vm.member.Lease()
	if !held {
		if vm.gates.asked == vm.ticks+1 {
			return isolation.Holder{}, member.ErrFull
		}
		if err := vm.beat(now); err != nil {
			vm.gates.asked = vm.ticks + 1
			return isolation.Holder{}, err
		}
		lease, _ = vm.member.Lease()
	}
	return isolation.Holder{Slot: lease.Slot, Epoch: lease.Epoch}, nil
}

// hold lets the ticks look after a gate for as long as it holds anything.
func (gs *gates) hold(g *gate) {
	if !g.held && g.Holding() {
		g.held = true
		gs.held = append(gs.held, g)
	}
}

// drop removes a gate that no rule needs. One that holds anything stays: another with its id would be taken for it.
func (gs *gates) drop(g *gate) {
	if g.refs == 0 && !g.held {
		delete(gs.byID, g.id)
	}
}

// tick renews what this worker has in flight, and gives back what it does not need.
func (gs *gates) tick(vm *VM, now int64) {
	kept := gs.held[:0]
	for _, g := range gs.held {
		if err := vm.tickGate(g, now); err != nil {
			vm.Fault("renewing what is in flight", err)
		}
		if g.held = g.Holding(); g.held {
			kept = append(kept, g)
		} else {
			gs.drop(g)
		}
	}
	clear(gs.held[len(kept):])
	gs.held = kept
}

func (vm *VM) tickGate(g *gate, now int64) error {
	holder, err := vm.holder(now)
	if err != nil {
		return err
	}
	return g.Tick(holder, now)
}
