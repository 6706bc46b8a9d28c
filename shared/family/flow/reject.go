package flow

import "sentinel-envoy/shared/family"

// rejectRule admits at most a threshold of entries in a window, and refuses the others.
type rejectRule struct {
	flowRule
	budget *SharedBudget
}

// Enter implements family.Checker.
func (r *rejectRule) Enter(now int64) (family.Ticket, *family.Refusal, error) {
	threshold := r.Threshold
	if r.memory != nil {
		var err error
		if threshold, err = r.limit(now); err != nil {
			return family.Ticket{}, nil, err
		}
	}
	v, err := r.budget.Take(threshold, r.warm, now)
	if err != nil {
		return family.Ticket{}, nil, err
	}
	if v.OK {
		return family.Ticket{At: v.At}, nil, nil
	}
	if r.warm != nil {
		threshold = float64(v.Capacity)
	}
	return family.Ticket{}, r.Refuse(float64(v.Used), threshold, r.measure, v.FreeAt, now), nil
}

// Undo implements family.Checker.
func (r *rejectRule) Undo(t family.Ticket, now int64) error { return r.budget.GiveBack(t.At, now) }

// Release implements family.Checker.
func (r *rejectRule) Release(now int64) { r.budget.Release(now) }
