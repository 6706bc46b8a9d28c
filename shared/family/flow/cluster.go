package flow

import (
	"sentinel-envoy/shared/config"
	"sentinel-envoy/shared/family"
	"sentinel-envoy/shared/quota"
)

// clusterRule admits what a rate limit service has reserved for this process, and falls back where that does not answer.
type clusterRule struct {
	flowRule
	quota *quota.Quota
	// local is what this process may admit by itself meanwhile, nil where the failure mode decides.
	local *SharedBudget
}

func newClusterRule(base flowRule) *clusterRule {
	r := &clusterRule{flowRule: base}
	r.Queue = family.NewQueue(r.Env)
	r.quota = r.Env.Quotas.Acquire(r.Cluster.Service, r.ID, quota.Descriptor(r.Cluster.Name(r.ID), r.Mode == config.Shadow))
	if r.Cluster.FallbackToLocalWhenFail {
		w := WindowOf(uint64(r.Cluster.WindowIntervalMs))
		r.local = r.kind.budgets.Acquire(r.RecordID("fallback", r.measure), &r.Base, w)
	}
	return r
}

// Enter implements family.Checker.
func (r *clusterRule) Enter(t *family.Ticket, now int64) (*family.Refusal, error) {
	since := r.Env.Since
	v, err := r.quota.Take(since > 0, now)
	if err != nil {
		return nil, err
	}
	switch v.Outcome {
	case quota.Pass:
		t.At, t.ID = v.Window, reserved
		return nil, nil
	case quota.Over:
		return r.Refuse(float64(v.Limit), float64(v.Limit), r.measure, v.FreeAt, now), nil
	case quota.Pending:
		if r.Mode == config.Shadow { // it never waits, and what the service would have said is not known yet
			return nil, nil
		}
		if !r.Queue.IsFull() && (since == 0 || now-since < v.Patience) {
			t.At, t.Retry = now+quota.LookAgain, true
			return nil, nil
		}
	}
	return r.fallBack(t, now)
}

// fallBack decides without the service.
func (r *clusterRule) fallBack(t *family.Ticket, now int64) (*family.Refusal, error) {
	if r.local == nil {
		return nil, family.ErrUndecided
	}
	threshold := r.Cluster.Local(r.Threshold)
	v, err := r.local.Take(threshold, nil, 1, now)
	if err != nil {
		return nil, err
	}
	if !v.OK {
		return r.Refuse(float64(v.Used), threshold, r.measure, v.FreeAt, now), nil
	}
	t.At, t.ID = v.At, borrowed
	return nil, nil
}

// What a ticket's ID says: where its permit is from, if it has one.
const (
	reserved = 1
	borrowed = 2
)

// Undo implements family.Checker.
func (r *clusterRule) Undo(t family.Ticket, now int64) error {
	switch t.ID {
	case reserved:
		return r.quota.GiveBack(t.At, now)
	case borrowed:
		return r.local.GiveBack(t.At, 1, now)
	}
	return nil
}

// Release implements family.Checker.
func (r *clusterRule) Release(now int64) {
	r.quota.Release()
	if r.local != nil {
		r.local.Release(now)
	}
}
