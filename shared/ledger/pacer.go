package ledger

import "sentinel-envoy/shared/flow"

// farthest is the longest that a rule may let entries wait, in nanoseconds: maxQueueingTimeMs has 32 bits. A record that
// has given out a later time was written by nobody of us.
const farthest = (1 << 32) * 1e6

// Turn is the answer to one request for a time.
type Turn struct {
	OK bool
	// At is the time in nanoseconds at which the entry may pass; of a refused one, at which it could have.
	At int64
	// Threshold is what held, in permits per interval.
	Threshold float64
}

// Pacer gives out times, each a gap after the one before, in the whole process. A time that was given out is used, also
// where whoever asked for it leaves or dies: others have queued behind it.
type Pacer struct {
	table  *Table
	cell   Cell
	window flow.Window
	clock  func() int64
	op     pacing
}

// NewPacer returns the pacer with that id in a table. window is what a rule that warms up counts in; clock is as in
// NewBudget.
func NewPacer(table *Table, id ID, window flow.Window, clock func() int64) *Pacer {
	return &Pacer{table: table, cell: Cell{ID: id}, window: window, clock: clock}
}

// Next asks for a time, now or at most maxWait nanoseconds after, under a threshold. warm is nil, or makes the threshold
// of how much was let in. An error is the host's, or ErrFull; a record that too many workers fight for refuses.
func (p *Pacer) Next(pace flow.Pace, threshold float64, warm *flow.WarmUp, maxWait, now int64) (Turn, error) {
	p.op = pacing{pacer: p, now: now, pace: pace, maxWait: maxWait, warm: warm, turn: Turn{Threshold: threshold}}
	switch err := p.table.Update(&p.cell, now, &p.op); err {
	case nil:
		return p.op.turn, nil
	case ErrContended:
		return Turn{At: p.op.turn.At, Threshold: p.op.turn.Threshold}, nil
	default:
		return Turn{}, err
	}
}

// Forget takes an entry out of the count that warms a rule up: it did not enter after all at the time at that it was
// given. The time stays taken.
func (p *Pacer) Forget(at, now int64) error {
	err := p.table.Update(&p.cell, now, &forgetting{pacer: p, at: at, now: now})
	if err == ErrContended {
		return nil
	}
	return err
}

// Touch marks the record as in use; see Table.Touch.
func (p *Pacer) Touch(now int64) error { return p.table.Touch(&p.cell, now) }

// pacing is one update of a pacer's record: give out a time.
type pacing struct {
	pacer   *Pacer
	now     int64 // moved forward where the record is ahead
	pace    flow.Pace
	maxWait int64
	warm    *flow.WarmUp // nil: the threshold is turn's
	turn    Turn
}

// Apply implements Transition.
func (o *pacing) Apply(dst, payload []byte, lost bool) ([]byte, bool, bool) {
	var s flow.PaceState
	if payload != nil && !s.Decode(payload) {
		return dst, false, false
	}
	if o.behind(&s) {
		if o.now = max(o.now, o.pacer.clock()); o.behind(&s) {
			return dst, false, false
		}
	}
	if lost { // the last time given out is not known, but that nobody waits for longer
		s.Last = o.now + int64(o.pace.MaxWaitMs)*1e6
	}
	warmed := o.warmUp(&s)
	gap := o.pace.Gap(o.turn.Threshold)
	o.turn.At, o.turn.OK = o.now, false
	if gap > 0 {
		o.turn.At, o.turn.OK = s.Next(gap, o.maxWait, o.now)
	}
	if o.turn.OK && o.warm != nil {
		s.Count(o.pacer.window, o.turn.At, o.now, 1)
	}
	return s.Encode(dst), o.turn.OK || warmed || lost, true
}

// behind is whether the operation's time is before that of the record, as of Budget.
func (o *pacing) behind(s *flow.PaceState) bool {
	return s.Last > o.now+farthest || s.Filled > flow.Second(o.now) || s.Ahead(o.pacer.window, o.now)
}

// warmUp finds the threshold, and reports whether that changed the state.
func (o *pacing) warmUp(s *flow.PaceState) bool {
	if o.warm == nil {
		return false
	}
	before := s.Warmth
	o.warm.Advance(&s.Warmth, flow.Second(o.now), s.Previous(o.pacer.window, o.now))
	o.turn.Threshold = o.warm.Threshold(s.Warmth)
	return s.Warmth != before
}

// forgetting is one update of a pacer's record: an entry does not count.
type forgetting struct {
	pacer   *Pacer
	at, now int64
}

// Apply implements Transition.
func (o *forgetting) Apply(dst, payload []byte, lost bool) ([]byte, bool, bool) {
	var s flow.PaceState
	if lost || !s.Decode(payload) || s.Filled == 0 {
		return dst, false, true
	}
	s.Count(o.pacer.window, o.at, o.now, -1)
	return s.Encode(dst), true, true
}
