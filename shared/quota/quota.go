package quota

import (
	"errors"
	"strconv"

	"sentinel-envoy/shared/host"
	"sentinel-envoy/shared/record"
	"sentinel-envoy/shared/rls"
)

const (
	// hold is how long what a worker leases should last at its own rate, and remember how long it remembers that there is
	// nothing, in nanoseconds.
	hold     = 4 * millisecond
	remember = 2 * millisecond
	// awake is for how long after its last entry a limit is looked after in ticks.
	awake = 2 * second
	// LookAgain is after how long an entry that waits for the service looks whether it has answered, if nobody tells it, in
	// nanoseconds.
	LookAgain = 5 * millisecond
)

// Outcome is what became of an entry that asked for a permit.
type Outcome uint8

// The outcomes.
const (
	// Pass is a permit.
	Pass Outcome = iota
	// Over means that the service has no more in this window.
	Over
	// Pending means that the service has yet to answer.
	Pending
	// Down means that it does not answer.
	Down
)

// Verdict is the answer to one request for a permit.
type Verdict struct {
	Outcome Outcome
	// At is the time of the decision, in nanoseconds.
	At int64
	// Window is the window that a permit belongs to.
	Window int64
	// Limit is the service's, and FreeAt when it may have more, in nanoseconds, of an entry that is refused.
	Limit, FreeAt int64
	// Patience is for how long in all an entry should wait that is pending, in nanoseconds.
	Patience int64
}

// Quota is a limit of the service's as one worker sees it: the shared record of what the process has reserved, and what this
// worker has leased of that.
//
// The worker that finds too little left asks for more, if nobody in the process does already.
type Quota struct {
	of      *Quotas
	key     Key
	name    string
	entries []rls.Entry
	cell    record.Cell
	service *service
	refs    int

	// left permits are this worker's until ends, and belong to a window; size and since tell how fast they were spent.
	left, ends, window, size, since int64
	// refused remembers a verdict that was no permit, until refusedUntil.
	refused      Verdict
	refusedUntil int64
	// awakeUntil is until when ticks look after the limit, 0 before the first tick; failing whether it was, when it was last
	// seen.
	awakeUntil int64
	failing    bool
	// shown is the state that was exported last.
	shown uint64

	op operation
	// values is whose the limit is where it is that of one value of a parameter, and hash the value's.
	values *Values
	hash   uint64
}

// apply changes the limit's record.
func (q *Quota) apply(t record.Transition, now int64) error {
	if q.values != nil {
		t = &within{hash: q.hash, state: t}
	}
	return q.of.table.Update(&q.cell, now, t)
}

// Take asks for one permit at the time now in nanoseconds. again is whether it does so for an entry that has waited. An error
// is the host's, or record.ErrFull.
func (q *Quota) Take(again bool, now int64) (Verdict, error) {
	if q.left > 0 && now < q.ends {
		q.left--
		// What was leased belongs to no earlier time than its lease, whose reading of the clock may be later than our caller's.
		return Verdict{At: max(now, q.since), Window: q.window}, nil
	}
	q.awakeUntil = now + awake
	if now < q.refusedUntil && q.refused.Outcome != Pending {
		return q.refused, nil
	}
	op := operation{want: q.appetite(now), missed: !again, clock: q.service.clock, back: q.left, window: q.window}
	q.left = 0
	err := q.update(op, now)
	if errors.Is(err, record.ErrContended) {
		return Verdict{Outcome: Pending, At: now, Patience: q.patience(now)}, nil
	}
	if err != nil {
		return Verdict{}, err
	}
	if q.op.granted == 0 {
		return q.remember(q.op.now), nil
	}
	q.left, q.ends, q.window = q.op.granted-1, q.op.state.End, q.op.state.Window
	q.size, q.since = q.op.granted, q.op.now
	return Verdict{At: q.op.now, Window: q.window}, nil
}

// remember keeps why there is no permit for a moment.
func (q *Quota) remember(now int64) Verdict {
	s := &q.op.state
	v := Verdict{Outcome: Pending, At: now, Limit: s.Limit, Patience: q.patience(now)}
	switch {
	case s.Failing():
		v.Outcome = Down
	case now < s.Spent:
		v.Outcome, v.FreeAt = Over, s.Spent
	}
	q.refused, q.refusedUntil = v, now+remember
	if v.Outcome == Over {
		q.refusedUntil = min(q.refusedUntil, s.Spent)
	}
	return v
}

// patience is for how long an entry should wait. A call that is overdue has lost its worker, and nobody waits for that. One
// that the service answers may bring nothing yet: it takes up to a second to see its clock turn.
func (q *Quota) patience(now int64) int64 {
	timeout := int64(q.key.TimeoutMs) * millisecond
	if s := &q.op.state; s.Deadline != 0 && now-s.Begun > timeout {
		return timeout
	}
	return timeout + second + 100*millisecond
}

