// Package system is Sentinel's system rules: they limit everything that comes in while a figure of the whole process or
// machine is too high.
package system

import (
	"math"

	"sentinel-envoy/shared/family"
	"sentinel-envoy/shared/family/flow"
	"sentinel-envoy/shared/family/isolation"
	"sentinel-envoy/shared/outcome"
	"sentinel-envoy/shared/rule"
	"sentinel-envoy/shared/stat"
)

const (
	// inboundName is the statistic of all entries of the process. No resource can have the name.
	inboundName = stat.Hidden + "inbound"
	// inboundLabel is Sentinel's name of it, for metrics.
	inboundLabel = "__total_inbound_traffic__"
	qpsWindowMs  = 1000
)

// kind is the system rules of one worker.
type kind struct {
	family.NoKind
	env     *family.Env
	budgets *flow.Budgets
	counts  *isolation.Counts
	// inbound counts every entry of this worker, in all filters. It is nil until a rule looks at it.
	inbound *inbound
	// rates are those of all entries, as published, of the tick readIn; known is whether they are of use.
	rates  stat.Rates
	known  bool
	readIn uint64
}

// New returns the system rules of a worker.
func New(env *family.Env) family.Kind {
	return &kind{env: env, budgets: flow.NewBudgets(env), counts: isolation.NewCounts(env)}
}

// Bind implements family.Kind.
//
// Concurrency and inboundQPS are exact, as an isolation rule and a flow rule are. The others look at the last snapshot
// of the process, which is about two ticks behind.
func (k *kind) Bind(r rule.Rule, f *family.Filter, _ string) family.Checker {
	of := r.(*rule.System)
	base := family.NewBase(k.env, r, f, "", inboundLabel)
	// Sentinel asks for less than the trigger before the entry, not after it: the whole number above is the bound.
	bound := math.Ceil(of.TriggerCount)
	switch of.MetricType {
	case rule.SystemConcurrency:
		return isolation.NewRule(base, k.counts, int64(bound))
	case rule.SystemInboundQPS:
		id := base.RecordID("budget")
		return &inboundQPS{
			Base: base, budget: k.budgets.Acquire(id, &base, flow.WindowOf(qpsWindowMs)), of: of, bound: bound,
			capacity: flow.Capacity(bound),
		}
	}
	k.observe(of.MetricType == rule.SystemAvgRT || of.Strategy == rule.BBR)
	return &figureRule{Base: base, of: of, kind: k}
}

// Observers implements family.Kind: all entries are observed where a rule looks at them.
func (k *kind) Observers(dst []family.Observer, _ string) []family.Observer {
	if k.inbound == nil {
		return dst
	}
	return append(dst, k.inbound)
}

// Tick implements family.Kind.
func (k *kind) Tick(now int64) {
	k.budgets.Tick(now)
	k.counts.Tick(now)
}

// Export implements family.Kind.
func (k *kind) Export(now int64) {
	k.budgets.Export(now)
	k.counts.Export(now)
}

// Records implements family.Kind.
func (k *kind) Records(f func(family.Toucher)) {
	k.budgets.Records(f)
	k.counts.Records(f)
}

// inboundRates are the rates of all entries of the process, read once a tick.
func (k *kind) inboundRates(now int64) (r stat.Rates, known bool) {
	if k.readIn != k.env.Tick+1 {
		k.readIn = k.env.Tick + 1
		k.rates, k.known = k.env.Board.Rates(k.inbound.node.Hash, now)
	}
	return k.rates, k.known
}

// observe makes all entries counted, from now on and until the worker ends, where times also how long each took.
func (k *kind) observe(times bool) {
	if k.inbound == nil {
		k.inbound = &inbound{node: k.env.Nodes.Acquire(inboundName)}
		k.env.Observe()
	}
	if times && k.inbound.interest == family.InNothing {
		k.inbound.interest = family.InTimes
		k.env.Observe()
	}
}

// inbound observes all resources.
type inbound struct {
	node     *stat.Node
	interest family.Interest
}

// Interest implements family.Observer.
func (i *inbound) Interest() family.Interest { return i.interest }

// Passed implements family.Observer.
func (i *inbound) Passed(now int64) { i.node.Pass(now) }

// Refused implements family.Observer.
func (i *inbound) Refused(now int64) { i.node.Block(now) }

// Ended implements family.Observer.
func (i *inbound) Ended(end outcome.End, now int64) {
	if end.Connection {
		end.ResponseMs = outcome.NoTime
	}
	i.node.Complete(now, end)
}
