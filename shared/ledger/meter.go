package ledger

import "sentinel-envoy/shared/flow"

// Meter counts the entries of a resource in all workers, over a window. A worker's own are seen at once, those of others
// once they have called Sync, and when this worker next reads the record.
type Meter struct {
	table  *Table
	cell   Cell
	window flow.Window
	clock  func() int64

	// state is the record as it was read at the time readAt, and pending what is not in it yet, all of one bucket.
	state           flow.WarmState
	readAt          int64
	bucket, pending int64
	op              metering
}

// NewMeter returns the meter with that id in a table. clock is as in NewBudget.
func NewMeter(table *Table, id ID, window flow.Window, clock func() int64) *Meter {
	return &Meter{table: table, cell: Cell{ID: id}, window: window, clock: clock}
}

// Add counts an entry at the time now, in nanoseconds.
func (m *Meter) Add(now int64) error {
	var err error
	if bucket := m.window.Bucket(now); bucket != m.bucket {
		err = m.Sync(now)
		m.bucket, m.pending = bucket, 0 // what could not be told is lost
	}
	m.pending++
	return err
}

// Sync tells the others what this worker has counted.
func (m *Meter) Sync(now int64) error {
	if m.pending == 0 {
		return nil
	}
	return m.update(now)
}

// Read makes sure that what is known of other workers is at most age nanoseconds old.
func (m *Meter) Read(now, age int64) error {
	if m.readAt > 0 && now-m.readAt < age {
		return nil
	}
	return m.update(now)
}

func (m *Meter) update(now int64) error {
	m.op = metering{meter: m, now: now}
	err := m.table.Update(&m.cell, now, &m.op)
	switch err {
	case nil:
		m.state, m.readAt, m.pending = m.op.state, now, 0
	case ErrContended:
		return nil // the next time
	}
	return err
}

// Counts are the sum over the window at the time now, and over the one that ended before its newest bucket.
func (m *Meter) Counts(now int64) (used, previous int64) {
	s := m.state
	s.Advance(m.window, m.window.Bucket(now))
	s.Add(m.window, m.bucket, m.pending)
	return s.Used(m.window), s.Previous(m.window)
}

// Touch marks the record as in use; see Table.Touch.
func (m *Meter) Touch(now int64) error { return m.table.Touch(&m.cell, now) }

// metering is one update of a meter's record: add what this worker has counted.
type metering struct {
	meter *Meter
	now   int64
	state flow.WarmState
}

// Apply implements Transition. A record that was lost begins anew: what it held was no permits.
func (o *metering) Apply(dst, payload []byte, lost bool) ([]byte, bool, bool) {
	w := o.meter.window
	o.state = flow.WarmState{}
	if payload != nil && !o.state.DecodeCounts(payload, w) {
		return dst, false, false
	}
	if o.state.Newest > w.Bucket(o.now) {
		if o.now = max(o.now, o.meter.clock()); o.state.Newest > w.Bucket(o.now) {
			return dst, false, false
		}
	}
	o.state.Advance(w, w.Bucket(o.now))
	o.state.Add(w, o.meter.bucket, o.meter.pending)
	return o.state.EncodeCounts(dst, w), o.meter.pending > 0 || lost, true
}
