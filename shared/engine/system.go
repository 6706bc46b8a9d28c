package engine

import (
	"errors"
	"fmt"
	"math"

	"sentinel-envoy/shared/config"
	"sentinel-envoy/shared/flow"
	"sentinel-envoy/shared/host"
	"sentinel-envoy/shared/ledger"
	"sentinel-envoy/shared/rule"
	"sentinel-envoy/shared/stat"
	"sentinel-envoy/shared/system"
)

const (
	// inboundName is the statistic of all entries of the process. No resource can have the name.
	inboundName = "\x00inbound"
	// inboundLabel is Sentinel's name of it, for metrics.
	inboundLabel = "__total_inbound_traffic__"
	figuresKey   = "sentinel/1/system"
	qpsWindowMs  = 1000
)

// systemState is what system rules look at: all entries of the process, and the machine. Flow rules with MemoryAdaptive
// look at the machine, too.
type systemState struct {
	// inbound counts every entry of this worker, in all filters. It is nil until a rule looks at it.
	inbound *stat.Node
	// rates and figures are those of the ticks ratesAt and figuresAt; known and fresh are whether they are of use.
	rates              stat.Rates
	figures            system.Figures
	known, fresh       bool
	ratesAt, figuresAt uint64

	// source is where the figures come from, asked when it was asked last and not yet has answered, 0 if it has.
	source      *config.SystemSource
	asked, next int64
	told        bool // whether the gauge of stale figures was ever set
}

// newSystemRule returns the checker of a rule.
//
// Concurrency and inboundQPS are exact, as an isolation rule and a flow rule are. The others look at the last snapshot
// of the process, which is about two ticks behind.
func (vm *VM) newSystemRule(r *rule.System, mode config.Mode) checker {
	id := ledger.IDOf("system", r.ID, mode.String(), r.MetricType.String())
	// Sentinel asks for less than the trigger before the entry, not after it: the whole number above is the bound.
	bound := math.Ceil(r.TriggerCount)
	switch r.MetricType {
	case rule.SystemConcurrency:
		return vm.newConcurrencyRule(System, r.ID, inboundLabel, int64(bound), id)
	case rule.SystemInboundQPS:
		b := vm.acquireBudget(id, r.ID, flow.WindowOf(qpsWindowMs))
		return &inboundRule{systemRule: vm.systemRule(r), budget: b, bound: bound}
	}
	if vm.system.inbound == nil {
		vm.system.inbound = vm.nodes.Acquire(inboundName)
	}
	return vm.systemRule(r)
}

func (vm *VM) systemRule(r *rule.System) *systemRule {
	return &systemRule{System: r, vm: vm, count: newRuleCounters(inboundLabel, r.ID, System)}
}

// systemRule is one that compares a published figure with its trigger.
type systemRule struct {
	*rule.System
	vm    *VM
	count ruleCounters
}

func (r *systemRule) enter(now int64) (decision, error) {
	if err := r.vm.readSystem(now); err != nil {
		return decision{}, err
	}
	seen, over := r.look(&r.vm.system)
	return decision{ok: !over, seen: seen}, nil
}

// look returns the figure of the rule, and whether it refuses for it. What is not known refuses nothing.
func (r *systemRule) look(s *systemState) (seen float64, over bool) {
	switch r.MetricType {
	case rule.SystemAvgRT:
		if s.known && s.rates.Complete > 0 {
			seen = float64(s.rates.RT / s.rates.Complete) // in whole milliseconds, as Sentinel's
		}
		return seen, seen >= r.TriggerCount
	case rule.SystemLoad:
		seen = s.figures.Load
	case rule.SystemCPUUsage:
		seen = s.figures.CPU
	}
	if !s.fresh || seen == system.Unknown || seen <= r.TriggerCount {
		return seen, false
	}
	return seen, r.Strategy != rule.BBR || s.congested()
}

// congested is Sentinel's estimate for BBR.
func (s *systemState) congested() bool {
	return s.known && system.Congested(s.rates.InFlight, s.rates.MaxComplete, stat.BucketMs, s.rates.MinRT)
}

func (r *systemRule) undo(token, int64) error { return nil }

func (r *systemRule) exit(token, int64, uint32, bool) error { return nil }

func (r *systemRule) id() string { return r.ID }

func (r *systemRule) explain(b *Block) {
	b.Reason, b.Rule, b.Threshold = System, r.ID, r.TriggerCount
	b.Measure = map[rule.SystemMetric]string{
		rule.SystemAvgRT: "ms on average", rule.SystemInboundQPS: "in 1000 ms",
		rule.SystemLoad: "load of the machine", rule.SystemCPUUsage: "CPU usage of the machine",
	}[r.MetricType]
}