// appetite is how many permits this worker would spend in hold at the rate of the last lease.
func (q *Quota) appetite(now int64) int64 {
	spent, elapsed := q.size-q.left, now-q.since
	if spent <= 0 || elapsed > 1000*hold {
		return 1
	}
	return min(max(1, spent*hold/max(elapsed, 1)), growth*max(q.size, 1))
}

// GiveBack returns a permit of a window that was not used after all.
func (q *Quota) GiveBack(window, now int64) error {
	if window == q.window && now < q.ends {
		q.left++
		return nil
	}
	return q.settle(window, 1, now)
}

func (q *Quota) settle(window, n, now int64) error {
	err := q.update(operation{back: n, window: window, clock: q.service.clock}, now)
	if errors.Is(err, record.ErrContended) {
		return nil
	}
	return err
}

// tick returns what was leased and not spent, reserves ahead, and ends what is overdue.
func (q *Quota) tick(now int64) error {
	if q.awakeUntil == 0 {
		q.awakeUntil = now + awake // of its first second, to learn the service's clock before a request does
	}
	if q.left == 0 && now >= q.awakeUntil && !q.failing {
		return nil
	}
	back := q.left
	q.size -= back
	q.left = 0
	err := q.update(operation{back: back, window: q.window, clock: q.service.clock, tick: true}, now)
	if errors.Is(err, record.ErrContended) {
		return nil
	}
	return err
}

// Touch marks the records as in use; see record.Table.Touch.
func (q *Quota) Touch(now int64) error {
	if err := q.of.table.Touch(&q.service.cell, now); err != nil {
		return err
	}
	return q.of.table.Touch(&q.cell, now)
}

// update applies an operation, says what has changed with it, and makes the call that it has begun.
func (q *Quota) update(op operation, now int64) error {
	op.timeout = int64(q.key.TimeoutMs) * millisecond
	q.op = op
	if err := q.apply(&q.op, now); err != nil {
		return err
	}
	q.changed(q.op.before, errOverdue)
	if q.op.begun {
		q.call(q.op.state.Serial, q.op.state.Asked)
	}
	return nil
}

var errOverdue = errors.New("no answer")

// changed writes once in the process that the service has failed, or that it answers again.
func (q *Quota) changed(wasFailing bool, why error) {
	q.failing = q.op.state.Failing()
	if q.failing == wasFailing {
		return
	}
	if q.values != nil {
		q.values.changed(q.failing, why)
		return
	}
	q.of.Changes.N++
	if q.failing {
		q.of.host.Log(host.Warn, "rate limit service "+q.key.Cluster+": rule "+q.name+" falls back: "+why.Error())
		return
	}
	q.of.host.Log(host.Warn, "rate limit service "+q.key.Cluster+": rule "+q.name+" is limited by it again")
}

// call asks the service. Where that cannot be it has failed.
func (q *Quota) call(serial, hits int64) {
	q.of.Calls.N++
	q.of.Hits.N += uint64(hits)
	q.of.message = rls.AppendRequest(q.of.message[:0], q.key.Domain, q.entries, uint32(hits))
	q.values.called(int64(q.key.TimeoutMs)*millisecond, q.op.now)
	err := q.of.host.Call(q.key.Cluster, rls.Service, rls.Method, q.of.message, q.key.TimeoutMs, func(answer []byte, err error) {
		q.values.ended()
		q.of.check("taking an answer of the rate limit service", q.answered(serial, answer, err))
	})
	if err != nil {
		q.values.ended()
		q.of.check("noting that there is no rate limit service", q.answered(serial, nil, err))
	}
}

// answered takes the answer to a call, or that there is none.
func (q *Quota) answered(serial int64, message []byte, failed error) error {
	now := q.of.host.Now()
	q.refusedUntil = 0
	a, err := rls.Decode(message)
	switch {
	case failed != nil:
		err = failed
	case err == nil && !a.Limited && !a.Unlimited():
		err = errors.New("it has no limit for this rule in domain " + strconv.Quote(q.key.Domain))
	}
	if err != nil {
		q.of.Failed.N++
	}
	o := answer{serial: serial, failed: err != nil, said: a, service: q.service}
	if err := q.apply(&answerWindow{&o}, now); err != nil {
		return err
	}
	if err := o.observe(q.of.table, now); err != nil {
		return err
	}
	if updateErr := q.apply(&o, now); updateErr != nil {
		return updateErr
	}
	q.op.state = o.state
	if o.late {
		q.of.Late.N++
	}
	q.changed(o.before, err)
	return nil
}
