// Package flow is Sentinel's flow rules: how many entries a resource gets per interval, and what happens to the others.
//
// Pure are the window (window.go), the warm-up (warmup.go), the pace (pace.go) and the memory (memory.go). Records are the
// budget of a rule that rejects, the tokens of one with a bucket, the throttle of one that lets wait, and what is counted of
// an associated resource.
package flow

import (
	"strconv"

	"sentinel-envoy/shared/family"
	"sentinel-envoy/shared/record"
	"sentinel-envoy/shared/rule"
)

// kind is the flow rules of one worker.
type kind struct {
	family.NoKind
	env       *family.Env
	budgets   *Budgets
	throttles family.Pool[record.ID, *sharedThrottle]
	counts    family.Pool[record.ID, *associatedCount]
	warmUps   family.Pool[record.ID, *AssociatedWarmUp]
	tokens    family.Pool[record.ID, *Tokens]
	// restoring is memory for what is read of documents, nil while there was none.
	restoring *restoring
}

// New returns the flow rules of a worker.
func New(env *family.Env) family.Kind {
	return &kind{
		env: env, budgets: NewBudgets(env),
		throttles: family.NewPool[record.ID, *sharedThrottle](),
		counts:    family.NewPool[record.ID, *associatedCount](),
		warmUps:   family.NewPool[record.ID, *AssociatedWarmUp](),
		tokens:    family.NewPool[record.ID, *Tokens](),
	}
}

// Bind implements family.Kind.
func (k *kind) Bind(r rule.Rule, f *family.Filter, resource string) family.Checker {
	flow := r.(*rule.Flow)
	base := flowRule{Base: family.NewBase(k.env, r, f, resource, resource), Flow: flow, kind: k, cost: f.Stream.Cost(flow.Cost)}
	base.measure = "in " + strconv.FormatUint(flow.IntervalMs(), 10) + " ms"
	if name := flow.Calendar.Name(); name != "" {
		base.measure = "in this " + name
	}
	switch flow.TokenCalculateStrategy {
	case rule.WarmUp:
		base.warm = NewWarmUp(flow.Threshold, flow.StatIntervalInMs, flow.WarmUpPeriodSec, flow.WarmUpColdFactor)
	case rule.MemoryAdaptive:
		base.memory = &Memory{
			Low: flow.LowMemUsageThreshold, High: flow.HighMemUsageThreshold,
			LowMark: flow.MemLowWaterMarkBytes, HighMark: flow.MemHighWaterMarkBytes,
		}
	}
	switch {
	case flow.Cluster != nil:
		return newClusterRule(base)
	case flow.Burst > 0:
		return newTokenRule(base)
	case flow.ControlBehavior == rule.Throttling:
		return newThrottlingRule(base)
	case flow.RelationStrategy == rule.AssociatedResource:
		return &relatedRule{flowRule: base, relation: newRelation(&base)}
	case flow.CountOnly != nil:
		return newAnswersRule(base)
	}
	return newRejectRule(base)
}

// Observers implements family.Kind: the counts of what other resources' rules refer to.
func (k *kind) Observers(dst []family.Observer, resource string) []family.Observer {
	k.counts.All(func(c *associatedCount) {
		if c.resource == resource {
			dst = append(dst, c)
		}
	})
	return dst
}

// Tick implements family.Kind: it returns permits, and lets the other workers see what this one has counted.
func (k *kind) Tick(now int64) {
	k.budgets.Tick(now)
	k.counts.All(func(c *associatedCount) { k.env.Check("writing a count", c.Sync(now)) })
}

// Export implements family.Kind.
func (k *kind) Export(now int64) { k.budgets.Export(now) }

// Records implements family.Kind.
func (k *kind) Records(f func(family.Toucher)) {
	k.budgets.Records(f)
	k.throttles.All(func(t *sharedThrottle) { f(t) })
	k.counts.All(func(c *associatedCount) { f(c) })
	k.warmUps.All(func(w *AssociatedWarmUp) { f(w) })
	k.tokens.All(func(t *Tokens) { f(t) })
}
