package flow

import "sentinel-envoy/shared/record"

// AssociatedWarmUp is the threshold of a rule that warms up with another resource than it limits. It is the same for the
// whole process, and for a whole second.
type AssociatedWarmUp struct {
	table *record.Table
	cell  record.Cell

	// threshold holds in a second, for a warm-up.
	threshold float64
	second    int64
	warm      *WarmUp
	op        warming
}

// NewAssociatedWarmUp returns the threshold with that id in a table.
func NewAssociatedWarmUp(table *record.Table, id record.ID) *AssociatedWarmUp {
	return &AssociatedWarmUp{table: table, cell: record.Cell{ID: id}}
}

// Threshold is what holds at the time now, in permits per interval; passed is how many entries were counted in the
// interval before. An error is the host's, or record.ErrFull; where too many workers fight for the record it is 0.
func (a *AssociatedWarmUp) Threshold(warm *WarmUp, passed, now int64) (float64, error) {
	if Second(now) == a.second && warm == a.warm {
		return a.threshold, nil
	}
	a.op = warming{warm: warm, passed: passed}
	switch err := a.table.Update(&a.cell, now, &a.op); err {
	case nil:
	case record.ErrContended:
		return 0, nil
	default:
		return 0, err
	}
	a.second, a.warm, a.threshold = a.op.state.Filled, warm, warm.Threshold(a.op.state)
	return a.threshold, nil
}

// Touch marks the record as in use; see record.Table.Touch.
func (a *AssociatedWarmUp) Touch(now int64) error { return a.table.Touch(&a.cell, now) }

// warming is one update of a warm-up's record: bring it up to the second.
type warming struct {
	warm   *WarmUp
	passed int64
	state  Warmth
}

// Apply implements record.Transition. A record that was lost is as cold as one that never was.
func (o *warming) Apply(dst []byte, r record.State) ([]byte, record.Outcome) {
	o.state = Warmth{}
	if r.Payload != nil && (!o.state.Decode(r.Payload) || o.state.Filled > Second(r.Now)) {
		return dst, record.Unreadable
	}
	before := o.state.Filled
	o.warm.Advance(&o.state, Second(r.Now), o.passed)
	return o.state.Encode(dst), record.StoreIf(o.state.Filled != before)
}
