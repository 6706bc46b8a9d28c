package flow

import (
	"sentinel-envoy/shared/family"
	"sentinel-envoy/shared/record"
	"sentinel-envoy/shared/rule"
)

// throttlingRule lets entries in one after the other, evenly spaced in the whole process. They wait for their turn.
type throttlingRule struct {
	flowRule
	id       record.ID
	throttle *sharedThrottle
	pace     Pace
	// relation is what warms the rule up, where that is not what it lets in itself.
	relation *relation
}

// sharedThrottle is a throttle that a worker's rules share, and who waits for its turns.
type sharedThrottle struct {
	*Throttle
	queue *family.Queue
}

func newThrottlingRule(base flowRule) *throttlingRule {
	r := &throttlingRule{flowRule: base, id: base.recordID("throttle")}
	r.throttle = r.kind.throttles.Acquire(r.id, func() *sharedThrottle {
		return &sharedThrottle{Throttle: NewThrottle(r.Env.Table, r.id, r.window()), queue: family.NewQueue(r.Env)}
	})
	r.Queue = r.throttle.queue
	r.pace = Pace{IntervalMs: r.StatIntervalInMs, MaxWaitMs: r.MaxQueueingTimeMs, Costs: r.cost != nil}
	if r.warm != nil && r.RelationStrategy == rule.AssociatedResource {
		r.relation = newRelation(&base)
	}
	return r
}

// Enter implements family.Checker.
func (r *throttlingRule) Enter(t *family.Ticket, now int64) (*family.Refusal, error) {
	n := r.cost.Permits()
	if n == 0 {
		return nil, nil
	}
	threshold, err := r.limit(now)
	warm := r.warm
	if r.relation != nil && err == nil {
		_, threshold, err = r.relation.read(threshold, now)
		warm = nil
	}
	if err != nil {
		return nil, err
	}
	maxWait := int64(r.MaxQueueingTimeMs) * 1e6
	full := r.Queue.IsFull()
	if full {
		maxWait = 0
	}
	turn, err := r.throttle.Next(r.pace, threshold, warm, n, maxWait, now)
	if err != nil {
		return nil, err
	}
	if turn.OK {
		t.At, t.Waits, t.Permits = turn.At, turn.At > now, uint32(n)
		return nil, nil
	}
	return r.refuse(turn, n, full, now), nil
}

// refuse says why an entry has no turn: there is none at all, it would come too late, or too many wait already.
func (r *throttlingRule) refuse(turn Turn, n int64, full bool, now int64) *family.Refusal {
	wait := turn.At - now
	switch {
	case r.pace.Gap(turn.Threshold, n) == 0:
		return r.Refuse(float64(n), turn.Threshold, "at once", 0, now)
	case full && wait <= int64(r.MaxQueueingTimeMs)*1e6:
		return r.RefuseFullQueue(turn.At, now)
	}
	freeAt := turn.At - int64(r.MaxQueueingTimeMs)*1e6
	return r.Refuse(float64((wait+999_999)/1e6), float64(r.MaxQueueingTimeMs), "ms to wait", freeAt, now)
}

// Undo implements family.Checker. It does not give the time back: others have queued behind it.
func (r *throttlingRule) Undo(t family.Ticket, now int64) error {
	if r.warm == nil || r.relation != nil || t.Permits == 0 {
		return nil
	}
	return r.throttle.Forget(t.At, int64(t.Permits), now)
}

// Release implements family.Checker.
func (r *throttlingRule) Release(int64) {
	r.kind.throttles.Release(r.id, false)
	if r.relation != nil {
		r.relation.release()
	}
}
