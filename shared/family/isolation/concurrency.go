package isolation

import (
	"math"

	"sentinel-envoy/shared/record"
	"sentinel-envoy/shared/worker"
)

const (
	// renewEvery is how old the stamp of a lease may grow before a tick renews it, in nanoseconds.
	renewEvery = 300e6
	// freshFor is how old it may be for entries without a look at the record, in nanoseconds: far less than worker.TTL, so that
	// nobody enters on a lease that others have dropped.
	freshFor = 1e9
	// shareSpare is the part of what is free that all workers together hold beyond their entries at most, a worker with
	// no entries nothing: near the bound all of it can be had by whoever asks.
	shareSpare = 16
	// crumb is the part of a threshold that a worker may hold all the same: 64 workers 0.2 % together. Below a threshold of
	// crumb it is nothing.
	crumb = 1 << 15
	// refusalNs is how long a refusal is remembered at most without asking again, in nanoseconds. What other workers
	// give back meanwhile is seen that much later.
	refusalNs = 1e6
)

// Verdict is the answer to one entry.
type Verdict struct {
	OK bool
	// InFlight is how many entries all workers had in flight when it was last looked at: by a refused entry, all of them.
	InFlight int64
}

// Concurrency is the entries in flight under one rule as one worker sees them.
//
// Leaving far from the threshold, for as long as this worker has other entries in flight, and entering in such a place again,
// change nothing but its memory. A lease grows and shrinks by compare-and-set, so that all leases that count are within the
// threshold together, in whatever order the workers run. A worker that was silent for worker.TTL has lost its lease; it then leases what it really has in flight, be it
// too much, and nobody enters until the sum is below the threshold.
type Concurrency struct {
	table *record.Table
	cell  record.Cell
	watch *worker.Watch

	// inFlight entries are this worker's, which holds a lease of leased, as holder, with that stamp.
	inFlight, leased uint32
	holder           worker.Identity
	stamp            int64
	// peak is the most in flight since the last tick.
	peak uint32
	// threshold is the one that the lease was last found to be within; seen is the sum of all leases, and room how many
	// this worker may hold beyond its entries, when the record was last looked at.
	threshold, seen, room int64
	// Until refusedUntil entries under a threshold up to refusedAt are refused as the last one was.
	refusedUntil, refusedAt int64

	state State
	op    operation
}

// NewConcurrency returns the count with that id in a table. watch is this worker's.
func NewConcurrency(table *record.Table, watch *worker.Watch, id record.ID) *Concurrency {
	c := &Concurrency{table: table, watch: watch, cell: record.Cell{ID: id}}
	c.op.count = c
	return c
}

// Holding is whether this worker has entries in flight or a lease: Tick has something to do.
func (c *Concurrency) Holding() bool { return c.leased > 0 || c.inFlight > 0 }

// InFlight is how many entries this worker has in flight.
func (c *Concurrency) InFlight() int { return int(c.inFlight) }

// Enter asks for one entry under a threshold, as holder, at the time now in nanoseconds. What is let in must leave by
// Exit. An error is the host's, or record.ErrFull; a record that too many workers fight for, or is full, refuses.
func (c *Concurrency) Enter(holder worker.Identity, threshold, now int64) (Verdict, error) {
	if c.enterLeased(holder, threshold, now) {
		return Verdict{OK: true, InFlight: c.seen}, nil
	}
	if now < c.refusedUntil && threshold <= c.refusedAt {
		return Verdict{InFlight: c.seen}, nil
	}
	err := c.apply(operation{count: c, holder: holder, now: now, threshold: threshold, enters: 1})
	switch {
	case err == record.ErrContended:
		return Verdict{InFlight: c.seen}, nil
	case err != nil:
		return Verdict{}, err
	case !c.op.ok:
		c.refusedUntil, c.refusedAt = now+refusalNs, threshold
		return Verdict{InFlight: c.seen}, nil
	}
	c.enter()
	return Verdict{OK: true, InFlight: c.seen}, nil
}

// enterLeased lets an entry into a place that this worker has leased and not filled, and reports whether there was one.
func (c *Concurrency) enterLeased(holder worker.Identity, threshold, now int64) bool {
	if c.inFlight >= c.leased || threshold < c.threshold || holder != c.holder || now-c.stamp > freshFor {
		return false
	}
	c.enter()
	return true
}

func (c *Concurrency) enter() {
	c.inFlight++
	c.peak = max(c.peak, c.inFlight)
}

