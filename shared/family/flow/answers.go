package flow

import (
	"sentinel-envoy/shared/family"
	"sentinel-envoy/shared/outcome"
	"sentinel-envoy/shared/record"
)

// answersRule counts some of the answers, and lets entries in while the window has had fewer of these than the threshold.
// What is under way then may make them more.
type answersRule struct {
	flowRule
	budget *SharedBudget
}

func newAnswersRule(base flowRule) *answersRule {
	r := &answersRule{flowRule: base}
	id := r.RecordID("answers", append(r.shape(), r.CountOnly.Name())...)
	r.budget = r.kind.budgets.Acquire(id, &r.Base, r.window())
	r.measure = "answered " + r.CountOnly.String() + " " + r.measure
	return r
}

// Enter implements family.Checker.
func (r *answersRule) Enter(t *family.Ticket, now int64) (*family.Refusal, error) {
	v, err := r.budget.Look(r.Threshold, now)
	if err != nil {
		return nil, err
	}
	if !v.OK {
		return r.Refuse(float64(v.Used), r.Threshold, r.measure, v.FreeAt, now), nil
	}
	t.Status = family.StatusesOf(r.CountOnly)
	return nil, nil
}

// Status implements family.Checker.
func (r *answersRule) Status(_ family.Ticket, a outcome.Answer, now int64) (counts bool, err error) {
	if !r.CountOnly.Has(a) {
		return false, nil
	}
	return true, r.budget.Charge(r.Threshold, now)
}

// Quota implements family.Quoter.
func (r *answersRule) Quota(_ uint64, now int64) (family.Quota, error) {
	q := family.Quota{Rule: r.ID, WindowMs: r.windowMs(&r.budget.window, now)}
	err := r.budget.quota(&q, r.Threshold, nil, now)
	return q, err
}

// Release implements family.Checker.
func (r *answersRule) Release(now int64) { r.budget.Release(now) }

// Look asks whether a permit is left under a threshold, and takes none. An error is the host's, or record.ErrFull.
func (b *SharedBudget) Look(threshold float64, now int64) (Verdict, error) {
	o, err := b.charge(threshold, 0, now)
	v := Verdict{OK: o.used < o.capacity, At: now, Used: o.used, Capacity: o.capacity}
	if !v.OK && o.freeAt >= 0 {
		v.FreeAt = max(b.startOf(o.freeAt, now), o.carriedFree, now+1)
	}
	return v, err
}

// Charge takes a permit, whether or not one is left under a threshold. An error is the host's, record.ErrFull or
// ErrContended.
func (b *SharedBudget) Charge(threshold float64, now int64) error {
	_, err := b.charge(threshold, 1, now)
	return err
}

func (b *SharedBudget) charge(threshold float64, n, now int64) (*charging, error) {
	b.limit = threshold
	if !b.shows {
		b.show()
	}
	o := &b.charging
	*o = charging{window: b.window, capacity: Capacity(threshold), n: n}
	return o, b.of.env.Table.Update(&b.cell, now, o)
}

// charging is one update of a budget's record: so many permits are taken.
type charging struct {
	window       Window
	capacity, n  int64
	used, freeAt int64
	carriedFree  int64 // as an operation's
}

// Apply implements record.Transition.
func (o *charging) Apply(dst []byte, r record.State) ([]byte, record.Outcome) {
	w := o.window
	var s WarmState
	if r.Payload != nil && (!s.Decode(r.Payload, w) || s.ahead(w, r.Now)) {
		return dst, record.Unreadable
	}
	s.MoveTo(w, r.Now)
	if r.Lost {
		s.Fill(w, o.capacity)
	}
	s.Take(w, MaxCapacity, o.n)
	o.used, o.freeAt = s.Used(w), s.FreeAt(w, o.capacity, 1)
	if o.carriedFree = 0; s.Carried > 0 && w.Calendar == nil && o.freeAt > s.Newest {
		o.carriedFree = s.carriedFree(o.capacity, 1, w.Start(s.Newest+1, r.Now))
		o.freeAt = s.Newest
	}
	return s.Encode(dst, w), record.StoreIf(o.n > 0 || r.Lost)
}
