package ledger

import "sentinel-envoy/shared/flow"

// Warmer is the threshold of a rule that warms up with another resource than it limits. It is the same for the whole
// process, and for a whole second.
type Warmer struct {
	table *Table
	cell  Cell
	clock func() int64

	// threshold holds in a second, for a warm-up.
	threshold float64
	second    int64
	warm      *flow.WarmUp
	op        warming
}

// NewWarmer returns the warmer with that id in a table. clock is as in NewBudget.
func NewWarmer(table *Table, id ID, clock func() int64) *Warmer {
	return &Warmer{table: table, cell: Cell{ID: id}, clock: clock}
}

// Threshold is what holds at the time now, in permits per interval; passed is how many entries were counted in the
// interval before. An error is the host's, or ErrFull; where too many workers fight for the record it is 0.
func (w *Warmer) Threshold(warm *flow.WarmUp, passed, now int64) (float64, error) {
	if flow.Second(now) == w.second && warm == w.warm {
		return w.threshold, nil
	}
	w.op = warming{warmer: w, warm: warm, passed: passed, now: now}
	switch err := w.table.Update(&w.cell, now, &w.op); err {
	case nil:
	case ErrContended:
		return 0, nil
	default:
		return 0, err
	}
	w.second, w.warm, w.threshold = w.op.state.Filled, warm, warm.Threshold(w.op.state)
	return w.threshold, nil
}

// Touch marks the record as in use; see Table.Touch.
func (w *Warmer) Touch(now int64) error { return w.table.Touch(&w.cell, now) }

// warming is one update of a warmer's record: bring it up to the second.
type warming struct {
	warmer      *Warmer
	warm        *flow.WarmUp
	passed, now int64
	state       flow.Warmth
}

// Apply implements Transition. A record that was lost is as cold as one that never was.
func (o *warming) Apply(dst, payload []byte, lost bool) ([]byte, bool, bool) {
	o.state = flow.Warmth{}
	if payload != nil && !o.state.Decode(payload) {
		return dst, false, false
	}
	if o.state.Filled > flow.Second(o.now) {
		if o.now = max(o.now, o.warmer.clock()); o.state.Filled > flow.Second(o.now) {
			return dst, false, false
		}
	}
	before := o.state.Filled
	o.warm.Advance(&o.state, flow.Second(o.now), o.passed)
	return o.state.Encode(dst), o.state.Filled != before, true
}
