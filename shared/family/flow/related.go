package flow

import (
	"sentinel-envoy/shared/family"
	"sentinel-envoy/shared/outcome"
	"sentinel-envoy/shared/record"
)

// relatedRule refuses entries to one resource while another, the rule's refResource, has more than the threshold. What
// other workers let in there is seen after two ticks at most: one until they have written it, one until this worker reads.
type relatedRule struct {
	flowRule
	relation *relation
}

// Enter implements family.Checker.
func (r *relatedRule) Enter(_ *family.Ticket, now int64) (*family.Refusal, error) {
	limit, err := r.limit(now)
	if err != nil {
		return nil, err
	}
	used, threshold, err := r.relation.read(limit, now)
	if err != nil || float64(used+1) <= threshold {
		return nil, err
	}
	return r.Refuse(float64(used), threshold, r.measure, 0, now), nil
}

// Release implements family.Checker.
func (r *relatedRule) Release(int64) { r.relation.release() }

// relation is what a rule knows of another resource.
type relation struct {
	kind     *kind
	countID  record.ID
	count    *associatedCount
	warm     *WarmUp
	warmUpID record.ID
	warmUp   *AssociatedWarmUp
}

// newRelation begins to count the refResource of a rule. All rules with the same one and the same window share a count.
func newRelation(f *flowRule) *relation {
	w, env := f.window(), f.Env
	r := &relation{kind: f.kind, warm: f.warm}
	r.countID = record.IDOf(append([]string{"associated", f.RefResource}, w.shape()...)...)
	r.count = f.kind.counts.Acquire(r.countID, func() *associatedCount {
		env.Observe()
		return &associatedCount{AssociatedCount: NewAssociatedCount(env.Table, r.countID, w), env: env, resource: f.RefResource}
	})
	if f.warm != nil {
		r.warmUpID = f.recordID("warm-up")
		r.warmUp = f.kind.warmUps.Acquire(r.warmUpID, func() *AssociatedWarmUp {
			return NewAssociatedWarmUp(env.Table, r.warmUpID)
		})
	}
	return r
}

// read is how many entries the other resource has had in the window, and the threshold that holds at the time now: limit,
// unless it warms up.
func (r *relation) read(limit float64, now int64) (used int64, threshold float64, err error) {
	if err := r.count.Read(now, family.TickMs*1e6); err != nil {
		return 0, 0, err
	}
	used, previous := r.count.Sums(now)
	if r.warm == nil {
		return used, limit, nil
	}
	threshold, err = r.warmUp.Threshold(r.warm, previous, now)
	return used, threshold, err
}

func (r *relation) release() {
	if r.kind.counts.Release(r.countID, false) {
		r.kind.env.Observe()
	}
	if r.warmUp != nil {
		r.kind.warmUps.Release(r.warmUpID, false)
	}
}

// associatedCount observes a resource that rules refer to, in all filters of this worker.
type associatedCount struct {
	*AssociatedCount
	env      *family.Env
	resource string
}

var _ family.Observer = (*associatedCount)(nil)

// Passed implements family.Observer.
func (c *associatedCount) Passed(now int64) { c.env.Check("writing a count", c.Add(now)) }

// Refused implements family.Observer.
func (c *associatedCount) Refused(int64) {}

// Ended implements family.Observer.
func (c *associatedCount) Ended(outcome.End, int64) {}

// Interest implements family.Observer.
func (c *associatedCount) Interest() family.Interest { return family.InNothing }
