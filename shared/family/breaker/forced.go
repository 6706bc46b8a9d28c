package breaker

import (
	"sentinel-envoy/shared/family"
	"sentinel-envoy/shared/rule"
)

// forcedRule is a breaker that is kept open or closed: it counts nothing, and has no record.
type forcedRule struct {
	family.Base
	phase Phase
	gauge string
	shown bool
}

func newForcedRule(base family.Base, f rule.Forced, gauge string) *forcedRule {
	r := &forcedRule{Base: base, phase: Closed, gauge: gauge}
	if f == rule.ForcedOpen {
		r.phase = Open
	}
	return r
}

// Enter implements family.Checker.
func (r *forcedRule) Enter(_ *family.Ticket, now int64) (*family.Refusal, error) {
	if !r.shown {
		r.shown = true
		r.Env.Metrics.Gauge(r.gauge, uint64(r.phase), now)
	}
	if r.phase == Closed {
		return nil, nil
	}
	return r.RefusePlainly("it is forced open", now), nil
}

// Release implements family.Checker. A gauge of a rule that is gone must not stay at its last value.
func (r *forcedRule) Release(now int64) {
	if r.shown && r.phase != Closed {
		r.Env.Metrics.Gauge(r.gauge, uint64(Closed), now)
	}
}
