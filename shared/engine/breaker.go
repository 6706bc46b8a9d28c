package engine

import (
	"errors"
	"math"
	"strconv"

	"sentinel-envoy/shared/breaker"
	"sentinel-envoy/shared/config"
	"sentinel-envoy/shared/host"
	"sentinel-envoy/shared/ledger"
	"sentinel-envoy/shared/rule"
)

// CircuitBreaker is the reason of a circuit breaker that is open, or half open with all its probes under way.
const CircuitBreaker Reason = "circuitBreaker"

// breakerRule is Sentinel's circuit breaker rule.
type breakerRule struct {
	*rule.CircuitBreaker
	vm      *VM
	mode    config.Mode
	circuit *circuit
	count   ruleCounters
}

// circuit is a breaker in this worker, shared by all filters that have a rule with its id. All workers share its record;
// this one reads it at most once a tick, and only while it is in use, so that most decisions cost no call to the host.
type circuit struct {
	table    *ledger.Table
	cell     ledger.Cell
	id       string
	resource string
	gauge    string
	params   breaker.Params
	refs     int

	// phase, entersAt and seen are of the record as it was in the tick with the number readIn, where fresh.
	phase    breaker.Phase
	entersAt int64
	seen     float64
	readIn   uint64
	fresh    bool

	// pending are the completions since then, all of one bucket, the first at the time since.
	pending       breaker.Counts
	bucket, since int64

	// active is whether the next tick looks at it, again whether the one after shall, too.
	active, again bool
	// told is the phase that the gauge was set to, where toldAny.
	told    breaker.Phase
	toldAny bool
}

// circuits are those of a VM.
type circuits struct {
	byID map[ledger.ID]*circuit
	// active are those that the next tick looks at.
	active []*circuit
	// atOnce is for tests: completions are counted in the record at once, not with the next tick.
	atOnce bool
	// update is the one update under way, kept because it is large.
	update circuitUpdate
}

// Touch implements toucher.
func (c *circuit) Touch(now int64) error { return c.table.Touch(&c.cell, now) }

// newBreakerRule returns the checker of a rule for one resource.
func (vm *VM) newBreakerRule(r *rule.CircuitBreaker, resource string, mode config.Mode) *breakerRule {
	return &breakerRule{
		CircuitBreaker: r, vm: vm, mode: mode,
		circuit: vm.acquireCircuit(r, resource, mode), count: newRuleCounters(resource, r.ID, CircuitBreaker),
	}
}

// acquireCircuit returns the circuit of a rule, which goes by this rule from now on. Rules with one id have one circuit;
// shadow decisions, windows that count something else, and each resource of an expression have their own.
func (vm *VM) acquireCircuit(r *rule.CircuitBreaker, resource string, mode config.Mode) *circuit {
	p := breaker.ParamsOf(r)
	of := ""
	if r.Regex {
		of = resource
	}
	id := ledger.IDOf("breaker", r.ID, of, r.Strategy.String(), strconv.FormatInt(p.Window.BucketNs, 10),
		strconv.Itoa(p.Window.Buckets), mode.String())
	c := vm.circuits.byID[id]
	if c == nil {
		gauge := "sentinel_breaker_state"
		if mode == config.Shadow {
			gauge = "sentinel_shadow_breaker_state"
		}
		c = &circuit{
			table: vm.table, cell: ledger.Cell{ID: id}, id: r.ID, resource: resource,
			gauge: gauge + ";resource=" + escape(resource) + ";rule=" + escape(r.ID),
		}
		vm.circuits.byID[id] = c
	}
	c.params = p
	c.refs++
	return c
}

// forResource implements perResource.
func (r *breakerRule) forResource(name string) checker {
	return r.vm.newBreakerRule(r.CircuitBreaker, name, r.mode)
}

func (r *breakerRule) enter(now int64) (decision, error) {
	c := r.circuit
	r.vm.useCircuit(c)
	if !c.fresh || c.readIn != r.vm.ticks {
		if err := r.vm.syncCircuit(c, now); err != nil {
			return decision{}, err
		}
	}
	if c.phase == breaker.Closed {
		return decision{ok: true, exit: true}, nil
	}
	if now < c.entersAt {
		return decision{seen: c.seen, freeAt: c.entersAt}, nil
	}
	op := r.vm.newUpdate(circuitEnter)
	done, err := r.vm.updateCircuit(c, op, now)
	if err != nil {
		return decision{}, err
	}
	if !done || !op.ok {
		return decision{seen: c.seen, freeAt: c.entersAt}, nil
	}
	return decision{ok: true, exit: true, token: probeToken(op.probe)}, nil
}

// probeToken is a probe as a token; that of an entry into a closed breaker is zero.
func probeToken(p breaker.Probe) token {
	return token{at: p.Deadline, id: p.Generation<<8 | uint64(p.Place)}
}

