package engine

import (
	"sentinel-envoy/shared/flow"
	"sentinel-envoy/shared/host"
	"sentinel-envoy/shared/ledger"
)

// rejectRule admits at most a threshold of entries in a window, and refuses the others.
type rejectRule struct {
	flowRule
	budget *budget
}

// budget is a rule's budget in this worker, shared by all filters that have a rule with its id.
type budget struct {
	*ledger.Budget
	id      ledger.ID
	name    string
	refs    int
	holding bool
	audit   audit
}

// acquire returns the budget of a rule.
func (vm *VM) acquire(r *flowRule) *budget {
	return vm.acquireBudget(r.recordID("flow"), r.ID, r.window())
}

func (vm *VM) acquireBudget(id ledger.ID, name string, w flow.Window) *budget {
	b := vm.budgets[id]
	if b == nil {
		b = &budget{Budget: ledger.NewBudget(vm.table, id, w, vm.host.Now), id: id, name: name}
		vm.budgets[id] = b
	}
	b.refs++
	return b
}

func (r *rejectRule) enter(now int64) (decision, error) {
	threshold := r.Threshold
	var err error
	if r.memory != nil {
		if threshold, err = r.limit(now); err != nil {
			return decision{}, err
		}
	}
	var v ledger.Verdict
	if r.warm == nil {
		v, err = r.budget.Take(threshold, now)
	} else {
		v, err = r.budget.TakeWarm(r.warm, now)
	}
	r.vm.hold(r.budget)
	if err != nil {
		return decision{}, err
	}
	if r.vm.debug {
		r.audit(v)
	}
	if v.OK {
		return decision{ok: true, token: token{at: v.At}}, nil
	}
	if r.bound = threshold; r.warm != nil {
		r.bound = float64(v.Capacity)
	}
	return decision{seen: float64(v.Used), freeAt: v.FreeAt}, nil
}

func (r *rejectRule) undo(t token, now int64) error {
	if r.vm.debug {
		r.budget.audit.undo(t.at, r.budget.Window())
	}
	return r.budget.GiveBack(t.at, now)
}

func (r *rejectRule) release() {
	r.vm.releaseBudget(r.budget)
}

func (vm *VM) releaseBudget(b *budget) {
	if b.refs--; b.refs == 0 {
		delete(vm.budgets, b.id)
	}
}

// hold remembers to return what a budget has reserved.
func (vm *VM) hold(b *budget) {
	if !b.holding && b.Holding() {
		b.holding = true
		vm.holding = append(vm.holding, b)
	}
}

// audit counts a decision, and writes the line about a bucket that is over.
func (r *rejectRule) audit(v ledger.Verdict) {
	if line := r.budget.audit.count(r.budget.name, v.At, v.OK, r.budget.Window()); line != "" {
		r.vm.host.Log(host.Debug, line)
	}
}
