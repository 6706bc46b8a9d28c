package engine

import (
	"math/rand/v2"
	"strconv"

	"sentinel-envoy/shared/config"
	"sentinel-envoy/shared/hotspot"
	"sentinel-envoy/shared/ledger"
	"sentinel-envoy/shared/request"
	"sentinel-envoy/shared/rule"
)

// hotspots are what hotspot rules keep in a VM.
type hotspots struct {
	key    *hotspot.Key
	values registry[*hotValues]
	crowds registry[*crowd]
}

func newHotspots(table *ledger.Table) hotspots {
	return hotspots{
		// The runtime seeds it from the host's source of randomness.
		key: hotspot.NewKey(table, rand.Uint64), values: registry[*hotValues]{}, crowds: registry[*crowd]{},
	}
}

// hotValues are the values of a rule, shared by all filters that have a rule with its id.
type hotValues struct {
	*hotspot.Values
	evicted, regained counter
}

// Touch implements toucher.
func (v *hotValues) Touch(now int64) error {
	for i := range v.Pages() {
		if err := v.TouchPage(i, now); err != nil {
			return err
		}
	}
	return nil
}

// crowd are the entries in flight of a rule's values, shared like hotValues.
type crowd struct {
	*hotspot.Crowd
	full counter
}

// all are the things whose records must be marked as in use.
func (h *hotspots) all(f func(toucher)) {
	h.values.all(func(v *hotValues) { f(v) })
	h.crowds.all(func(c *crowd) { f(c) })
	if len(h.values)+len(h.crowds) > 0 {
		f(h.key)
	}
}

// tick returns permits and renews what is in flight.
func (h *hotspots) tick(vm *VM, now int64) {
	for _, s := range h.values {
		if err := s.value.Settle(now); err != nil {
			vm.Fault("returning permits", err)
		}
	}
	for _, s := range h.crowds {
		c := s.value
		if !c.Holding() {
			continue
		}
		holder, err := vm.holder(now)
		if err == nil {
			err = c.Tick(holder, now)
		}
		if err != nil {
			vm.Fault("renewing what is in flight", err)
		}
	}
}

// flush tells Envoy what was counted.
func (h *hotspots) flush(vm *VM, now int64) {
	h.values.all(func(v *hotValues) {
		v.evicted.n, v.regained.n = v.Evicted, v.Regained
		vm.check(vm.metrics.tell(&v.evicted, now))
		vm.check(vm.metrics.tell(&v.regained, now))
	})
	h.crowds.all(func(c *crowd) {
		c.full.n = c.Full
		vm.check(vm.metrics.tell(&c.full, now))
	})
}

// hotspotRule is what Sentinel's hotspot rules have in common. What has no value of the parameter is none of theirs.
type hotspotRule struct {
	*rule.Hotspot
	vm     *VM
	filter *Filter
	param  *request.Parameter
	mode   config.Mode
	record ledger.ID
	count  ruleCounters
	limits hotspot.Limits
	seed   hotspot.Seed
	// bound is the threshold of the last refusal, and measure what it counts; measures are what it can be, of a refusal by
	// the threshold and by another reason.
	bound    float64
	measure  string
	measures [2]string
}

// newHotspotRule returns the checker of a rule, for one of the resources that its expression matches where it has one.
func (f *Filter) newHotspotRule(r *rule.Hotspot, of string) checker {
	name := r.Resource
	if of != "" {
		name = of
	}
	h := hotspotRule{
		Hotspot: r, vm: f.vm, filter: f, param: f.Stream.Parameter(request.ParamOf(r)), mode: f.cfg.Mode,
		count: newRuleCounters(name, r.ID, Hotspot),
	}
	labels := ";resource=" + escape(name) + ";rule=" + escape(r.ID)
	parts := []string{
		"hotspot", r.ID, f.cfg.Mode.String(), of, r.MetricType.String(), h.param.Source.String(), h.param.Name,
		strconv.Itoa(h.param.Index), strconv.Itoa(int(h.param.Hops)),
	}
	vm := f.vm
	if r.MetricType == rule.HotspotConcurrency {
		parts = append(parts, strconv.FormatInt(r.ParamsMaxCapacity, 10))
		h.record = ledger.IDOf(parts...)
		h.measures[0] = "in flight for one " + h.param.String()
		h.measures[1] = h.measures[0] + ", and no room to count another"
		return &crowdRule{hotspotRule: h, crowd: vm.hotspots.crowds.acquire(h.record, func() *crowd {
			return &crowd{
				Crowd: hotspot.NewCrowd(vm.table, r.ParamsMaxCapacity, vm.host.Now, parts...),
				full:  counter{name: "sentinel_hotspot_full" + labels},
			}
		})}
	}
	parts = append(parts, r.ControlBehavior.String(), strconv.FormatInt(r.DurationInSec, 10),
		strconv.FormatInt(r.ParamsMaxCapacity, 10))
	h.record = ledger.IDOf(parts...)
	h.measures[0] = "in " + strconv.FormatInt(r.DurationInSec*1000, 10) + " ms for one " + h.param.String()
	h.measures[1] = "ms to wait for one " + h.param.String()
	h.limits.Limit = hotspot.Limit{
		Threshold: r.Threshold, Burst: r.BurstCount, DurationMs: r.DurationInSec * 1000,
		Paced: r.ControlBehavior == rule.Throttling, MaxWaitMs: r.MaxQueueingTimeMs,
	}
	return &valueRule{hotspotRule: h, values: vm.hotspots.values.acquire(h.record, func() *hotValues {
		return &hotValues{
			Values:   hotspot.NewValues(vm.table, r.ParamsMaxCapacity, vm.host.Now, parts...),
			evicted:  counter{name: "sentinel_hotspot_evicted" + labels},
			regained: counter{name: "sentinel_hotspot_regained" + labels},
		}
	})}
}