func (r *systemRule) counters() *ruleCounters { return &r.count }

func (r *systemRule) release() {}

// inboundRule is at most so many entries in a second.
type inboundRule struct {
	*systemRule
	budget *budget
	bound  float64
}

func (r *inboundRule) enter(now int64) (decision, error) {
	v, err := r.budget.Take(r.bound, now)
	r.vm.hold(r.budget)
	if err != nil {
		return decision{}, err
	}
	return decision{ok: v.OK, token: token{at: v.At}, seen: float64(v.Used), freeAt: v.FreeAt}, nil
}

func (r *inboundRule) undo(t token, now int64) error { return r.budget.GiveBack(t.at, now) }

func (r *inboundRule) release() { r.vm.releaseBudget(r.budget) }

// readSystem brings what system rules look at up to date, once a tick.
func (vm *VM) readSystem(now int64) error {
	s := &vm.system
	if s.ratesAt != vm.ticks+1 {
		s.ratesAt = vm.ticks + 1
		s.rates, s.known = vm.rates(s.inbound.Hash, now)
	}
	return vm.readFigures(now)
}

// readFigures brings the figures of the machine up to date, once a tick.
func (vm *VM) readFigures(now int64) error {
	s := &vm.system
	if s.figuresAt == vm.ticks+1 {
		return nil
	}
	s.figuresAt = vm.ticks + 1
	if s.fresh = false; s.source == nil {
		return nil
	}
	record, _, err := vm.host.Get(figuresKey)
	if err != nil && !errors.Is(err, host.ErrNotFound) {
		return err
	}
	s.figures, s.fresh = system.Decode(record)
	s.fresh = s.fresh && !s.figures.Stale(now)
	return nil
}

// findSource makes the first source of the filters in force that of the VM.
func (vm *VM) findSource() {
	vm.system.source = nil
	for _, f := range vm.filters {
		if f.source != nil && (vm.system.source == nil || !f.draining) {
			vm.system.source = f.source
			if !f.draining {
				return
			}
		}
	}
}

// AskSource returns where to ask for the figures of the machine, and when it is this filter's turn to do so at the time
// now. Whatever comes of it, Answered must be told; a source that has not answered for two intervals is asked again.
func (f *Filter) AskSource(now int64) (source *config.SystemSource, due bool) {
	s := &f.vm.system
	if s.source == nil || s.source != f.source || !f.vm.role.Mine || f.draining || now < s.next {
		return nil, false
	}
	interval := int64(s.source.IntervalMs) * 1e6
	if s.asked != 0 && now-s.asked < 2*interval {
		return nil, false
	}
	s.asked, s.next = now, now+interval
	return s.source, true
}

// Answered tells what the source has answered, or what has failed.
func (f *Filter) Answered(answer []byte, failed error, now int64) {
	f.vm.system.asked = 0
	if err := f.vm.publishFigures(f.source, answer, failed, now); err != nil {
		f.vm.Fault("reading system_source", err)
	}
}

// publishFigures lets all workers know what the source has answered.
func (vm *VM) publishFigures(source *config.SystemSource, answer []byte, failed error, now int64) error {
	if failed != nil {
		return failed
	}
	record, cas, err := vm.host.Get(figuresKey)
	before, intact := system.Decode(record)
	switch {
	case errors.Is(err, host.ErrNotFound):
		cas = host.CreateOnly
	case err != nil:
		return err
	case !intact:
		vm.corrupt++
	}
	figures, err := system.Read(answer, before, now, int64(source.IntervalMs)*1e6)
	if err != nil {
		return fmt.Errorf("%s%s: %w", source.Authority, source.Path, err)
	}
	if err = vm.host.Set(figuresKey, figures.Encode(nil), cas); errors.Is(err, host.ErrCASMismatch) {
		return nil // an aggregator before or after this one
	}
	return err
}

// tellSource sets the gauge that says whether the figures of the machine are too old to be of use.
func (vm *VM) tellSource(now int64) {
	s := &vm.system
	if s.source == nil && !s.told || !vm.role.Mine {
		return
	}
	s.told = true
	stale := uint64(0)
	if s.source != nil {
		record, _, err := vm.host.Get(figuresKey)
		if figures, ok := system.Decode(record); err != nil || !ok || figures.Stale(now) {
			stale = 1
		}
	}
	vm.gauge("sentinel_system_source_stale", stale, now)
}