func tokenProbe(t token) breaker.Probe {
	return breaker.Probe{Generation: t.id >> 8, Place: int(t.id&0xff) % breaker.MaxOutstanding, Deadline: t.at}
}

func (r *breakerRule) undo(t token, now int64) error {
	if t == (token{}) {
		return nil
	}
	op := r.vm.newUpdate(circuitGiveBack)
	op.probe = tokenProbe(t)
	_, err := r.vm.updateCircuit(r.circuit, op, now)
	return err
}

// exit counts a completion. The end of a probe decides, and is told at once; one that has lost its place is a completion
// like any other.
func (r *breakerRule) exit(t token, now int64, rt uint32, failed bool) error {
	c := r.circuit
	bad := c.params.Bad(rt, failed)
	if t != (token{}) {
		op := r.vm.newUpdate(circuitConclude)
		op.probe, op.bad = tokenProbe(t), bad
		if done, err := r.vm.updateCircuit(c, op, now); !done || op.ok {
			return err
		}
	}
	return r.vm.countCompletion(c, now, bad)
}

// isProbe is whether a hold is a probe whose success the beginning of an answer is.
func (h *hold) isProbe() (r *breakerRule, ok bool) {
	r, ok = h.rule.(*breakerRule)
	return r, ok && h.token != (token{}) && r.Strategy != rule.SlowRequestRatio
}

// AwaitsAnswer is whether Answers has something to do.
func (e *Entry) AwaitsAnswer() bool {
	for i := range e.holds {
		if _, ok := e.holds[i].isProbe(); ok {
			return true
		}
	}
	return false
}

// Answers says that the service of an entry has begun to answer, at the time now in nanoseconds. Where the entry is the
// probe of a breaker that looks at failures, that is a success: a connection may last for long.
func (e *Entry) Answers(now int64) {
	for i := range e.holds {
		h := &e.holds[i]
		r, ok := h.isProbe()
		if !ok {
			continue
		}
		op := r.vm.newUpdate(circuitConclude)
		op.probe = tokenProbe(h.token)
		h.token = token{} // its end is a completion like any other
		if _, err := r.vm.updateCircuit(r.circuit, op, now); err != nil {
			r.vm.Fault("ending a probe", err)
		}
	}
}

// countCompletion counts a completion in this worker; the next tick brings it into the record.
func (vm *VM) countCompletion(c *circuit, now int64, bad bool) error {
	if c.fresh && c.readIn == vm.ticks && c.phase != breaker.Closed {
		return nil // only a closed breaker counts
	}
	vm.useCircuit(c)
	bucket := c.params.Window.Bucket(now)
	if c.pending.Total > 0 && c.bucket != bucket {
		if err := vm.syncCircuit(c, now); err != nil {
			return err
		}
	}
	if c.pending.Total == 0 {
		c.bucket, c.since = bucket, now
	}
	c.pending.Total++
	if bad {
		c.pending.Bad++
	}
	if vm.circuits.atOnce || c.params.Window.BucketNs < TickMs*1e6 {
		return vm.syncCircuit(c, now)
	}
	return nil
}

func (r *breakerRule) id() string { return r.ID }

func (r *breakerRule) explain(b *Block) {
	b.Reason, b.Rule, b.Threshold = CircuitBreaker, r.ID, r.Threshold
	switch r.Strategy {
	case rule.SlowRequestRatio:
		b.Measure = "of requests slower than " + strconv.FormatUint(r.MaxAllowedRtMs, 10) + " ms"
	case rule.ErrorRatio:
		b.Measure = "of requests failed"
	default:
		b.Measure = "failures"
	}
	b.Measure += " in " + strconv.FormatUint(uint64(r.StatIntervalMs), 10) + " ms"
}

func (r *breakerRule) counters() *ruleCounters { return &r.count }

// release gives the circuit up. A gauge of a rule that is gone must not stay at its last value.
func (r *breakerRule) release() {
	c := r.circuit
	if c.refs--; c.refs > 0 {
		return
	}
	delete(r.vm.circuits.byID, c.cell.ID)
	if c.toldAny && c.told != breaker.Closed {
		r.vm.gauge(c.gauge, uint64(breaker.Closed), r.vm.lastTick)
	}
}

// useCircuit makes the next tick look at a circuit.
func (vm *VM) useCircuit(c *circuit) {
	if !c.active {
		c.active = true
		vm.circuits.active = append(vm.circuits.active, c)
	}
}

