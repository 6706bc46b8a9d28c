package isolation

import (
	"sentinel-envoy/shared/family"
	"sentinel-envoy/shared/outcome"
	"sentinel-envoy/shared/rule"
)

// kind is the isolation rules of one worker.
type kind struct {
	family.NoKind
	env    *family.Env
	counts *Counts
}

// New returns the isolation rules of a worker.
func New(env *family.Env) family.Kind { return &kind{env: env, counts: NewCounts(env)} }

// Bind implements family.Kind.
func (k *kind) Bind(r rule.Rule, f *family.Filter, resource string) family.Checker {
	base := family.NewBase(k.env, r, f, resource, resource)
	return NewRule(base, k.counts, int64(r.(*rule.Isolation).Threshold))
}

// Tick implements family.Kind.
func (k *kind) Tick(now int64) { k.counts.Tick(now) }

// Export implements family.Kind.
func (k *kind) Export(now int64) { k.counts.Export(now) }

// Records implements family.Kind.
func (k *kind) Records(f func(family.Toucher)) { k.counts.Records(f) }

// Rule lets at most threshold entries be in flight in all workers: Sentinel's isolation rule, and its system rule for
// concurrency.
type Rule struct {
	family.Base
	threshold int64
	count     *SharedCount
}

// NewRule returns the checker of a rule that counts in one of counts.
func NewRule(base family.Base, counts *Counts, threshold int64) *Rule {
	r := &Rule{Base: base, threshold: threshold}
	r.count = counts.Acquire(r.RecordID("concurrency"), &r.Base)
	return r
}

// Enter implements family.Checker.
func (r *Rule) Enter(t *family.Ticket, now int64) (*family.Refusal, error) {
	if holder, held := r.Env.Worker.Identity(); held && r.count.enterLeased(holder, r.threshold, now) {
		t.Exit = true
		return nil, nil
	}
	return r.take(t, now)
}

func (r *Rule) take(t *family.Ticket, now int64) (*family.Refusal, error) {
	holder, err := r.Env.Worker.Identify(now)
	if err != nil {
		return nil, err
	}
	v, err := r.count.Enter(holder, r.threshold, now)
	switch {
	case err != nil:
		return nil, err
	case !v.OK:
		return r.Refuse(float64(v.InFlight), float64(r.threshold), "in flight", 0, now), nil
	}
	t.Exit = true
	return nil, nil
}

// Undo implements family.Checker.
func (r *Rule) Undo(_ family.Ticket, now int64) error { return r.count.Exit(now) }

// Exit implements family.Checker.
func (r *Rule) Exit(_ family.Ticket, _ outcome.End, now int64) error { return r.count.Exit(now) }

// Release implements family.Checker.
func (r *Rule) Release(now int64) { r.count.Release(now) }
