package flow

import (
	"math"

	"sentinel-envoy/shared/family"
	"sentinel-envoy/shared/record"
)

const (
	// holdMs is how long a reservation should last at this worker's own rate. What is held when its bucket ends is lost,
	// so it is at most a 128th of the bucket. Of an exact window, which counts it at the end of that time, it is a part of the
	// interval.
	holdMs          = 4
	holdPerBucket   = 128
	holdPerInterval = 2000
	// shareLeft is the part of what is left that one reservation takes at most: reservations shrink to 1 as the budget
	// ends, and so no worker sits on the last permits.
	shareLeft = 8
	// crumb is the part of a window's capacity that a worker may reserve in each bucket and leave unspent without anyone
	// noticing: 64 workers together 0.4 %. It saves a rule that is far from its threshold nearly all of its updates.
	crumb = 16384
	// refusalMs is how long a refusal is remembered at most without asking again. Permits that other workers give back
	// meanwhile are seen that much later.
	refusalMs = 2
)

// Verdict is the answer to one request for a permit.
type Verdict struct {
	OK bool
	// At is the time of the decision in nanoseconds. It lies in the bucket that the permit was counted in.
	At int64
	// Used is how many permits the window had counted when it was last seen: by a refused request, all of them.
	Used int64
	// Capacity is, for a refused request, how many permits the window has.
	Capacity int64
	// FreeAt is, for a refused request, the first time in nanoseconds at which a permit will be free, or 0 if there will
	// never be one.
	FreeAt int64
}

// seen is what is told of a refused entry of n permits: what is used or, of several, what would be.
func (v *Verdict) seen(n int64) float64 {
	if n > 1 {
		return float64(v.Used + n)
	}
	return float64(v.Used)
}

// Budget is one rule's window as one worker sees it: the shared record, and the permits this worker has reserved in it.
//
// A reservation is counted in the shared record before any of it is spent, and is spent in its own bucket only: that,
// and not any cooperation, keeps all workers together within the threshold, whoever stalls or dies.
type Budget struct {
	table  *record.Table
	cell   record.Cell
	window Window

	// left permits are reserved in bucket, under a threshold that admits capacity, once it is warm.
	bucket, left, capacity int64
	// begins and ends are those of bucket in nanoseconds: a permit costs no division.
	begins, ends int64
	// warms is whether the threshold warms up.
	warms bool
	// size and since tell how fast the last reservation was spent.
	size, since int64
	nearLimit
	// refused remembers a refusal: it holds from bucket refusedIn on, until the time refusedUntil, for a capacity up to
	// refusedCapacity and for refusedNeed permits or more.
	refused                                                        Verdict
	refusedIn, refusedUntil, refusedCapacity, refusedNeed, usedNow int64

	op   operation
	look looking
	// log is where the record of an exact window is read to, nil of others.
	log *Log
}

// NewBudget returns the budget with that id in a table.
func NewBudget(table *record.Table, id record.ID, window Window) *Budget {
	b := &Budget{table: table, cell: record.Cell{ID: id}, window: window, bucket: -1}
	b.op.budget = b
	if window.Ticks > 0 {
		b.log = new(Log)
	}
	b.end()
	return b
}

// Window is the window that the budget counts in.
func (b *Budget) Window() Window { return b.window }

// Holding is whether so many permits are reserved and not spent that Settle has something to return.
func (b *Budget) Holding() bool { return b.left > b.crumbs(b.capacity) }

// crumbs are the permits of a capacity that may be left unspent. Of a calendar's window they are none: where its clock is
// set, what is reserved is of another window than the time at which it would be spent, and a tick is as long as that may be.
func (b *Budget) crumbs(capacity int64) int64 {
	if b.window.Calendar != nil {
		return 0
	}
	return capacity / (crumb * b.window.spans())
}

// Take asks for n permits under a threshold, at least one and all of them or none, at the time now in nanoseconds. An error
// is the host's, or record.ErrFull; a record that too many workers fight for refuses.
func (b *Budget) Take(threshold float64, n, now int64) (Verdict, error) {
	return b.take(Capacity(threshold), nil, n, now)
}

// TakeWarm is Take under a threshold that warms up.
func (b *Budget) TakeWarm(warm *WarmUp, n, now int64) (Verdict, error) {
	return b.take(warm.Capacity, warm, n, now)
}

// take asks for n permits of capacity, or of as much of it as warm allows at the time.
func (b *Budget) take(capacity int64, warm *WarmUp, n, now int64) (Verdict, error) {
	if b.spend(capacity, n, now) {
		return Verdict{OK: true, At: now, Used: b.usedNow}, nil
	}
	if now < b.refusedUntil && capacity <= b.refusedCapacity && n >= b.refusedNeed && b.window.Bucket(now) >= b.refusedIn {
		v := b.refused
		v.At = now
		return v, nil
	}
	return b.reserve(capacity, warm, n, now)
}

