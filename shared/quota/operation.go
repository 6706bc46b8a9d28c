package quota

import (
	"sentinel-envoy/shared/record"
	"sentinel-envoy/shared/rls"
)

// operation is one update of a limit's record: give back, take, and begin a call where one is due.
type operation struct {
	want, back, window int64
	// missed is whether an entry that finds no permit is new, tick whether it is a tick's.
	missed, tick bool
	timeout      int64
	clock        Clock

	state   State
	granted int64
	now     int64 // the record's, once it is applied
	// before is whether the service was failing, begun whether a call is to be made.
	before, begun bool
}

// Apply implements record.Transition.
func (o *operation) Apply(dst []byte, r record.State) ([]byte, record.Outcome) {
	s := &o.state
	*s, o.granted, o.begun, o.now = State{}, 0, false, r.Now
	if r.Payload != nil && !s.Decode(r.Payload, r.Now) {
		return dst, record.Unreadable
	}
	o.before = s.Failing()
	changed := s.Expire(r.Now)
	changed = s.Return(o.window, o.back, r.Now) || changed
	if o.want > 0 {
		o.granted = s.Lease(o.want, r.Now)
		forgotten := s.Missed == 0 && s.Deadline == 0 // the last call has brought nothing
		if o.granted == 0 && (o.missed || forgotten) && r.Now >= s.Spent && !s.Failing() {
			s.Missed++
			changed = true
		}
	}
	if hits, due := o.due(r.Now); due {
		s.Begin(hits, o.timeout, r.Now)
		o.begun = true
	}
	return s.Encode(dst), record.StoreIf(changed || o.granted > 0 || o.begun || r.Lost)
}

// due is whether to call the service now, and for how many hits. One that fails is asked for none, until it answers.
func (o *operation) due(now int64) (hits int64, due bool) {
	s := &o.state
	if !s.MayCall(now) {
		return 0, false
	}
	if s.Failing() {
		return 0, true
	}
	hits = s.Want(o.clock.Next(now) > now, now)
	if hits > 0 && s.amid(now) { // it needs no clock, and the answer tells of it
		return hits, true
	}
	if hits, calibrates := s.Calibrates(&o.clock, now); calibrates && (o.tick || o.want > 0) {
		return hits, true
	}
	return hits, hits > 0
}

// answer is the update of a limit's record by an answer.
type answer struct {
	serial  int64
	failed  bool
	said    rls.Answer
	service *service

	window, once bool
	sent         int64
	state        State
	before, late bool
}

// answerWindow looks what the answer says of the service's clock.
type answerWindow struct{ *answer }

// Apply implements record.Transition.
func (o *answerWindow) Apply(dst []byte, r record.State) ([]byte, record.Outcome) {
	var s State
	o.window, o.once = false, false
	if r.Payload != nil && s.Decode(r.Payload, r.Now) && s.current(o.serial) && !o.failed {
		o.window, o.once = s.Turned(&o.said)
		o.sent = s.Sent
	}
	return dst, record.Keep
}

// observe lets the service's clock see what the answer says of it, and reads it.
func (o *answer) observe(table *record.Table, now int64) error {
	if o.failed {
		return nil
	}
	look := observation{turned: o.once, low: o.sent, high: now}
	err := table.Update(&o.service.cell, now, &look)
	if err == record.ErrContended {
		return nil // the worker's own copy of the clock is older, and no worse
	}
	o.service.clock = look.clock
	o.window = o.window && !look.contradicted
	return err
}

// Apply implements record.Transition.
func (o *answer) Apply(dst []byte, r record.State) ([]byte, record.Outcome) {
	s := &o.state
	*s = State{}
	if r.Payload != nil && !s.Decode(r.Payload, r.Now) {
		return dst, record.Unreadable
	}
	o.before = s.Failing()
	if o.late = !s.current(o.serial); o.late {
		return dst, record.Keep
	}
	if o.failed {
		s.fail(r.Now)
	} else {
		s.Answer(&o.said, &o.service.clock, o.window, r.Now)
	}
	return s.Encode(dst), record.Store
}

// observation is a look at the record of a service's clock, in which something may have been seen of it.
type observation struct {
	turned    bool
	low, high int64

	clock        Clock
	contradicted bool
}

// Apply implements record.Transition.
func (o *observation) Apply(dst []byte, r record.State) ([]byte, record.Outcome) {
	o.clock, o.contradicted = Clock{}, false
	if r.Payload != nil && !o.clock.Decode(r.Payload, r.Now) {
		return dst, record.Unreadable
	}
	if o.turned {
		o.contradicted = !o.clock.Observe(o.low, o.high)
	}
	return o.clock.Encode(dst), record.StoreIf(o.turned)
}
