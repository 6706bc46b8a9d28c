package isolation

import (
	"math"

	"sentinel-envoy/shared/ledger"
)

const (
	// renewEvery is how old the stamp of a lease may grow before a tick renews it, in nanoseconds.
	renewEvery = 300e6
	// freshFor is how old it may be for entries without a look at the record, in nanoseconds: far less than TTL, so that
	// nobody enters on a lease that others have dropped.
	freshFor = 1e9
	// shareSpare is the part of what is free that a worker holds beyond its entries at most: near the bound it is
	// nothing, and what an entry gives back is free for all workers at once.
	shareSpare = 16
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

// Gate is the entries in flight under one rule as one worker sees them.
//
// Entering within the lease, and leaving far from the threshold, change nothing but this worker's memory. A lease grows
// and shrinks by compare-and-set, so that all leases that count are within the threshold together, in whatever order the
// workers run. A worker that was silent for TTL has lost its lease; it then leases what it really has in flight, be it
// too much, and nobody enters until the sum is below the threshold.
type Gate struct {
	table *ledger.Table
	cell  ledger.Cell
	clock func() int64

	// inFlight entries are this worker's, which holds a lease of leased, as holder, with that stamp.
	inFlight, leased uint32
	holder           Holder
	stamp            int64
	// peak is the most in flight since the last tick.
	peak uint32
	// threshold is the one that the lease was last found to be within; seen and free are the sum of all leases, and what they left of it, when the
	// record was last looked at.
	threshold, seen, free int64
	// Until refusedUntil entries under a threshold up to refusedAt are refused as the last one was.
	refusedUntil, refusedAt int64

	state State
	op    operation
}

// NewGate returns the gate with that id in a table. clock is the monotonic time in nanoseconds; it is read only where
// other workers have written since the time that a caller gave.
func NewGate(table *ledger.Table, id ledger.ID, clock func() int64) *Gate {
	g := &Gate{table: table, cell: ledger.Cell{ID: id}, clock: clock}
	g.op.gate = g
	return g
}

// Holding is whether this worker has entries in flight or a lease: Tick has something to do.
func (g *Gate) Holding() bool { return g.leased > 0 || g.inFlight > 0 }

// InFlight is how many entries this worker has in flight.
func (g *Gate) InFlight() int { return int(g.inFlight) }

// Enter asks for one entry under a threshold, as holder, at the time now in nanoseconds. What is let in must leave by
// Exit. An error is the host's, or ledger.ErrFull; a record that too many workers fight for, or is full, refuses.
func (g *Gate) Enter(holder Holder, threshold, now int64) (Verdict, error) {
	if g.inFlight < g.leased && threshold >= g.threshold && holder == g.holder && now-g.stamp <= freshFor {
		g.enter()
		return Verdict{OK: true, InFlight: g.seen}, nil
	}
	if now < g.refusedUntil && threshold <= g.refusedAt {
		return Verdict{InFlight: g.seen}, nil
	}
	err := g.apply(operation{gate: g, holder: holder, now: now, threshold: threshold, enters: 1})
	switch {
	case err == ledger.ErrContended:
		return Verdict{InFlight: g.seen}, nil
	case err != nil:
		return Verdict{}, err
	case !g.op.ok:
		g.refusedUntil, g.refusedAt = now+refusalNs, threshold
		return Verdict{InFlight: g.seen}, nil
	}
	g.enter()
	return Verdict{OK: true, InFlight: g.seen}, nil
}

func (g *Gate) enter() {
	g.inFlight++
	g.peak = max(g.peak, g.inFlight)
}

// Exit ends an entry. Where all workers together are near the threshold, its place is free for them at once, else after
// the next tick at the latest. The entry is over whatever the error, which is the host's.
func (g *Gate) Exit(now int64) error {
	g.refusedUntil = 0
	if g.inFlight > 0 {
		g.inFlight--
	}
	spare := int64(g.leased) - int64(g.inFlight)
	if spare <= 0 || spare <= (g.free+spare)/shareSpare {
		return nil
	}
	return g.settle(g.holder, now, g.peak)
}

// Tick renews the lease as holder, and gives back what this worker has not needed since the last call. It must be called
// at least every 100 ms while Holding.
func (g *Gate) Tick(holder Holder, now int64) error {
	peak := g.peak
	g.peak = g.inFlight
	if g.inFlight == g.leased && holder == g.holder && now-g.stamp < renewEvery {
		return nil
	}
	return g.settle(holder, now, peak)
}

// settle looks at the record and leases what is in flight, and a little more for as many as peak.
func (g *Gate) settle(holder Holder, now int64, peak uint32) error {
	spare := min(max(peak, g.inFlight), max(g.leased, g.inFlight)) - g.inFlight
	err := g.apply(operation{gate: g, holder: holder, now: now, threshold: g.threshold, spare: int64(spare)})
	if err == ledger.ErrContended {
		return nil // the next tick tries again
	}
	return err
}

// Touch marks the record as in use; see ledger.Table.Touch.
func (g *Gate) Touch(now int64) error { return g.table.Touch(&g.cell, now) }

// apply runs an operation on the record, and keeps what it has found.
func (g *Gate) apply(op operation) error {
	g.op = op
	if err := g.table.Update(&g.cell, op.now, &g.op); err != nil {
		return err
	}
	g.holder, g.leased, g.stamp = op.holder, g.op.leased, g.op.stamp
	g.threshold, g.seen, g.free = op.threshold, g.op.seen, g.op.free
	return nil
}

// operation is one look at a gate's record, to let an entry in or to settle.
type operation struct {
	gate   *Gate
	holder Holder
	now    int64 // moved forward with each try
	tries  int

	threshold int64
	enters    int64 // 1 for an entry
	spare     int64 // wanted beyond what is in flight, where it only settles

	// ok is whether the entry may enter; leased and stamp are the lease, seen the sum of all with this worker's without
	// what it has spare, free what is left under the threshold.
	ok         bool
	leased     uint32
	stamp      int64
	seen, free int64
}

var _ ledger.Transition = (*operation)(nil)

// Apply implements ledger.Transition.
func (o *operation) Apply(dst, payload []byte, lost bool) ([]byte, bool, bool) {
	g, s := o.gate, &o.gate.state
	if !s.Decode(payload) {
		return dst, false, false
	}
	if o.tries++; o.tries > 1 || s.Newest > o.now {
		// Somebody has written since our caller read the clock. Every writer reads the clock before it writes, so a record
		// that is ahead even of this reading was written by nobody of us.
		o.now = max(o.now, g.clock())
		if s.Newest > o.now {
			return dst, false, false
		}
	}
	if lost {
		s.Forget(o.now)
	}
	s.Expire(o.now)
	had, stamp := s.Take(o.holder)
	moved := false
	if g.holder != o.holder { // this worker's identity has changed
		former, _ := s.Take(g.holder)
		moved = former > 0
	}
	o.decide(s.Sum())
	write := lost || moved || o.leased != had || had > 0 && o.now-stamp >= renewEvery
	if o.stamp = stamp; write {
		o.stamp = o.now
	}
	if !s.Put(o.holder, o.leased, o.stamp) {
		o.ok, o.leased, o.stamp = false, 0, 0
		return dst, false, true
	}
	return s.Encode(dst), write, true
}

// decide sets what the operation comes to, where the others hold leases of so many.
func (o *operation) decide(others int64) {
	g := o.gate
	mine := int64(g.inFlight)
	o.seen = others + mine
	o.ok = o.enters > 0 && o.seen+1 <= o.threshold
	spare := o.spare
	if o.ok {
		mine++
		spare = max(1, mine/2)
	}
	free := o.threshold - others - mine
	spare = max(0, min(spare, free/shareSpare, math.MaxUint32-mine))
	o.leased, o.free = uint32(mine+spare), free-spare
}