// spend takes n of the permits that are reserved, and reports whether there were as many under a threshold that admits
// capacity.
func (b *Budget) spend(capacity, n, now int64) bool {
	if b.left < n || now < b.begins || now >= b.ends || capacity < b.capacity {
		return false
	}
	b.left -= n
	return true
}

// reserve gives back what is left of the last reservation and makes a new one, in one update.
func (b *Budget) reserve(capacity int64, warm *WarmUp, n, now int64) (Verdict, error) {
	op := &b.op
	*op = operation{
		budget: b, now: now, full: capacity, warm: warm, need: n, want: b.appetite(now), back: b.left, backIn: b.bucket,
	}
	b.countNear()
	b.end()
	b.left, b.warms = 0, warm != nil
	err := b.table.Update(&b.cell, now, op)
	switch err {
	case nil:
	case record.ErrContended:
		return Verdict{At: op.now, Capacity: capacity, FreeAt: b.startOf(b.window.Bucket(op.now)+1, op.now)}, nil
	default:
		return Verdict{At: op.now}, err
	}
	b.usedNow = op.used
	bucket := b.window.Bucket(op.now)
	if op.granted == 0 {
		b.remember(op, capacity, bucket)
		return b.refused, nil
	}
	b.bucket, b.left, b.capacity = bucket, op.granted-n, capacity
	b.begins, b.ends = b.startOf(bucket, op.now), b.startOf(bucket+1, op.now)
	if b.log != nil {
		b.bucket, b.begins, b.ends = op.until, op.now, b.startOf(op.until+1, op.now)
	}
	b.size, b.since = op.granted, op.now
	b.begin(op.granted, op.used, op.capacity)
	return Verdict{OK: true, At: op.now, Used: op.used}, nil
}

// remember keeps a refusal for a moment: it holds for at most refusalMs, and less in short buckets.
func (b *Budget) remember(op *operation, capacity, bucket int64) {
	b.refused = Verdict{At: op.now, Used: op.used, Capacity: op.capacity}
	if op.freeAt >= 0 {
		b.refused.FreeAt = max(b.startOf(op.freeAt, op.now), op.carriedFree, op.now+1)
	}
	pause := min(refusalMs*1e6, b.window.BucketMs*1e6/holdPerBucket)
	b.refusedNeed = op.need
	b.refusedIn, b.refusedUntil, b.refusedCapacity = bucket, min(op.now+pause, b.changesAt(op, bucket)), capacity
}

// changesAt is when a refusal does not hold any more though nobody gives anything back, in nanoseconds.
func (b *Budget) changesAt(op *operation, bucket int64) int64 {
	if b.log == nil {
		return b.startOf(bucket+1, op.now)
	}
	if op.freeAt < 0 {
		return math.MaxInt64
	}
	return b.startOf(op.freeAt, op.now)
}

// appetite is how many permits this worker would spend in holdMs at the rate at which it spent the last reservation. It
// at most quadruples from one reservation to the next.
func (b *Budget) appetite(now int64) int64 {
	hold := min(holdMs*1e6, b.window.hold())
	spent, elapsed := b.size-b.left, now-b.since
	if spent <= 0 || elapsed > 1000*hold {
		return 1
	}
	return min(max(1, spent*hold/max(elapsed, 1)), 4*max(b.size, 1))
}

// GiveBack returns n permits that were granted at the time at, their verdict's, and that were not used after all.
func (b *Budget) GiveBack(at, n, now int64) error {
	b.refusedUntil = 0
	bucket := b.window.Bucket(at)
	if b.holds(at) && b.holds(now) {
		b.left += n
		return nil
	}
	return b.giveBack(bucket, n, now)
}

// holds is whether a time lies in the reservation's.
func (b *Budget) holds(at int64) bool {
	if b.log != nil { // at its very beginning the reservation before may have been spent
		return at > b.begins && at < b.ends
	}
	return at >= b.begins && at < b.ends
}

// Settle returns to the shared record what this worker has reserved and not spent. It is called in each tick: a worker
// whose traffic has stopped holds nothing for longer.
func (b *Budget) Settle(now int64) error {
	if !b.Holding() {
		return nil
	}
	b.countNear()
	b.end()
	n := b.left
	b.size -= n
	b.left = 0
	return b.giveBack(b.bucket, n, now)
}

func (b *Budget) giveBack(bucket, n, now int64) error {
	keeps := b.window.spans()
	if b.warms {
		keeps++
	}
	if b.window.Bucket(now)-bucket >= keeps {
		return nil // nobody looks at it any more
	}
	b.op = operation{budget: b, now: now, back: n, backIn: bucket}
	if err := b.table.Update(&b.cell, now, &b.op); err != nil && err != record.ErrContended {
		return err
	}
	return nil
}

