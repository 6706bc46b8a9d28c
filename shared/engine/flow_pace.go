package engine

import (
	"sentinel-envoy/shared/flow"
	"sentinel-envoy/shared/ledger"
	"sentinel-envoy/shared/rule"
)

// maxWaiting bounds the entries that wait in one worker. Beyond it, one that would have to wait is refused.
const maxWaiting = 4096

// pacedRule lets entries in one after the other, evenly spaced in the whole process. They wait for their turn.
type pacedRule struct {
	flowRule
	record ledger.ID
	pacer  *ledger.Pacer
	pace   flow.Pace
	// relation is what warms the rule up, where that is not what it lets in itself.
	relation *relation
}

func (vm *VM) newPacedRule(f flowRule) *pacedRule {
	r := &pacedRule{flowRule: f, record: f.recordID("pace")}
	r.pacer = vm.flows.pacers.acquire(r.record, func() *ledger.Pacer {
		return ledger.NewPacer(vm.table, r.record, f.window(), vm.host.Now)
	})
	r.pace = flow.Pace{IntervalMs: f.StatIntervalInMs, MaxWaitMs: f.MaxQueueingTimeMs}
	if f.warm != nil && f.RelationStrategy == rule.AssociatedResource {
		r.relation = vm.newRelation(&f)
	}
	return r
}

func (r *pacedRule) enter(now int64) (decision, error) {
	threshold, err := r.limit(now)
	if err != nil {
		return decision{}, err
	}
	warm := r.warm
	if r.relation != nil {
		if _, threshold, err = r.relation.read(threshold, now); err != nil {
			return decision{}, err
		}
		warm = nil
	}
	maxWait := int64(r.MaxQueueingTimeMs) * 1e6
	full := r.vm.flows.waiting >= maxWaiting
	if full {
		maxWait = 0
	}
	turn, err := r.pacer.Next(r.pace, threshold, warm, maxWait, now)
	if err != nil {
		return decision{}, err
	}
	if turn.OK {
		return decision{ok: true, token: token{at: turn.At}, wakeAt: turn.At}, nil
	}
	return r.refuse(turn, full, now), nil
}

// refuse says why an entry has no turn: there is none at all, it would come too late, or too many wait already.
func (r *pacedRule) refuse(turn ledger.Turn, full bool, now int64) decision {
	wait := turn.At - now
	switch {
	case r.pace.Gap(turn.Threshold) == 0:
		r.bound, r.measure = turn.Threshold, "at once"
		return decision{seen: 1}
	case full && wait <= int64(r.MaxQueueingTimeMs)*1e6:
		r.vm.flows.queueFull.n++
		r.bound, r.measure = maxWaiting, "waiting in this worker"
		return decision{seen: float64(r.vm.flows.waiting), freeAt: turn.At}
	}
	r.bound, r.measure = float64(r.MaxQueueingTimeMs), "ms to wait"
	return decision{seen: float64((wait + 999_999) / 1e6), freeAt: turn.At - int64(r.MaxQueueingTimeMs)*1e6}
}

// undo does not give the time back: others have queued behind it.
func (r *pacedRule) undo(t token, now int64) error {
	if r.warm == nil || r.relation != nil {
		return nil
	}
	return r.pacer.Forget(t.at, now)
}

func (r *pacedRule) release() {
	r.vm.flows.pacers.release(r.record)
	if r.relation != nil {
		r.relation.release()
	}
}
