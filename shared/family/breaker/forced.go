package breaker

import (
	"slices"

	"sentinel-envoy/shared/family"
	"sentinel-envoy/shared/metrics"
	"sentinel-envoy/shared/rule"
)

// forcedRule is a breaker that is kept open or closed: it counts nothing, and has no record.
type forcedRule struct {
	family.Base
	kind  *kind
	phase Phase
	gauge metrics.Gauge
	// shown is whether each export sets the gauge: once it was asked.
	shown bool
}

func (k *kind) newForcedRule(base family.Base, f rule.Forced, gauge string) *forcedRule {
	r := &forcedRule{Base: base, kind: k, phase: Closed, gauge: metrics.Gauge{Name: gauge}}
	if f == rule.ForcedOpen {
		r.phase = Open
	}
	return r
}

// Enter implements family.Checker.
func (r *forcedRule) Enter(_ *family.Ticket, now int64) (*family.Refusal, error) {
	if !r.shown {
		r.shown = true
		r.kind.forced = append(r.kind.forced, r)
	}
	if r.phase == Closed {
		return nil, nil
	}
	return r.RefusePlainly("it is forced open", now), nil
}

// Release implements family.Checker. A gauge of a rule that is gone must not stay at its last value.
func (r *forcedRule) Release(now int64) {
	if !r.shown {
		return
	}
	r.kind.forced = slices.DeleteFunc(r.kind.forced, func(o *forcedRule) bool { return o == r })
	r.Env.Metrics.Set(&r.gauge, uint64(Closed), now)
}