// quota sets what is left under a threshold at the time now, in nanoseconds: by the record, where what workers have reserved
// is used, and what this worker has reserved.
func (b *Budget) quota(q *family.Quota, threshold float64, warm *WarmUp, now int64) error {
	look := &b.look
	*look = looking{window: b.window, log: b.log, full: Capacity(threshold), warm: warm}
	if err := b.table.Update(&b.cell, now, look); err != nil || look.unsure {
		q.Limit = look.full
		q.ResetIn(b.startOf(b.window.Bucket(now)+b.window.spans(), now), now)
		return err
	}
	own := int64(0)
	if b.left > 0 && now >= b.begins && now < b.ends && look.capacity >= b.capacity {
		own = b.left
	}
	q.Limit, q.Left = look.capacity, max(look.capacity-look.used, 0)+own
	q.Left = min(q.Left, q.Limit)
	q.ResetIn(look.emptyAt, now)
	return nil
}

// Touch marks the record as in use; see record.Table.Touch.
func (b *Budget) Touch(now int64) error { return b.table.Touch(&b.cell, now) }

func (b *Budget) startOf(bucket, now int64) int64 { return b.window.Start(bucket, now) }

// hold is how long a reservation should last at most, in nanoseconds.
func (w Window) hold() int64 {
	if w.Ticks > 0 {
		return w.BucketMs * 1e6 / holdPerInterval
	}
	return w.BucketMs * 1e6 / holdPerBucket
}

// operation is one update of a budget's record: give back, then take.
type operation struct {
	budget        *Budget
	now           int64   // the record's, once it is applied
	full          int64   // what the window admits once it is warm
	warm          *WarmUp // nil: it is always
	need, want    int64   // so many at least, or none; so many if there are
	back, backIn  int64
	capacity      int64 // what the window admits now
	granted, used int64
	freeAt        int64
	carriedFree   int64 // in nanoseconds, where something is carried; 0 where nothing is
	until         int64 // of an exact window, the last tick in which what is granted may be used
}

// Apply implements record.Transition.
func (o *operation) Apply(dst []byte, r record.State) ([]byte, record.Outcome) {
	w := o.budget.window
	o.now = r.Now
	if w.Ticks > 0 {
		return o.applyExact(dst, r)
	}
	var s WarmState
	if r.Payload != nil && (!s.Decode(r.Payload, w) || s.ahead(w, r.Now)) {
		return dst, record.Unreadable
	}
	s.MoveTo(w, o.now)
	if r.Lost {
		s.Fill(w, max(o.full, o.budget.capacity))
	}
	gaveBack := o.back > 0 && !r.Lost && s.GiveBack(w, o.backIn, o.back)
	warmed := o.warmUp(&s)
	o.granted = s.Take(w, o.capacity, o.grant(o.capacity-s.Used(w)))
	o.used, o.freeAt = s.Used(w), s.FreeAt(w, o.capacity, max(o.need, 1))
	if o.carriedFree = 0; s.Carried > 0 && w.Calendar == nil && o.freeAt > s.Newest {
		o.carriedFree = s.carriedFree(o.capacity, max(o.need, 1), w.Start(s.Newest+1, o.now))
		o.freeAt = s.Newest
	}
	return s.Encode(dst, w), record.StoreIf(o.granted > 0 || gaveBack || warmed || r.Lost)
}

// grant is how many permits are granted where so many are free.
func (o *operation) grant(free int64) int64 {
	if o.need == 0 || free < o.need {
		return 0
	}
	want := max(o.want, o.budget.crumbs(o.capacity))
	return max(o.need, min(want, free/shareLeft))
}

// applyExact is Apply for an exact window. Such a one does not warm up.
func (o *operation) applyExact(dst []byte, r record.State) ([]byte, record.Outcome) {
	s, w := o.budget.log, o.budget.window
	now := w.Bucket(r.Now)
	if s.clear(); r.Payload != nil && (!s.Decode(r.Payload) || s.Newest > now) {
		return dst, record.Unreadable
	}
	s.Advance(now)
	if r.Lost {
		s.Fill(max(o.full, o.budget.capacity))
	}
	gaveBack := o.back > 0 && !r.Lost && s.GiveBack(o.backIn, o.back)
	o.capacity = o.full
	o.granted, o.until = o.grant(o.capacity-s.Used()), now
	if o.granted > o.need {
		o.until = w.Bucket(r.Now + w.hold())
	}
	if o.granted > 0 {
		s.Take(o.until, o.granted)
	}
	o.used, o.freeAt = s.Used(), s.FreeAt(o.capacity, max(o.need, 1))
	return s.Encode(dst), record.StoreIf(o.granted > 0 || gaveBack || r.Lost)
}

// warmUp finds what the window admits now, and reports whether that changed the state.
func (o *operation) warmUp(s *WarmState) bool {
	o.capacity = o.full
	if o.warm == nil {
		return false
	}
	before := s.Warmth
	o.warm.Advance(&s.Warmth, Second(o.now), s.Previous(o.budget.window))
	o.capacity = Capacity(o.warm.Threshold(s.Warmth))
	return s.Warmth != before
}
