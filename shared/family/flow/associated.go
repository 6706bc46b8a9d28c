package flow

import "sentinel-envoy/shared/record"

// AssociatedCount counts the entries of a resource in all workers, over a window, for rules that are about another. A
// worker's own are seen at once, those of others once they have called Sync, and when this worker next reads the record.
type AssociatedCount struct {
	table  *record.Table
	cell   record.Cell
	window Window

	// state is the record as it was read at the time readAt, and pending what is not in it yet, all of one bucket.
	state           WarmState
	readAt          int64
	bucket, pending int64
	op              counting
}

// NewAssociatedCount returns the count with that id in a table.
func NewAssociatedCount(table *record.Table, id record.ID, window Window) *AssociatedCount {
	return &AssociatedCount{table: table, cell: record.Cell{ID: id}, window: window}
}

// Add counts an entry at the time now, in nanoseconds. An error is the host's, or record.ErrFull.
func (c *AssociatedCount) Add(now int64) error {
	var err error
	if bucket := c.window.Bucket(now); bucket != c.bucket {
		err = c.Sync(now)
		c.bucket, c.pending = bucket, 0 // what could not be written is lost
	}
	c.pending++
	return err
}

// Sync writes what this worker has counted, for the others.
func (c *AssociatedCount) Sync(now int64) error {
	if c.pending == 0 {
		return nil
	}
	return c.update(now)
}

// Read makes sure that what is known of other workers is at most age nanoseconds old.
func (c *AssociatedCount) Read(now, age int64) error {
	if c.readAt > 0 && now-c.readAt < age {
		return nil
	}
	return c.update(now)
}

func (c *AssociatedCount) update(now int64) error {
	c.op.count = c
	switch err := c.table.Update(&c.cell, now, &c.op); err {
	case nil:
		c.state, c.readAt, c.pending = c.op.state, now, 0
		return nil
	case record.ErrContended:
		return nil // the next time
	default:
		return err
	}
}

// Sums are the entries over the window at the time now, and over the one that ended before its newest bucket.
func (c *AssociatedCount) Sums(now int64) (used, previous int64) {
	s := c.state
	s.Advance(c.window, c.window.Bucket(now))
	s.Add(c.window, c.bucket, c.pending)
	return s.Used(c.window), s.Previous(c.window)
}

// Touch marks the record as in use; see record.Table.Touch.
func (c *AssociatedCount) Touch(now int64) error { return c.table.Touch(&c.cell, now) }

// counting is one update of an associated count's record: add what this worker has counted.
type counting struct {
	count *AssociatedCount
	state WarmState
}

// Apply implements record.Transition. A record that was lost begins anew: what it held was no permits.
func (o *counting) Apply(dst []byte, r record.State) ([]byte, record.Outcome) {
	w := o.count.window
	o.state = WarmState{}
	if r.Payload != nil && (!o.state.DecodeCounts(r.Payload, w) || o.state.ahead(w, r.Now)) {
		return dst, record.Unreadable
	}
	o.state.Advance(w, w.Bucket(r.Now))
	o.state.Add(w, o.count.bucket, o.count.pending)
	return o.state.EncodeCounts(dst, w), record.StoreIf(o.count.pending > 0 || r.Lost)
}
