// Package authority is Java Sentinel's authority rules: they say whose requests a resource takes. They count nothing, and have
// no record.
package authority

import (
	"sentinel-envoy/shared/family"
	"sentinel-envoy/shared/rule"
)

// kind is the authority rules of one worker.
type kind struct {
	family.NoKind
	env *family.Env
}

// New returns the authority rules of a worker.
func New(env *family.Env) family.Kind { return &kind{env: env} }

// Bind implements family.Kind.
func (k *kind) Bind(r rule.Rule, f *family.Filter, resource string) family.Checker {
	of := r.(*rule.Authority)
	return &authorityRule{
		Base: family.NewBase(k.env, r, f, resource, resource), Authority: of, refused: family.NewOrigins(of.Refused, f.Stream),
	}
}

// Tick implements family.Kind.
func (k *kind) Tick(int64) {}

// Records implements family.Kind.
func (k *kind) Records(func(family.Toucher)) {}

// authorityRule refuses what comes from some origins.
type authorityRule struct {
	family.Base
	*rule.Authority
	refused *family.Origins
}

// Enter implements family.Checker.
func (r *authorityRule) Enter(_ *family.Ticket, now int64) (*family.Refusal, error) {
	switch {
	case r.refused.None():
		if r.EmptyOrigin == rule.BlockEmpty {
			return r.RefusePlainly("it names no origin", now), nil
		}
	case r.refused.Some():
		return r.RefusePlainly("its origin may not enter", now), nil
	}
	return nil, nil
}
