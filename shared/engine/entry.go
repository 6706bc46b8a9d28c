package engine

import (
	"math"
	"strconv"

	"sentinel-envoy/shared/config"
	"sentinel-envoy/shared/stat"
)

// Entry is one request or connection in a resource. Its zero value is in none. It may be used again for another once it
// has ended.
type Entry struct {
	filter   *Filter
	resource *resource
	start    int64
	inFlight bool
	// inbound counts it in with all others, where something looks at that.
	inbound *stat.Node
	// next is the first rule of the resource that was not asked yet, and wakeAt when to ask it, while the entry waits.
	next   int
	wakeAt int64
	// holds are what it took and has to give back or to tell the end of.
	holds []hold
}

// hold is what an entry has taken from a rule.
type hold struct {
	rule  checker
	token token
	// exit is whether the rule must be told how the entry ended.
	exit bool
}

// Enter asks whether a request or connection may enter a resource, at the time now in nanoseconds, and counts it. It
// returns why it may not, or nil. Where it may, but must wait, Waiting says until when; Resume must then be called.
// Exit must be called at the end of whatever was not refused. e is overwritten. A resource that no rule and no
// configuration names is not counted and always entered.
func (f *Filter) Enter(name string, now int64, e *Entry) *Block {
	*e = Entry{holds: e.holds[:0]}
	res := f.last
	if res == nil || res.name != name {
		if res = f.resources[name]; res == nil {
			return nil
		}
		f.last = res
	}
	e.filter, e.resource, e.start = f, res, now
	f.streams++
	return e.proceed(now)
}

// Waiting is the time in nanoseconds until which an entry must wait, and whether it has to.
func (e *Entry) Waiting() (until int64, waits bool) { return e.wakeAt, e.wakeAt != 0 }

// Resume asks what is left to ask once an entry has waited, in another callback. It returns like Enter, and may tell it to wait again.
func (e *Entry) Resume(now int64) *Block {
	e.wait(0)
	e.filter.Stream.Begin()
	b := e.proceed(now)
	if b != nil {
		e.filter.retire()
	}
	return b
}

// wait sets until when the entry waits, 0 to end it.
func (e *Entry) wait(until int64) {
	if e.wakeAt != 0 {
		e.filter.vm.flows.waiting--
	}
	if e.wakeAt = until; until != 0 {
		e.filter.vm.flows.waiting++
	}
}

// proceed asks the rules in their order. What the entry took before one of them refused is given back.
func (e *Entry) proceed(now int64) *Block {
	f, res := e.filter, e.resource
	for e.next < len(res.rules) {
		r := res.rules[e.next]
		e.next++
		d, err := r.enter(now)
		if err != nil {
			f.vm.Fault("deciding", err)
			if f.cfg.FailureMode == config.FailOpen {
				continue
			}
			e.abandon(now)
			res.block(f.vm, now)
			return &Block{Reason: Unavailable, Resource: res.name}
		}
		if !d.ok {
			e.abandon(now)
			return e.refuse(r, d, now)
		}
		e.holds = append(e.holds, hold{rule: r, token: d.token, exit: d.exit})
		if d.wakeAt > now && f.cfg.Mode == config.Enforce {
			e.wait(d.wakeAt)
			return nil
		}
	}
	e.admit(now)
	return nil
}

// refuse counts a refusal, and lets the entry in all the same where the filter does not enforce.
func (e *Entry) refuse(r checker, d decision, now int64) *Block {
	f, res := e.filter, e.resource
	if f.cfg.Mode == config.Shadow {
		r.counters().shadow.n++
		res.node.Shadow++
		f.streams++
		e.admit(now)
		return nil
	}
	r.counters().blocked.n++
	res.block(f.vm, now)
	b := &Block{Resource: res.name, RetryAfterMs: -1, Seen: d.seen, hash: res.node.Hash}
	r.explain(b)
	if d.freeAt > 0 {
		b.RetryAfterMs = max(1, (d.freeAt-now+999_999)/1e6)
	}
	return b
}

