package engine

import (
	"slices"
	"strconv"

	"sentinel-envoy/shared/config"
	"sentinel-envoy/shared/family"
	"sentinel-envoy/shared/host"
	"sentinel-envoy/shared/outcome"
	"sentinel-envoy/shared/stat"
)

// Block says why an entry was refused. It is valid until the next entry is asked about.
type Block = family.Refusal

// Unavailable is the reason of a block where a fault of ours kept us from deciding, and the failure mode is closed.
const Unavailable = family.Unavailable

// Entry is one request or connection in a resource. Its zero value is in none. It may be used again for another once it
// has ended.
type Entry struct {
	filter *Filter
	// resource is the one whose rules are asked, or the last that they were; several are all where it enters more than one,
	// and spare is for that, from one time to the next.
	resource       *guarded
	several, spare *several
	inFlight       bool
	// sent is when its client sent the last of what the service has to answer, answered when the service began to, 0 if it
	// has not.
	sent, answered int64
	// observers have seen it pass; interest is what was looked at then of how it ends.
	observers []family.Observer
	interest  family.Interest
	// next is the first rule of the resource that was not asked yet, and wakeAt when to ask it, while the entry waits in
	// queue; at the end it is the first hold that was not told.
	next   int
	wakeAt int64
	queue  *family.Queue
	// ticket is what the rule that is being asked gives.
	ticket family.Ticket
	// nth is which of the stream's values that rule is asked about, and since when the entry waits for its answer, in
	// nanoseconds, 0 if it does not.
	nth   int
	since int64
	// holds are what it took and may have to give back; told is whether the rule of one wants to know its end.
	holds []hold
	told  bool
	// answers is whether the rule of one wants to know that the service begins to answer, statuses what those of all want to know
	// of what its client gets.
	answers  bool
	statuses family.Statuses
	// spared is the refusal that it was spared, because its filter or the rule does not enforce.
	spared *Block
	// wasSpared is whether there was one, also before it waited.
	wasSpared bool
	// exceeded are the rules that have let it in with a word about it.
	exceeded []string
	// quotes are the budgets that it was asked of, where clients are told what is left of them; none is left of the last where
	// spent.
	quotes []quote
	spent  bool
}

// quote is a budget, of a value of that id.
type quote struct {
	of family.Quoter
	id uint64
}

// maxQuotes bounds the budgets that a client is told of.
const maxQuotes = 16

// hold is what an entry has taken from a rule.
type hold struct {
	rule   family.Checker
	ticket family.Ticket
}

// Enter asks whether a request or connection may enter a resource, at the time now in nanoseconds, and counts it. It
// returns why it may not, or nil. Where it may, but must wait, Waiting says until when; Resume must then be called.
// Exit must be called at the end of whatever was not refused. e is overwritten. A resource that no rule and no
// configuration names is not counted and always entered.
func (f *Filter) Enter(name string, now int64, e *Entry) *Block {
	e.reset()
	res := f.last
	if res == nil || res.name != name {
		if res = f.guardedBy(name); res == nil {
			return nil
		}
		f.last = res
	}
	e.resource = res
	return e.enter(f, now)
}

// enter asks whether an entry may enter its resources.
func (e *Entry) enter(f *Filter, now int64) *Block {
	e.filter = f
	e.come()
	b := e.proceed(now)
	if f.vm.env.Debug {
		f.traceEntry(e, b, now)
	}
	return b
}

// reset makes the entry one of none, field by field: the compiler clears a large struct by a call. What it does not set, is
// only read of an entry that is in a resource, after Enter has set it.
func (e *Entry) reset() {
	e.inFlight, e.told, e.answers, e.statuses, e.sent, e.answered = false, false, false, family.NoStatus, 0, 0
	e.next, e.nth, e.since = 0, 0, 0
	e.holds, e.exceeded, e.quotes, e.wasSpared = e.holds[:0], e.exceeded[:0], e.quotes[:0], false
	if e.wakeAt = 0; e.queue != nil || e.spared != nil || e.observers != nil || e.several != nil {
		e.queue, e.spared, e.observers, e.several = nil, nil, nil, nil
	}
}

// Waiting is the time in nanoseconds until which an entry must wait, and whether it has to.
func (e *Entry) Waiting() (until int64, waits bool) { return e.wakeAt, e.wakeAt != 0 }

// AwaitsService is whether it waits for an answer of the rate limit service, and not for its turn: it may go on before.
func (e *Entry) AwaitsService() bool { return e.wakeAt != 0 && e.since != 0 }

