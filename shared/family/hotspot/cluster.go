package hotspot

import (
	"strconv"

	"sentinel-envoy/shared/config"
	"sentinel-envoy/shared/family"
	"sentinel-envoy/shared/quota"
)

// clusterRule admits of each value what a rate limit service has reserved of it for this process, and falls back where that
// does not answer.
type clusterRule struct {
	hotspotRule
	quotas *quota.Values
	// local are the values by themselves, as far as this process may admit them meanwhile.
	local *sharedValues
	// measure is what the threshold counts.
	measure string
}

func newClusterRule(base hotspotRule) *clusterRule {
	r := &clusterRule{hotspotRule: base}
	c := r.Cluster
	interval := strconv.FormatUint(uint64(c.WindowIntervalMs), 10)
	r.identify("cluster", c.Service.Cluster, c.Service.Domain, c.Name(r.ID), interval)
	r.measure = "in " + interval + " ms for one " + r.param.String()
	r.limits.Limit = Limit{Threshold: int64(c.Local(float64(r.Threshold))), DurationMs: int64(c.WindowIntervalMs)}
	r.quotas = r.Env.Quotas.AcquireValues(c.Service, r.ID, quota.Descriptor(r.Cluster.Name(r.ID), r.Mode == config.Shadow))
	r.local = r.acquireValues()
	r.Queue = family.NewQueue(r.Env)
	return r
}

// Enter implements family.Checker.
func (r *clusterRule) Enter(t *family.Ticket, now int64) (*family.Refusal, error) {
	q, decided, b, err := r.ask(t, &r.local.unlimited, now)
	if decided {
		return b, err
	}
	since := r.Env.Since
	v, err := r.quotas.Take(q.hash, r.param.Joined(), since > 0, now)
	if err != nil {
		return nil, err
	}
	switch v.Outcome {
	case quota.Pass:
		t.ID, t.At, t.Again = q.hash, windowed(v.Window), q.again
		return nil, nil
	case quota.Over:
		return r.Refuse(float64(v.Limit), float64(v.Limit), r.measure, v.FreeAt, now), nil
	case quota.Pending:
		if r.Mode == config.Shadow { // it never waits, and what the service would have said is not known yet
			t.Again = q.again
			return nil, nil
		}
		if !r.Queue.IsFull() && (since == 0 || now-since < v.Patience) {
			t.At, t.Retry = now+quota.LookAgain, true
			return nil, nil
		}
	}
	return r.fallBack(q, t, now)
}

// windowed is a window of the service's in the place of the time of a bucket of this process's, or the other way round. It
// tells by its sign which of both it is.
func windowed(window int64) int64 { return -1 - window }

// fallBack decides without the service.
func (r *clusterRule) fallBack(q question, t *family.Ticket, now int64) (*family.Refusal, error) {
	if !r.Cluster.FallbackToLocalWhenFail {
		return nil, family.ErrUndecided
	}
	v, err := r.local.Take(q.hash, &r.limits, 1, 0, now)
	if err != nil {
		return nil, err
	}
	if !v.OK {
		threshold := float64(r.limits.Of(q.hash).Threshold)
		return r.Refuse(threshold, threshold, r.measure, v.FreeAt, now), nil
	}
	t.ID, t.At, t.Again = q.hash, v.At, q.again
	return nil, nil
}

// Undo implements family.Checker.
func (r *clusterRule) Undo(t family.Ticket, now int64) error {
	switch {
	case t.ID == 0:
		return nil
	case t.At < 0:
		return r.quotas.GiveBack(t.ID, windowed(t.At), now)
	}
	return r.local.GiveBack(t.ID, &r.limits, t.At, 1, now)
}

// Release implements family.Checker.
func (r *clusterRule) Release(now int64) {
	r.quotas.Release(now)
	r.releaseValues(r.local, now)
}
