package breaker

import (
	"slices"
	"strconv"

	"sentinel-envoy/shared/config"
	"sentinel-envoy/shared/family"
	"sentinel-envoy/shared/metrics"
	"sentinel-envoy/shared/record"
	"sentinel-envoy/shared/rule"
)

// kind is the circuit breakers of one worker.
type kind struct {
	family.NoKind
	env      *family.Env
	circuits family.Pool[record.ID, *circuit]
	// active are the rules whose records the next tick looks at, probing the circuits with probes under way.
	active  []*breakerRule
	probing []*circuit
	// forced are the rules that are kept in one state, of those that were asked.
	forced []*forcedRule
	// op is the one update under way, kept because it is large.
	op update
}

// New returns the circuit breakers of a worker.
func New(env *family.Env) family.Kind {
	return &kind{env: env, circuits: family.NewPool[record.ID, *circuit]()}
}

// Bind implements family.Kind. Rules with one id have one circuit, and each goes by what it says itself; windows that count
// something else have circuits of their own.
func (k *kind) Bind(r rule.Rule, f *family.Filter, resource string) family.Checker {
	of := r.(*rule.CircuitBreaker)
	b := &breakerRule{
		Base: family.NewBase(k.env, r, f, resource, resource), CircuitBreaker: of, kind: k, measure: measureOf(of),
		view: view{params: ParamsOf(of)},
	}
	gauge, changes := "sentinel_breaker_state", "sentinel_breaker_changes"
	if b.Mode == config.Shadow {
		gauge, changes = "sentinel_shadow_breaker_state", "sentinel_shadow_breaker_changes"
	}
	labels := metrics.Resource(resource) + metrics.Rule(b.Base.ID)
	if of.Forced != 0 {
		return k.newForcedRule(b.Base, of.Forced, gauge+labels)
	}
	if b.Interest = family.InFailures; of.Strategy == rule.SlowRequestRatio {
		b.Interest = family.InTimes
	}
	b.id = b.RecordID("circuit", of.Strategy.String(), strconv.FormatInt(b.params.Window.BucketNs, 10),
		strconv.Itoa(b.params.Window.Buckets))
	b.circuit = k.circuits.Acquire(b.id, func() *circuit {
		return &circuit{
			kind: k, cell: record.Cell{ID: b.id}, rule: b.Base.ID, resource: resource,
			gauge: gauge + labels, changesName: changes + labels,
		}
	})
	return b
}

// Tick implements family.Kind: it brings what was counted since the last tick into the records of the rules that were
// used, and reads them: so every worker refuses one tick after a breaker has opened. Probes stay under way.
func (k *kind) Tick(now int64) {
	kept := k.active[:0]
	for _, r := range k.active {
		r.again = false
		k.env.Check("bringing a circuit breaker up to date", r.sync(now))
		if r.active = r.again || r.pending.Total > 0; r.active {
			kept = append(kept, r)
		}
	}
	clear(k.active[len(kept):])
	k.active = kept
	k.probing = slices.DeleteFunc(k.probing, func(c *circuit) bool {
		c.tick(now)
		c.probing = len(c.running) > 0
		return !c.probing
	})
}

// Export implements family.Kind.
func (k *kind) Export(now int64) {
	k.circuits.All(func(c *circuit) { c.export(now) })
	for _, r := range k.forced {
		k.env.Metrics.Set(&r.gauge, uint64(r.phase), now)
	}
}

// Records implements family.Kind.
func (k *kind) Records(f func(family.Toucher)) { k.circuits.All(func(c *circuit) { f(c) }) }