// Exit ends an entry. Where it was this worker's last, or all workers together are near the threshold, its place is free for
// them at once, else after the next tick at the latest. The entry is over whatever the error, which is the host's.
func (c *Concurrency) Exit(now int64) error {
	c.refusedUntil = 0
	if c.inFlight > 0 {
		c.inFlight--
	}
	mine := int64(c.inFlight)
	if int64(c.leased)-mine <= mayHold(mine, c.room, c.threshold) {
		return nil
	}
	return c.settle(c.holder, now, c.peak)
}

// mayHold is how many places a worker may hold beyond so many entries, where there is so much room under a threshold.
func mayHold(entries, room, threshold int64) int64 {
	if entries == 0 {
		room = 0
	}
	return max(room, threshold/crumb)
}

// Tick renews the lease as holder, and gives back what this worker has not needed since the last call. It must be called
// at least every 100 ms while Holding.
func (c *Concurrency) Tick(holder worker.Identity, now int64) error {
	peak := c.peak
	c.peak = c.inFlight
	if c.inFlight == c.leased && holder == c.holder && now-c.stamp < renewEvery {
		return nil
	}
	return c.settle(holder, now, peak)
}

// settle looks at the record and leases what is in flight, and a little more for as many as peak.
func (c *Concurrency) settle(holder worker.Identity, now int64, peak uint32) error {
	spare := min(max(peak, c.inFlight), max(c.leased, c.inFlight)) - c.inFlight
	err := c.apply(operation{count: c, holder: holder, now: now, threshold: c.threshold, spare: int64(spare)})
	if err == record.ErrContended {
		return nil // the next tick tries again
	}
	return err
}

// Touch marks the record as in use; see record.Table.Touch.
func (c *Concurrency) Touch(now int64) error { return c.table.Touch(&c.cell, now) }

// apply runs an operation on the record, and keeps what it has found.
func (c *Concurrency) apply(op operation) error {
	c.op = op
	if err := c.table.Update(&c.cell, op.now, &c.op); err != nil {
		return err
	}
	c.holder, c.leased, c.stamp = op.holder, c.op.leased, c.op.stamp
	c.threshold, c.seen, c.room = op.threshold, c.op.seen, c.op.room
	return nil
}

// operation is one look at the record, to let an entry in or to settle.
type operation struct {
	count  *Concurrency
	holder worker.Identity
	now    int64 // the record's, once it is applied

	threshold int64
	enters    int64 // 1 for an entry
	spare     int64 // wanted beyond what is in flight, where it only settles

	// ok is whether the entry may enter; leased and stamp are the lease, seen the sum of all with this worker's without
	// what it has spare, room how many this worker may have spare.
	ok         bool
	leased     uint32
	stamp      int64
	seen, room int64
}

var _ record.Transition = (*operation)(nil)

// Apply implements record.Transition.
func (o *operation) Apply(dst []byte, r record.State) ([]byte, record.Outcome) {
	c, s := o.count, &o.count.state
	o.now = r.Now
	if !s.Decode(r.Payload) || s.Newest > o.now {
		return dst, record.Unreadable
	}
	if r.Lost {
		s.Forget(o.now)
	}
	s.Expire(c.watch, o.now)
	had, stamp := s.Take(o.holder)
	moved := false
	if c.holder != o.holder { // this worker's identity has changed
		former, _ := s.Take(c.holder)
		moved = former > 0
	}
	o.decide(s.Sum(), int64(s.Holders()))
	write := r.Lost || moved || o.leased != had || had > 0 && o.now-stamp >= renewEvery
	if o.stamp = stamp; write {
		o.stamp = o.now
	}
	if !s.Put(o.holder, o.leased, o.stamp) {
		o.ok, o.leased, o.stamp = false, 0, 0
		return dst, record.Keep
	}
	return s.Encode(dst), record.StoreIf(write)
}

// decide sets what the operation comes to, where so many others hold leases of so many places.
func (o *operation) decide(others, holders int64) {
	c := o.count
	mine := int64(c.inFlight)
	o.seen = others + mine
	if o.ok = o.enters > 0 && o.seen+1 <= o.threshold; o.ok {
		mine++
	}
	free := max(0, o.threshold-others-mine)
	o.room = free / (shareSpare * (holders + 1))
	half := (mayHold(mine, o.room, o.threshold) + 1) / 2 // the other half is for entries that end
	spare := min(o.spare, half, free, math.MaxUint32-mine)
	o.leased = uint32(mine + spare)
}
