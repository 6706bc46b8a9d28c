package flow

import (
	"sentinel-envoy/shared/record"
	"sentinel-envoy/shared/rule"
)

// Turn is the answer to one request for a time.
type Turn struct {
	OK bool
	// At is the time in nanoseconds at which the entry may pass; of a refused one, at which it could have.
	At int64
	// Threshold is what held, in permits per interval.
	Threshold float64
}

// Throttle gives out times, each a gap after the one before, in the whole process. A time that was given out is used, also
// where whoever asked for it leaves or dies: others have queued behind it.
type Throttle struct {
	table  *record.Table
	cell   record.Cell
	window Window
	op     pacing

	// refused is a turn that came too late for whoever could wait for so long, in nanoseconds, at that pace. It holds until
	// refusedUntil: times that are given out only become later.
	refused      Turn
	refusedPace  Pace
	refusedWait  int64
	refusedNeed  int64
	refusedUntil int64
}

// NewThrottle returns the throttle with that id in a table. window is what a rule that warms up counts in.
func NewThrottle(table *record.Table, id record.ID, window Window) *Throttle {
	return &Throttle{table: table, cell: record.Cell{ID: id}, window: window}
}

// Next asks for a time for n permits, now or at most maxWait nanoseconds after, under a threshold. warm is nil, or makes the
// threshold of how much was let in. An error is the host's, or record.ErrFull; a record that too many workers fight for
// refuses.
func (t *Throttle) Next(pace Pace, threshold float64, warm *WarmUp, n, maxWait, now int64) (Turn, error) {
	if warm == nil && now < t.refusedUntil && threshold == t.refused.Threshold && pace == t.refusedPace &&
		maxWait <= t.refusedWait && n == t.refusedNeed {
		return t.refused, nil
	}
	t.op = pacing{window: t.window, pace: pace, n: n, maxWait: maxWait, warm: warm, turn: Turn{Threshold: threshold}}
	switch err := t.table.Update(&t.cell, now, &t.op); err {
	case nil:
		t.remember(now)
		return t.op.turn, nil
	case record.ErrContended:
		return Turn{At: t.op.turn.At, Threshold: t.op.turn.Threshold}, nil
	default:
		return Turn{}, err
	}
}

// remember keeps a refusal for a moment: it holds for at most refusalMs.
func (t *Throttle) remember(now int64) {
	t.refusedUntil = 0
	if turn := t.op.turn; !turn.OK && t.op.warm == nil {
		t.refused, t.refusedPace, t.refusedWait, t.refusedNeed = turn, t.op.pace, t.op.maxWait, t.op.n
		t.refusedUntil = min(now+refusalMs*1e6, turn.At-t.op.maxWait)
	}
}

// Forget takes an entry of n permits out of the count that warms a rule up: it did not enter after all at the time at that
// it was given. The time stays taken.
func (t *Throttle) Forget(at, n, now int64) error {
	err := t.table.Update(&t.cell, now, &forgetting{window: t.window, at: at, n: n})
	if err == record.ErrContended {
		return nil
	}
	return err
}

// Touch marks the record as in use; see record.Table.Touch.
func (t *Throttle) Touch(now int64) error { return t.table.Touch(&t.cell, now) }

// pacing is one update of a throttle's record: give out a time.
type pacing struct {
	window  Window
	pace    Pace
	n       int64
	maxWait int64
	warm    *WarmUp // nil: the threshold is turn's
	turn    Turn
}

// Apply implements record.Transition.
func (o *pacing) Apply(dst []byte, r record.State) ([]byte, record.Outcome) {
	var s PaceState
	if r.Payload != nil && (!s.Decode(r.Payload) || o.ahead(&s, r.Now)) {
		return dst, record.Unreadable
	}
	if r.Lost { // the last time given out is not known, but that nobody waits for longer
		s.Last = r.Now + int64(o.pace.MaxWaitMs)*1e6
		if o.pace.Costs {
			s.Last += int64(o.pace.IntervalMs) * 1e6
		}
	}
	warmed := o.warmUp(&s, r.Now)
	gap, all := o.pace.Gap(o.turn.Threshold, 1), o.pace.Gap(o.turn.Threshold, o.n)
	o.turn.At, o.turn.OK = r.Now, false
	if all > 0 {
		o.turn.At, o.turn.OK = s.Next(gap, all-gap, o.maxWait, r.Now)
	}
	if o.turn.OK && o.warm != nil {
		s.Count(o.window, o.turn.At, r.Now, o.n)
	}
	return s.Encode(dst), record.StoreIf(o.turn.OK || warmed || r.Lost)
}

// ahead is whether a state is of a time to come: nobody of us has made it.
func (o *pacing) ahead(s *PaceState, now int64) bool {
	return s.Last > now+rule.FarthestTurn || s.Filled > Second(now) || s.Ahead(o.window, now)
}

// warmUp finds the threshold, and reports whether that changed the state.
func (o *pacing) warmUp(s *PaceState, now int64) bool {
	if o.warm == nil {
		return false
	}
	before := s.Warmth
	o.warm.Advance(&s.Warmth, Second(now), s.Previous(o.window, now))
	o.turn.Threshold = o.warm.Threshold(s.Warmth)
	return s.Warmth != before
}

// forgetting is one update of a throttle's record: an entry does not count.
type forgetting struct {
	window Window
	at, n  int64
}

// Apply implements record.Transition.
func (o *forgetting) Apply(dst []byte, r record.State) ([]byte, record.Outcome) {
	var s PaceState
	if r.Lost || !s.Decode(r.Payload) || s.Filled == 0 {
		return dst, record.Keep
	}
	s.Count(o.window, o.at, r.Now, -o.n)
	return s.Encode(dst), record.Store
}