// syncCircuits brings what was counted since the last tick into the records of the circuits that were used, and reads
// them: so every worker refuses one tick after a breaker has opened.
func (vm *VM) syncCircuits(now int64) {
	kept := vm.circuits.active[:0]
	for _, c := range vm.circuits.active {
		c.again = false
		if err := vm.syncCircuit(c, now); err != nil {
			vm.Fault("bringing a circuit breaker up to date", err)
		}
		if c.active = c.again || c.pending.Total > 0; c.active {
			kept = append(kept, c)
		}
	}
	clear(vm.circuits.active[len(kept):])
	vm.circuits.active = kept
}

// syncCircuit adds what is pending to the record, and reads it. What cannot be added for contention stays pending.
func (vm *VM) syncCircuit(c *circuit, now int64) error {
	op := vm.newUpdate(circuitAdd)
	op.counts, op.bucket, op.since = c.pending, c.bucket, c.since
	done, err := vm.updateCircuit(c, op, now)
	if done {
		c.pending = breaker.Counts{}
	}
	return err
}

// newUpdate returns the VM's one update, as a new one.
func (vm *VM) newUpdate(kind circuitKind) *circuitUpdate {
	op := &vm.circuits.update
	*op = circuitUpdate{kind: kind}
	return op
}

// updateCircuit makes a change to the record and remembers what it is then. It reports whether that was done: not where
// the host fails, and not where too many workers fight for the record.
func (vm *VM) updateCircuit(c *circuit, op *circuitUpdate, now int64) (done bool, err error) {
	op.params, op.clock, op.now = &c.params, vm.host.Now, now
	if err = vm.table.Update(&c.cell, now, op); err != nil {
		c.fresh = false
		if errors.Is(err, ledger.ErrContended) {
			err = nil
		}
		return false, err
	}
	s := &op.state
	c.phase, c.entersAt = s.Phase, s.EntersAt(&c.params, op.now)
	c.seen = math.Round(s.Seen*1e4) / 1e4 // for people
	c.fresh, c.readIn = true, vm.ticks
	if op.before != s.Phase {
		vm.host.Log(host.Info, "circuit breaker "+c.id+" of "+c.resource+": "+op.before.String()+" -> "+
			s.Phase.String()+", "+figure(c.seen)+" of "+figure(c.params.Threshold)+" "+c.params.Strategy.String())
	}
	vm.tellPhase(c, now)
	return true, nil
}

// tellPhase sets the gauge where the phase is another than was told. Two workers may do so in the wrong order: so this
// one looks again in the next tick.
func (vm *VM) tellPhase(c *circuit, now int64) {
	if c.toldAny && c.told == c.phase {
		return
	}
	c.told, c.toldAny = c.phase, true
	vm.gauge(c.gauge, uint64(c.phase), now)
	c.again = true
	vm.useCircuit(c)
}

// circuitUpdate is one change of a circuit's record.
type circuitUpdate struct {
	kind   circuitKind
	params *breaker.Params
	clock  func() int64
	now    int64 // moved forward where the record is ahead

	// counts, bucket and since are what circuitAdd adds. probe is whose end circuitConclude and circuitGiveBack tell, ok
	// whether it still had its place; or it is what circuitEnter got, ok whether the entry is admitted.
	counts        breaker.Counts
	bucket, since int64
	probe         breaker.Probe
	bad           bool
	ok            bool

	// before is the phase that was found, state what was made of it.
	before breaker.Phase
	state  breaker.State
}

type circuitKind int

const (
	circuitAdd circuitKind = iota
	circuitEnter
	circuitConclude
	circuitGiveBack
)

var _ ledger.Transition = (*circuitUpdate)(nil)

// Apply implements ledger.Transition. A record that is lost becomes a closed breaker that has counted nothing.
func (o *circuitUpdate) Apply(dst, payload []byte, lost bool) ([]byte, bool, bool) {
	s := &o.state
	*s = breaker.State{}
	if payload != nil && !s.Decode(payload, o.params.Window) {
		return dst, false, false
	}
	if s.At > o.now {
		// Somebody has written since our caller read the clock. Every writer reads the clock before it writes, so a record
		// that is ahead even of this reading was written by nobody of us.
		if o.now = max(o.now, o.clock()); s.At > o.now {
			return dst, false, false
		}
	}
	o.before = s.Phase
	if !o.change(s) && !lost {
		return dst, false, true
	}
	s.At = o.now
	return s.Encode(dst, o.params.Window), true, true
}

func (o *circuitUpdate) change(s *breaker.State) (changed bool) {
	switch o.kind {
	case circuitAdd:
		return s.Add(o.params, o.bucket, o.counts, o.since, o.now)
	case circuitConclude:
		o.ok = s.Conclude(o.params, o.probe, o.bad, o.now)
		return o.ok
	case circuitGiveBack:
		o.ok = s.GiveBack(o.probe)
		return o.ok
	}
	var isProbe bool
	o.probe, isProbe, o.ok = s.Enter(o.params, o.now)
	return isProbe || s.Phase != o.before
}