// Resume asks what is left to ask once an entry has waited, in another callback. It returns like Enter, and the entry may
// have to wait again.
func (e *Entry) Resume(now int64) *Block {
	e.endWait()
	e.spared = nil // it was told, and is void
	e.resource.stream.Begin()
	b := e.proceed(now)
	if b != nil {
		e.gone()
	}
	return b
}

// come counts an entry that decides by the filter's rules, part one that does not any more.
func (e *Entry) come() {
	e.filter.streams++
	if e.several == nil {
		e.resource.entries++
	} else {
		e.several.count(1)
	}
}

func (e *Entry) part() {
	e.filter.streams--
	if e.several == nil {
		e.resource.entries--
	} else {
		e.several.count(-1)
	}
}

// gone gives up what the filter held for the entry alone.
func (e *Entry) gone() {
	if e.several == nil {
		if e.resource.left {
			e.resource.gone(e.filter.vm)
		}
	} else {
		e.several.gone(e.filter.vm)
	}
	e.filter.retire()
}

// gone gives up what a resource held that its filter has let go, once nothing is in it.
func (r *guarded) gone(vm *VM) {
	if r.left && r.entries == 0 {
		vm.exportOf(r)
		vm.dispose(r)
	}
}

// wait makes the entry wait in a queue until a time in nanoseconds.
func (e *Entry) wait(in *family.Queue, until int64) {
	e.queue, e.wakeAt = in, until
	in.Join()
}

// retry makes the entry wait until the rule that was asked last is asked anew.
func (e *Entry) retry(in *family.Queue, until, now int64) {
	e.next, e.nth = e.next-1, e.resource.stream.Nth
	if e.since = e.filter.vm.env.Since; e.since == 0 {
		e.since = now
	}
	e.wait(in, until)
}

// endWait ends the entry's wait, if it waits.
func (e *Entry) endWait() {
	if e.wakeAt != 0 {
		e.queue.Leave()
		e.queue, e.wakeAt = nil, 0
	}
}

// proceed asks the rules that were not asked yet. Where a fault keeps one from deciding, the failure mode does: what the
// entry took before it is given back, or the others are asked.
func (e *Entry) proceed(now int64) *Block {
	for {
		b, err := e.ask(now)
		if err == nil {
			return b
		}
		if err != family.ErrUndecided {
			e.filter.vm.Fault("deciding", err)
		}
		switch {
		case e.inFlight: // it was admitted, and counting it has failed
			return nil
		case e.failedInTrial(): // what is only tried refuses nothing
		case e.filter.cfg.FailureMode == config.FailClosed:
			e.abandon(now)
			e.resource.refuse(now)
			return &Block{Reason: Unavailable, Resource: e.resource.name, RetryAfterMs: -1}
		}
	}
}

// ask asks the rules in their order, resource by resource, until one refuses, lets the entry wait, or fails; a panic is a
// failure. What the entry took before one of them refused is given back. A rule is passed before it is asked, so that none
// is asked again that fails.
func (e *Entry) ask(now int64) (b *Block, err error) {
	done := false
	if host.Recovers {
		defer func() {
			if !done {
				err = family.Recovered(recover())
			}
		}()
	}
	b, err = e.askEach(now)
	done = true
	return b, err
}

func (e *Entry) askEach(now int64) (*Block, error) {
	f := e.filter
	for e.next < len(e.resource.rules) || e.several != nil && e.follow() {
		res, nth := e.resource, e.nth
		r := res.rules[e.next]
		res.stream.Nth, f.vm.env.Since = nth, e.since
		e.next, e.nth, e.since = e.next+1, 0, 0
		if !r.asked() || e.several.wasAsked(r) {
			continue
		}
		e.ticket = family.Ticket{}
		refusal, err := r.Enter(&e.ticket, now)
		if err != nil {
			return nil, err
		}
		if e.ticket.Retry {
			e.retry(r.Of().Queue, e.ticket.At, now)
			return nil, nil
		}
		if f.vm.env.Debug {
			r.Of().Audit.Count(refusal == nil)
		}
		if r.quoter != nil && f.Quotes() && len(e.quotes) < maxQuotes && r.enforces() {
			e.quotes, e.spent = append(e.quotes, quote{r.quoter, e.ticket.ID}), refusal != nil
		}
		if refusal != nil {
			if f.cfg.Mode == config.Enforce && r.spares() || r.Of().CandidateOf != "" {
				e.pardon(r, refusal, now)
				continue
			}
			if r.candidates {
				e.keepCandidates(r.Of().ID, now)
			}
			e.abandon(now)
			return e.refuse(r.Of(), refusal, now), nil
		}
		if e.ticket.Again {
			e.next, e.nth = e.next-1, nth+1
		}
		waits := e.ticket.Waits && r.enforces()
		asks := e.ticket.Status != family.NoStatus
		e.told = e.told || e.ticket.Exit || asks
		e.answers, e.statuses = e.answers || e.ticket.Answer, max(e.statuses, e.ticket.Status)
		// Of the others nothing can be given back any more.
		if waits || e.ticket.Exit || asks || e.next < len(res.rules) || e.several.follows() {
			e.hold(r.Checker)
		}
		if waits {
			r.Of().Waited(e.ticket.At - now)
			e.wait(r.Of().Queue, e.ticket.At)
			return nil, nil
		}
	}
	e.admit(now)
	return nil, nil
}