// admit counts the entry as passed. It keeps only the holds whose rules want to hear of its end.
func (e *Entry) admit(now int64) {
	kept := e.holds[:0]
	for _, h := range e.holds {
		if h.exit {
			kept = append(kept, h)
		}
	}
	e.holds = kept
	e.inFlight = true
	e.resource.pass(e.filter.vm, now)
	if e.inbound = e.filter.vm.system.inbound; e.inbound != nil {
		e.inbound.Pass(now)
	}
}

// block counts a refusal.
func (r *resource) block(vm *VM, now int64) {
	r.node.Block(now)
	if vm.system.inbound != nil {
		vm.system.inbound.Block(now)
	}
}

// abandon gives back what an entry took: it does not enter.
func (e *Entry) abandon(now int64) {
	for _, h := range e.holds {
		if err := h.rule.undo(h.token, now); err != nil {
			e.filter.vm.Fault("giving back", err)
		}
	}
	e.holds = e.holds[:0]
	e.wait(0)
	e.filter.streams--
}

// InFlight is whether Exit has something to do.
func (e *Entry) InFlight() bool { return e.inFlight || e.wakeAt != 0 }

// FailureCounts is whether anything looks at whether the entry failed: a circuit breaker of the resource, or whoever has
// configured what a failure is. To find out costs a plugin several calls to its host.
func (e *Entry) FailureCounts() bool { return e.inFlight && e.resource.failures }

// Exit counts the end of an entry at the time now, in nanoseconds, and whether it failed. One that still waits leaves
// without having entered. Calling it again does nothing.
func (e *Entry) Exit(now int64, failed bool) {
	if !e.InFlight() {
		return
	}
	if e.inFlight {
		e.leave(now, failed)
	} else {
		e.abandon(now)
	}
	e.filter.retire()
}

func (e *Entry) leave(now int64, failed bool) {
	e.inFlight = false
	rt := uint32(min(max(now-e.start, 0)/1e6, math.MaxUint32-1))
	e.resource.node.Complete(now, rt, failed)
	if e.inbound != nil {
		e.inbound.Complete(now, rt, failed)
	}
	for _, h := range e.holds {
		if err := h.rule.exit(h.token, now, rt, failed); err != nil {
			e.filter.vm.Fault("ending an entry", err)
		}
	}
	e.holds = e.holds[:0]
	e.filter.streams--
}

// Reason is the kind of rule that refused, or Unavailable.
type Reason string

// The reasons.
const (
	FlowControl Reason = "flow"
	Isolation   Reason = "isolation"
	Hotspot     Reason = "hotspot"
	System      Reason = "system"
	// Unavailable: a fault of ours kept us from deciding, and the failure mode is closed.
	Unavailable Reason = "unavailable"
)

// Block says why an entry was refused.
type Block struct {
	Reason   Reason
	Resource string
	// Rule is the id of the rule, empty with Unavailable.
	Rule string
	// Seen is the figure that the rule looks at, Threshold its bound, and Measure what both count.
	Seen, Threshold float64
	Measure         string
	// RetryAfterMs is in how many milliseconds asking again makes sense, −1 if that is not known.
	RetryAfterMs int64
	hash         uint64
}

// Unavailable is what a plugin does with a fault of its own: the block of a request that could not be decided, or nil
// where the failure mode lets it pass.
func (f *Filter) Unavailable(err error) *Block {
	f.vm.Fault("deciding", err)
	if f.cfg.FailureMode == config.FailOpen {
		return nil
	}
	return &Block{Reason: Unavailable}
}

// Explain says in one line why a request was refused: the rule, what it saw and its threshold, and what all workers saw
// over the last second, where that is known.
func (f *Filter) Explain(b *Block, now int64) string {
	text := "blocked by " + string(b.Reason) + " rule " + b.Rule + ": " + figure(b.Seen) + " of " + figure(b.Threshold) +
		" " + b.Measure
	if r, ok := f.vm.rates(b.hash, now); ok {
		text += "; last second " + strconv.FormatUint(r.Pass, 10) + " passed, " + strconv.FormatUint(r.Block, 10) + " blocked"
	}
	return text + "\n"
}

// Figure is what the rule saw and its threshold, as "50/50".
func (b *Block) Figure() string { return figure(b.Seen) + "/" + figure(b.Threshold) }

func figure(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }

// Fault counts a failure of the plugin's own.
func (f *Filter) Fault(what string, err error) { f.vm.Fault(what, err) }
