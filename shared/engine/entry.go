package engine

import (
	"errors"
	"math"
	"strconv"

	"sentinel-envoy/shared/config"
	"sentinel-envoy/shared/host"
	"sentinel-envoy/shared/ledger"
)

// Entry is one request or connection in a resource. Its zero value is in none.
type Entry struct {
	filter   *Filter
	resource *resource
	start    int64
	inFlight bool
}

// Reason is the kind of rule that refused, or Unavailable.
type Reason string

// The reasons.
const (
	FlowControl Reason = "flow"
	// Unavailable: a fault of ours kept us from deciding, and the failure mode is closed.
	Unavailable Reason = "unavailable"
)

// Block says why an entry was refused. It is valid until the next call of Enter.
type Block struct {
	Reason   Reason
	Resource string
	// Rule is the id of the rule, empty with Unavailable.
	Rule      string
	Threshold float64
	// IntervalMs is the rule's statistic interval in milliseconds; Used is what its window had admitted.
	IntervalMs uint32
	Used       int64
	// RetryAfterMs is in how many milliseconds a permit will be free, −1 if never.
	RetryAfterMs int64
	hash         uint64
}

var errUnavailable = errors.New("the ledger cannot be reached")

// Enter asks whether a request or connection may enter a resource, at the time now in nanoseconds, and counts it. It
// returns nil if it may; Exit must then be called. e is overwritten. A resource that no rule and no configuration names
// is not counted and always entered.
func (f *Filter) Enter(name string, now int64, e *Entry) *Block {
	*e = Entry{}
	res := f.resources[name]
	if res == nil {
		return nil
	}
	e.filter, e.resource, e.start = f, res, now
	block := f.check(res, now)
	if block != nil && (f.cfg.Mode == config.Enforce || block.Reason == Unavailable) {
		res.node.Block(now)
		return block
	}
	if block != nil {
		res.node.Shadow++
	}
	e.inFlight = true
	f.streams++
	res.node.Pass(now)
	return nil
}

// check asks each rule of a resource. What a request took before a rule refused it is given back.
func (f *Filter) check(res *resource, now int64) *Block {
	vm := f.vm
	vm.taken = vm.taken[:0]
	for _, r := range res.flow {
		v, err := r.budget.Take(r.Threshold, now)
		vm.hold(r.budget)
		if err != nil {
			if block := f.fault(res, err); block != nil {
				vm.giveBack(now)
				return block
			}
			continue
		}
		if vm.debug {
			vm.trace(r, v)
		}
		if !v.OK {
			vm.giveBack(now)
			f.countBlock(r)
			return f.blockOf(res, r, v.Used, v.FreeAt, now)
		}
		vm.taken = append(vm.taken, permit{r.budget, v})
	}
	return nil
}

func (f *Filter) countBlock(r *flowRule) {
	if f.cfg.Mode == config.Shadow {
		r.shadow.n++
	} else {
		r.blocked.n++
	}
}

// fault counts an error of a rule's ledger, and refuses where the failure mode says so.
func (f *Filter) fault(res *resource, err error) *Block {
	f.vm.Fault("asking the ledger", err)
	if f.cfg.FailureMode == config.FailOpen {
		return nil
	}
	return &Block{Reason: Unavailable, Resource: res.name, hash: res.node.Hash}
}

// giveBack returns the permits that a request took.
func (vm *VM) giveBack(now int64) {
	for _, p := range vm.taken {
		if vm.debug {
			p.budget.audit.undo(p.verdict.At, p.budget.Window())
		}
		if err := p.budget.GiveBack(p.verdict, now); err != nil {
			vm.Fault("giving back", err)
		}
	}
	vm.taken = vm.taken[:0]
}

func (f *Filter) blockOf(res *resource, r *flowRule, used, freeAt, now int64) *Block {
	b := &Block{
		Reason: FlowControl, Resource: res.name, Rule: r.ID, Threshold: r.Threshold, IntervalMs: r.StatIntervalInMs,
		Used: used, RetryAfterMs: -1, hash: res.node.Hash,
	}
	if freeAt > 0 {
		b.RetryAfterMs = max(1, (freeAt-now+999_999)/1e6)
	}
	return b
}

// Blocked makes a block of a request that could not be decided, because of err, or nil where it shall pass. It is what
// a plugin does with a fault of its own.
func (f *Filter) Blocked(err error) *Block {
	if err == nil {
		err = errUnavailable
	}
	f.vm.Fault("deciding", err)
	if f.cfg.FailureMode == config.FailOpen {
		return nil
	}
	return &Block{Reason: Unavailable}
}

// InFlight is whether Exit has something to do.
func (e *Entry) InFlight() bool { return e.inFlight }

// Exit counts the end of an entry at the time now, in nanoseconds, and whether it failed. Calling it again does nothing.
func (e *Entry) Exit(now int64, failed bool) {
	if !e.inFlight {
		return
	}
	e.inFlight = false
	rt := min(max(now-e.start, 0)/1e6, math.MaxUint32-1)
	e.resource.node.Complete(now, uint32(rt), failed)
	e.filter.streams--
	e.filter.retire()
}

// Explain says in one line why a request was refused: the rule, what its window had admitted, and what all workers saw
// over the last second, where that is known.
func (f *Filter) Explain(b *Block, now int64) string {
	text := "blocked by " + string(b.Reason) + " rule " + b.Rule + ": " + strconv.FormatInt(b.Used, 10) + " of " +
		strconv.FormatFloat(b.Threshold, 'g', -1, 64) + " in " + strconv.FormatUint(uint64(b.IntervalMs), 10) + " ms"
	if r, ok := f.vm.rates(b.hash, now); ok {
		text += "; last second " + strconv.FormatUint(r.Pass, 10) + " passed, " + strconv.FormatUint(r.Block, 10) + " blocked"
	}
	return text + "\n"
}

// Fault counts a failure of the plugin's own.
func (f *Filter) Fault(what string, err error) { f.vm.Fault(what, err) }

// trace writes one decision to the log, and counts it for the audit.
func (vm *VM) trace(r *flowRule, v ledger.Verdict) {
	if line := r.budget.audit.count(r.budget.name, v.At, v.OK, r.budget.Window()); line != "" {
		vm.host.Log(host.Debug, line)
	}
}