// hold keeps the ticket of a rule.
func (e *Entry) hold(r family.Checker) {
	n := len(e.holds)
	if n == cap(e.holds) {
		e.holds = append(e.holds, hold{})
	}
	e.holds = e.holds[:n+1]
	h := &e.holds[n]
	h.rule, h.ticket = r, e.ticket
}

// pardon counts a refusal of a rule that refuses nothing, and gives back what the entry has taken of that rule.
func (e *Entry) pardon(r *sharedChecker, b *Block, now int64) {
	by := r.Of()
	by.Shadow.N++
	e.holds = slices.DeleteFunc(e.holds, func(h hold) bool {
		if h.rule != r.Checker {
			return false
		}
		e.filter.vm.env.Check("giving back", h.undo(now))
		return true
	})
	switch {
	case by.CandidateOf != "":
	case by.Annotates:
		e.exceeded = append(e.exceeded, by.ID)
	default:
		b.Resource = e.resource.name
		e.spared, e.wasSpared = e.filter.vm.env.Spare(b), true
	}
}

// keepCandidates lets the candidates of a rule that has refused go on as if they had its place: what they have let in
// counts. What leaves again, leaves them now.
func (e *Entry) keepCandidates(rule string, now int64) {
	e.holds = slices.DeleteFunc(e.holds, func(h hold) bool {
		if h.rule.Of().CandidateOf != rule {
			return false
		}
		if h.ticket.Exit {
			e.filter.vm.env.Check("giving back", h.undo(now))
		}
		return true
	})
}

// failedInTrial is whether the rule that was asked last enforces nothing in a filter that does.
func (e *Entry) failedInTrial() bool {
	if e.next == 0 || e.filter.cfg.Mode != config.Enforce {
		return false
	}
	return e.resource.rules[e.next-1].Of().Spares()
}

// refuse counts a refusal, and lets the entry in all the same where the filter does not enforce.
func (e *Entry) refuse(by *family.Base, b *Block, now int64) *Block {
	f, res := e.filter, e.resource
	if f.cfg.Mode == config.Shadow {
		by.Shadow.N++
		e.come()
		b.Resource = res.name
		e.spared, e.wasSpared = b, true
		e.admit(now)
		return nil
	}
	by.Blocked.N++
	res.refuse(now)
	b.Resource, b.OfResource = res.name, res.block
	return b
}

// admit counts the entry as passed.
func (e *Entry) admit(now int64) {
	if e.next = 0; !e.told {
		e.holds = e.holds[:0]
	}
	e.inFlight, e.sent = true, now
	if e.wasSpared {
		e.resource.node.Shadow++
	}
	if e.several == nil {
		res := e.resource
		res.node.Pass(now)
		if e.interest = res.interest; len(res.observers) > 0 {
			e.observers = res.observers
		}
	} else {
		e.interest = e.several.pass(now)
		e.observers = e.several.observers
	}
	for _, o := range e.observers {
		o.Passed(now)
	}
}

// refuse counts a refusal.
func (r *guarded) refuse(now int64) {
	r.node.Block(now)
	for _, o := range r.observers {
		o.Refused(now)
	}
}

// abandon gives back what an entry took: it does not enter.
func (e *Entry) abandon(now int64) {
	for i := range e.holds {
		e.filter.vm.env.Check("giving back", e.holds[i].undo(now))
	}
	e.holds, e.answers, e.statuses = e.holds[:0], false, family.NoStatus
	e.endWait()
	e.part()
}

