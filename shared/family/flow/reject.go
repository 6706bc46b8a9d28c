package flow

import "sentinel-envoy/shared/family"

// rejectRule admits at most a threshold of entries in a window, and refuses the others.
type rejectRule struct {
	flowRule
	budget *SharedBudget
	// capacity is what the threshold admits in a window once it is warm, none where the threshold follows the memory.
	capacity int64
}

func newRejectRule(base flowRule) *rejectRule {
	r := &rejectRule{flowRule: base, capacity: Capacity(base.Threshold)}
	r.budget = r.kind.budgets.Acquire(r.recordID("budget"), &r.Base, r.window())
	switch {
	case r.memory != nil:
		r.capacity = 0
	case r.warm != nil:
		r.capacity = r.warm.Capacity
	}
	return r
}

// Enter implements family.Checker.
func (r *rejectRule) Enter(t *family.Ticket, now int64) (*family.Refusal, error) {
	n := r.cost.Permits()
	if n == 0 { // takes nothing, though nothing may be left
		return nil, nil
	}
	if r.budget.Spend(r.capacity, n, now) {
		t.At, t.Permits = now, uint32(n)
		return nil, nil
	}
	return r.take(t, n, now)
}

func (r *rejectRule) take(t *family.Ticket, n, now int64) (*family.Refusal, error) {
	threshold := r.Threshold
	if r.memory != nil {
		var err error
		if threshold, err = r.limit(now); err != nil {
			return nil, err
		}
	}
	v, err := r.budget.Take(threshold, r.warm, n, now)
	if err != nil {
		return nil, err
	}
	if v.OK {
		t.At, t.Permits = v.At, uint32(n)
		return nil, nil
	}
	if r.warm != nil {
		threshold = float64(v.Capacity)
	}
	return r.Refuse(v.seen(n), threshold, r.measure, v.FreeAt, now), nil
}

// Quota implements family.Quoter.
func (r *rejectRule) Quota(_ uint64, now int64) (q family.Quota, err error) {
	threshold := r.Threshold
	if r.memory != nil {
		if threshold, err = r.limit(now); err != nil {
			return q, err
		}
	}
	q = family.Quota{Rule: r.ID, WindowMs: r.windowMs(&r.budget.window, now)}
	err = r.budget.quota(&q, threshold, r.warm, now)
	return q, err
}

// Undo implements family.Checker.
func (r *rejectRule) Undo(t family.Ticket, now int64) error {
	if t.Permits == 0 {
		return nil
	}
	return r.budget.GiveBack(t.At, int64(t.Permits), now)
}

// Release implements family.Checker.
func (r *rejectRule) Release(now int64) { r.budget.Release(now) }
