package flow

import (
	"math"

	"sentinel-envoy/shared/family"
	"sentinel-envoy/shared/record"
)

// tokenRule admits what a token bucket has tokens for, and refuses the others.
type tokenRule struct {
	flowRule
	id     record.ID
	tokens *Tokens
	bucket Bucket
}

func newTokenRule(base flowRule) *tokenRule {
	r := &tokenRule{flowRule: base, id: base.RecordID("tokens")}
	r.tokens = r.kind.tokens.Acquire(r.id, func() *Tokens { return NewTokens(r.Env.Table, r.id) })
	r.bucket = BucketOf(r.Burst, r.Threshold, r.StatIntervalInMs)
	r.tokens.of = r.bucket
	r.measure = "tokens"
	return r
}

// Enter implements family.Checker.
func (r *tokenRule) Enter(t *family.Ticket, now int64) (*family.Refusal, error) {
	n := r.cost.Permits()
	if n == 0 {
		return nil, nil
	}
	v, taken, err := r.tokens.Take(r.bucket, n, now)
	if err != nil {
		return nil, err
	}
	if v.OK {
		t.At, t.ID, t.Permits = v.At, taken, uint32(n)
		return nil, nil
	}
	return r.Refuse(v.seen(n), float64(r.Burst), r.measure, v.FreeAt, now), nil
}

// Quota implements family.Quoter.
func (r *tokenRule) Quota(_ uint64, now int64) (family.Quota, error) {
	q := family.Quota{Rule: r.ID, WindowMs: r.fillsMs(), Limit: r.Burst}
	s, known, err := r.tokens.Look(r.bucket, now)
	if err != nil || !known {
		return q, err
	}
	q.Left = max(int64(math.Floor(float64(r.Burst)-s.Used)), 0)
	q.ResetIn(now+fills(s.Used, r.bucket), now)
	return q, nil
}

// fillsMs is how long the bucket takes to fill, in milliseconds: as many as it has come back in that time, and not in the
// interval of the threshold.
func (r *tokenRule) fillsMs() int64 { return (fills(float64(r.Burst), r.bucket) + 999_999) / 1e6 }

// Undo implements family.Checker.
func (r *tokenRule) Undo(t family.Ticket, now int64) error {
	if t.Permits == 0 {
		return nil
	}
	return r.tokens.GiveBack(r.bucket, int64(t.Permits), t.ID, now)
}

// Release implements family.Checker.
func (r *tokenRule) Release(int64) { r.kind.tokens.Release(r.id, false) }