// hash is that of the parameter's value, and whether it has one.
func (r *hotspotRule) hash(now int64) (hash uint64, there bool, err error) {
	value, there := r.param.Value()
	if !there {
		return 0, false, nil
	}
	seed, err := r.vm.hotspots.key.Seed(now)
	if err != nil {
		return 0, true, err
	}
	if r.seed != seed {
		r.seed, r.limits.Specific = seed, nil
		if len(r.SpecificItems) > 0 {
			r.limits.Specific = make(map[uint64]int64, len(r.SpecificItems))
		}
		for _, item := range r.SpecificItems {
			r.limits.Specific[seed.Hash(item.ValStr)] = item.Threshold
		}
	}
	return seed.Hash(value), true, nil
}

// threshold is that of a value.
func (r *hotspotRule) threshold(hash uint64) int64 {
	if t, ok := r.limits.Specific[hash]; ok {
		return t
	}
	return r.Threshold
}

func (r *hotspotRule) id() string { return r.ID }

func (r *hotspotRule) explain(b *Block) {
	b.Reason, b.Rule, b.Threshold, b.Measure = Hotspot, r.ID, r.bound, r.measure
}

func (r *hotspotRule) counters() *ruleCounters { return &r.count }

// forResource implements perResource.
func (r *hotspotRule) forResource(name string) checker {
	return r.filter.newHotspotRule(r.Hotspot, name)
}

// valueRule limits how often entries of one value come.
type valueRule struct {
	hotspotRule
	values *hotValues
}

func (r *valueRule) enter(now int64) (decision, error) {
	hash, there, err := r.hash(now)
	if err != nil || !there {
		return decision{ok: true}, err
	}
	maxWait := r.limits.MaxWaitMs * 1e6
	full := r.limits.Paced && r.vm.flows.waiting >= maxWaiting
	if full {
		maxWait = 0
	}
	v, err := r.values.Take(hash, &r.limits, maxWait, now)
	if err != nil {
		return decision{}, err
	}
	if !v.OK {
		return r.refuse(hash, v, full, now), nil
	}
	d := decision{ok: true, token: token{at: v.At, id: hash}}
	if r.limits.Paced {
		d.wakeAt = v.At
	}
	return d, nil
}

// refuse says why a value gets nothing: it may have nothing at all, has had it all, would have to wait for too long, or
// too many wait already.
func (r *valueRule) refuse(hash uint64, v hotspot.Verdict, full bool, now int64) decision {
	threshold := r.threshold(hash)
	wait := v.At - now
	switch {
	case !r.limits.Paced || threshold <= 0:
		r.bound = float64(threshold)
		if threshold > 0 && !r.limits.Paced {
			r.bound += float64(r.BurstCount)
		}
		r.measure = r.measures[0]
		return decision{seen: r.bound + 1, freeAt: v.FreeAt}
	case full && wait < r.limits.MaxWaitMs*1e6:
		r.vm.flows.queueFull.n++
		r.bound, r.measure = maxWaiting, "waiting in this worker"
		return decision{seen: float64(r.vm.flows.waiting), freeAt: v.At}
	}
	r.bound, r.measure = float64(r.limits.MaxWaitMs), r.measures[1]
	return decision{seen: float64((wait + 999_999) / 1e6), freeAt: v.FreeAt}
}

func (r *valueRule) undo(t token, now int64) error {
	if t == (token{}) {
		return nil
	}
	return r.values.GiveBack(t.id, &r.limits, t.at, now)
}

func (r *valueRule) exit(token, int64, uint32, bool) error { return nil }

func (r *valueRule) release() {
	if err := r.values.Settle(r.vm.lastTick); err != nil {
		r.vm.Fault("returning permits", err)
	}
	r.vm.hotspots.values.release(r.record)
}

// crowdRule limits how many entries of one value are in flight.
type crowdRule struct {
	hotspotRule
	crowd *crowd
}

func (r *crowdRule) enter(now int64) (decision, error) {
	hash, there, err := r.hash(now)
	if err != nil || !there {
		return decision{ok: true}, err
	}
	holder, err := r.vm.holder(now)
	if err != nil {
		return decision{}, err
	}
	threshold := r.threshold(hash)
	c, err := r.crowd.Enter(holder, hash, threshold, now)
	if err != nil {
		return decision{}, err
	}
	r.bound, r.measure = float64(threshold), r.measures[0]
	if c.Full {
		r.measure = r.measures[1]
	}
	return decision{ok: c.OK, exit: true, token: token{at: now, id: hash}, seen: float64(c.InFlight)}, nil
}

func (r *crowdRule) undo(t token, now int64) error { return r.exit(t, now, 0, false) }

func (r *crowdRule) exit(t token, now int64, _ uint32, _ bool) error {
	if t == (token{}) {
		return nil
	}
	return r.crowd.Exit(t.id, now)
}

func (r *crowdRule) release() { r.vm.hotspots.crowds.release(r.record) }