// undo gives a hold back. A panic is an error: the other holds are given back all the same.
func (h *hold) undo(now int64) (err error) {
	done := false
	if host.Recovers {
		defer func() {
			if !done {
				err = family.Recovered(recover())
			}
		}()
	}
	err = h.rule.Undo(h.ticket, now)
	done = true
	return err
}

// Spared is why an entry that entered would have been refused if its filter enforced, nil if it would not. It is valid until
// the next entry is asked about.
func (e *Entry) Spared() *Block { return e.spared }

// Exceeded are the ids of the rules that have let the entry in with a word about it. They are void with the next entry.
func (e *Entry) Exceeded() []string { return e.exceeded }

// Quotas appends what is left of the budgets that the entry was asked of, at the time now in nanoseconds, to dst: the one
// that ends first is the first.
func (e *Entry) Quotas(dst []family.Quota, now int64) []family.Quota {
	start := len(dst)
	for i, quote := range e.quotes {
		q, err := quote.of.Quota(quote.id, now)
		if e.filter.vm.env.Check("looking at a budget", err); q.Rule == "" {
			continue
		}
		if e.spent && i == len(e.quotes)-1 {
			q.Left = 0
		}
		if at := slices.IndexFunc(dst[start:], func(o family.Quota) bool { return o.Rule == q.Rule }); at >= 0 {
			if other := &dst[start+at]; q.Left < other.Left { // another value of the same parameter
				*other = q
			}
			continue
		}
		dst = append(dst, q)
	}
	leastFirst(dst[start:])
	return dst
}

// leastFirst puts quotas in order: they are few. Of equals the first stays the first.
func leastFirst(quotas []family.Quota) {
	for i := range quotas {
		for ; i > 0 && quotas[i].Left < quotas[i-1].Left; i-- {
			quotas[i], quotas[i-1] = quotas[i-1], quotas[i]
		}
	}
}

// InFlight is whether Exit has something to do.
func (e *Entry) InFlight() bool { return e.inFlight || e.wakeAt != 0 }

// FailureCounts is whether anything looks at whether the entry failed: a circuit breaker of the resource, or whoever has
// configured what a failure is. To find out costs a plugin several calls to its host.
func (e *Entry) FailureCounts() bool { return e.inFlight && e.interest == family.InFailures }

// TimeCounts is whether anything looks at how long the service took. To find out whether it was the service costs a plugin a
// call to its host.
func (e *Entry) TimeCounts() bool { return e.inFlight && e.interest >= family.InTimes }

// Recent is a time in nanoseconds at which the entry was already there, at most a tick old, for which nobody asks the host.
// It is good enough for the end of an entry of which no time counts.
func (e *Entry) Recent() int64 { return max(e.sent, e.answered, e.filter.vm.lastTick) }

// Sent says that the client has sent some more of an entry, at the time now in nanoseconds.
func (e *Entry) Sent(now int64) {
	if e.answered == 0 {
		e.sent = now
	}
}

// Answered says that the service has begun to answer an entry, at the time now in nanoseconds.
func (e *Entry) Answered(now int64) {
	if e.answered == 0 {
		e.answered = now
	}
}

// WaitMs is how long the service had something to answer until it began to, or until now, in milliseconds.
func (e *Entry) WaitMs(now int64) int64 {
	if e.answered != 0 {
		now = e.answered
	}
	return max(now-e.sent, 0) / 1e6
}

// HasAnswer is whether Answered was called.
func (e *Entry) HasAnswer() bool { return e.answered != 0 }

// AwaitsAnswer is whether Answers has something to do.
func (e *Entry) AwaitsAnswer() bool { return e.answers }

// Answers says how an entry ends if it goes on as its answer has begun.
func (e *Entry) Answers(o outcome.Outcome, now int64) {
	end := outcome.End{Outcome: o, ResponseMs: e.WaitMs(now)}
	e.answers = false
	for i := range e.holds {
		h := &e.holds[i]
		if !h.ticket.Answer {
			continue
		}
		ticket, err := h.rule.Answered(h.ticket, end, now)
		h.ticket = ticket
		e.answers = e.answers || ticket.Answer
		e.filter.vm.env.Check("observing an answer", err)
	}
}

// AwaitsStatus is whether Status has something to do, AwaitsGRPCStatus whether also with a gRPC status.
func (e *Entry) AwaitsStatus() bool { return e.statuses != family.NoStatus && e.inFlight }

