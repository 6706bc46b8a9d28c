package engine

import (
	"strconv"

	"sentinel-envoy/shared/config"
	"sentinel-envoy/shared/flow"
	"sentinel-envoy/shared/host"
	"sentinel-envoy/shared/ledger"
	"sentinel-envoy/shared/rule"
)

// flowRule is Sentinel's flow rule with Direct and Reject: at most Threshold entries in a window.
type flowRule struct {
	*rule.Flow
	vm     *VM
	budget *budget
	count  ruleCounters
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

func (vm *VM) newFlowRule(r *rule.Flow, mode config.Mode) *flowRule {
	return &flowRule{Flow: r, vm: vm, budget: vm.acquire(r, mode), count: newRuleCounters(r.Resource, r.ID)}
}

// acquire returns the budget of a flow rule. Rules with one id have one budget; shadow decisions, and windows of another
// length, have their own.
func (vm *VM) acquire(r *rule.Flow, mode config.Mode) *budget {
	w := flow.WindowOf(r.StatIntervalInMs)
	id := ledger.IDOf("flow", r.ID, strconv.FormatInt(w.BucketMs, 10), strconv.Itoa(w.Buckets), mode.String())
	b := vm.budgets[id]
	if b == nil {
		b = &budget{Budget: ledger.NewBudget(vm.table, id, w, vm.host.Now), id: id, name: r.ID}
		vm.budgets[id] = b
	}
	b.refs++
	return b
}

func (r *flowRule) enter(now int64) (decision, error) {
	v, err := r.budget.Take(r.Threshold, now)
	r.vm.hold(r.budget)
	if err != nil {
		return decision{}, err
	}
	if r.vm.debug {
		r.audit(v)
	}
	if !v.OK {
		return decision{seen: float64(v.Used), freeAt: v.FreeAt}, nil
	}
	return decision{ok: true, token: token{at: v.At}}, nil
}

func (r *flowRule) undo(t token, now int64) error {
	if r.vm.debug {
		r.budget.audit.undo(t.at, r.budget.Window())
	}
	return r.budget.GiveBack(t.at, now)
}

func (r *flowRule) exit(token, int64, uint32, bool) error { return nil }

func (r *flowRule) id() string { return r.ID }

func (r *flowRule) explain(b *Block) {
	b.Reason, b.Rule, b.Threshold = FlowControl, r.ID, r.Threshold
	b.Measure = "in " + strconv.FormatUint(uint64(r.StatIntervalInMs), 10) + " ms"
}

func (r *flowRule) counters() *ruleCounters { return &r.count }

func (r *flowRule) release() {
	if r.budget.refs--; r.budget.refs == 0 {
		delete(r.vm.budgets, r.budget.id)
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
func (r *flowRule) audit(v ledger.Verdict) {
	if line := r.budget.audit.count(r.budget.name, v.At, v.OK, r.budget.Window()); line != "" {
		r.vm.host.Log(host.Debug, line)
	}
}