// AwaitsGRPCStatus is whether a rule counts gRPC statuses, and this entry's is not known.
func (e *Entry) AwaitsGRPCStatus() bool { return e.statuses == family.GRPCStatus && e.inFlight }

// Status says with what the client of an entry is answered, by whomever, at the time now in nanoseconds. A gRPC status may be
// told after the rest.
func (e *Entry) Status(a outcome.Answer, now int64) {
	e.statuses = family.NoStatus
	for i := range e.holds {
		h := &e.holds[i]
		if h.ticket.Status == family.NoStatus {
			continue
		}
		counts, err := h.rule.Status(h.ticket, a, now)
		e.filter.vm.env.Check("counting an answer", err)
		if counts || a.HasGRPC || h.ticket.Status == family.HTTPStatus {
			h.ticket.Status = family.NoStatus
		}
		e.statuses = max(e.statuses, h.ticket.Status)
	}
}

// Exit counts the end of an entry at the time now, in nanoseconds. One that still waits leaves without having entered.
// Calling it again does nothing.
func (e *Entry) Exit(now int64, end outcome.End) {
	if !e.InFlight() {
		return
	}
	if e.inFlight {
		e.leave(now, end)
	} else {
		e.abandon(now)
	}
	e.gone()
}

func (e *Entry) leave(now int64, end outcome.End) {
	for {
		err := e.tell(end, now)
		if err == nil {
			break
		}
		e.filter.vm.Fault("ending an entry", err)
	}
	e.holds = e.holds[:0]
	e.part()
}

// tell counts the end, and tells the rules that want to know. A panic is an error. After one the next call goes on behind
// it, so that all others hear of the end.
func (e *Entry) tell(end outcome.End, now int64) (err error) {
	done := false
	if host.Recovers {
		defer func() {
			if !done {
				err = family.Recovered(recover())
			}
		}()
	}
	err = e.tellEach(end, now)
	done = true
	return err
}

func (e *Entry) tellEach(end outcome.End, now int64) error {
	if e.inFlight {
		e.inFlight = false
		if e.several == nil {
			e.resource.node.Complete(now, end)
		} else {
			e.several.complete(now, end)
		}
		for _, o := range e.observers {
			o.Ended(end, now)
		}
	}
	for e.next < len(e.holds) {
		h := &e.holds[e.next]
		if e.next++; !h.ticket.Exit {
			continue
		}
		if err := h.rule.Exit(h.ticket, end, now); err != nil {
			return err
		}
	}
	return nil
}

// Unavailable is what a plugin does with a fault of its own: the block of a request that could not be decided, or nil
// where the failure mode lets it pass.
func (f *Filter) Unavailable(err error) *Block {
	f.vm.Fault("deciding", err)
	if f.cfg.FailureMode == config.FailOpen {
		return nil
	}
	return &Block{Reason: Unavailable, RetryAfterMs: -1}
}

// Explanation is why a request was refused.
type Explanation struct {
	block Block
	// hash is the resource's. passed and blocked are what all workers saw of it over the last second, where known.
	hash, passed, blocked uint64
	known                 bool
}

// Explain says why a request was refused: the rule, what it saw and its threshold, and what all workers saw over the last
// second, where that is known.
func (f *Filter) Explain(b *Block, now int64) (e Explanation) {
	f.ExplainIn(&e, b, now)
	return e
}

// ExplainIn makes an explanation say what Explain says, and reports whether it said anything else.
func (f *Filter) ExplainIn(e *Explanation, b *Block, now int64) (changed bool) {
	if !e.block.Same(b) {
		if changed = true; e.hash == 0 || e.block.Resource != b.Resource {
			e.hash = stat.HashOf(b.Resource)
		}
		e.block = *b
	}
	r, known := f.vm.env.Board.Rates(e.hash, now)
	if r.Pass != e.passed || r.Block != e.blocked || known != e.known {
		e.passed, e.blocked, e.known, changed = r.Pass, r.Block, known, true
	}
	return changed
}

// AppendText appends the explanation to dst, in one line.
func (e Explanation) AppendText(dst []byte) []byte {
	dst = append(append(dst, "blocked by "...), e.block.Reason...)
	dst = append(append(dst, " rule "...), e.block.Rule...)
	dst = e.block.AppendText(append(dst, ": "...))
	if e.known {
		dst = strconv.AppendUint(append(dst, "; last second "...), e.passed, 10)
		dst = strconv.AppendUint(append(dst, " passed, "...), e.blocked, 10)
		dst = append(dst, " blocked"...)
	}
	return append(dst, '\n')
}
