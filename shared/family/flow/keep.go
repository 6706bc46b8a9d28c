package flow

import (
	"encoding/binary"
	"math"

	"sentinel-envoy/shared/family"
	"sentinel-envoy/shared/persist"
	"sentinel-envoy/shared/record"
	"sentinel-envoy/shared/rule"
)

// What is kept of the flow rules: windows and token buckets of more than a minute. What a rule counts of another resource, and
// the place of a line, are not: they are no permits.
//
// Each entry begins with the record's id, and has numbers of 8 bytes after it, little-endian. That of a fixed window has its
// length in milliseconds, the permits, and when the bucket ends; of a calendar's its number, the permits, and between which
// times of the wall clock it lies; of an exact one its length and the log; of a token bucket how much comes back in a
// nanosecond, what is used, and when.
const (
	idSize       = len(record.ID{})
	fixedSize    = idSize + 3*8
	calendarSize = idSize + 4*8
	tokensSize   = idSize + 3*8
)

// Parts implements family.Keeper.
func (k *kind) Parts(f func(family.Part)) {
	k.budgets.all.All(func(b *SharedBudget) {
		if b.window.BucketMs > persist.Longer {
			f(b)
		}
	})
	k.tokens.All(func(t *Tokens) {
		if t.of.PerNs > 0 && fills(float64(t.of.Burst), t.of) > persist.Longer*1e6 {
			f(t)
		}
	})
}

// Refresh implements family.Keeper.
func (k *kind) Refresh(int64) error { return nil }

// Keep implements family.Part.
func (b *SharedBudget) Keep(s *persist.Snapshot, now int64) error {
	o := keeping{window: b.window, log: b.log}
	if err := b.of.env.Table.Update(&b.cell, now, &o); err != nil || o.used == 0 {
		return err
	}
	dst := append(make([]byte, 0, 64), b.cell.ID[:]...)
	switch w := b.window; {
	case w.Ticks > 0:
		s.Add(persist.ExactWindow, persist.Always, o.log.Encode(appendNumbers(dst, w.BucketMs)))
	case w.Calendar != nil:
		wall := b.of.env.Wall.Offset(now)
		s.Add(persist.CalendarWindow, persist.Always,
			appendNumbers(dst, o.newest, o.used, w.Start(o.newest, now)+wall, w.Start(o.newest+1, now)+wall))
	default:
		s.Add(persist.FixedWindow, persist.Always, appendNumbers(dst, w.BucketMs, o.used, o.until))
	}
	return nil
}

func appendNumbers(dst []byte, all ...int64) []byte {
	for _, n := range all {
		dst = binary.LittleEndian.AppendUint64(dst, uint64(n))
	}
	return dst
}

func numberAt(data []byte, i int) int64 { return int64(binary.LittleEndian.Uint64(data[idSize+8*i:])) }

// keeping reads a budget's record, and changes nothing.
type keeping struct {
	window              Window
	log                 *Log
	used, newest, until int64
}

// Apply implements record.Transition. What cannot be read is not kept.
func (o *keeping) Apply(dst []byte, r record.State) ([]byte, record.Outcome) {
	o.used = 0
	if r.Lost || r.Payload == nil {
		return dst, record.Keep
	}
	w, now := o.window, o.window.Bucket(r.Now)
	if w.Ticks > 0 {
		if o.log.Decode(r.Payload) && o.log.Newest <= now {
			o.log.Advance(now)
			if o.used = o.log.Used(); o.used > 0 { // as of the last permit: what has not changed says the same
				o.log.Newest = min(now, o.log.ticks[o.log.n-1])
			}
		}
		return dst, record.Keep
	}
	var s WarmState
	if !s.Decode(r.Payload, w) || s.ahead(w, r.Now) {
		return dst, record.Keep
	}
	s.MoveTo(w, r.Now)
	o.used, o.newest, o.until = min(s.Used(w), MaxCapacity), s.Newest, s.CarriedTo
	if s.Counts[0] > 0 && w.Calendar == nil { // what is carried then ends with the bucket, at the earliest
		o.until = max(o.until, w.Start(s.Newest+1, r.Now))
	}
	return dst, record.Keep
}

// Keep implements family.Part.
func (t *Tokens) Keep(s *persist.Snapshot, now int64) error {
	state, known, err := t.Look(t.of, now)
	if err != nil || !known || state.Used < 1 {
		return err
	}
	dst := append(make([]byte, 0, tokensSize), t.cell.ID[:]...)
	s.Add(persist.TokenBucket, persist.Always,
		appendNumbers(dst, int64(math.Float64bits(t.of.PerNs)), int64(math.Float64bits(state.Used)), state.Latest))
	return nil
}

// Sound implements family.Keeper.
func (k *kind) Sound(e persist.Entry) (mine, sound bool) {
	return k.read(e)
}

// read reads an entry into k.restoring.
func (k *kind) read(e persist.Entry) (mine, sound bool) {
	if k.restoring == nil {
		k.restoring = new(restoring)
	}
	return k.restoring.read(e)
}

// Restore implements family.Keeper.
func (k *kind) Restore(e persist.Entry, at *persist.Shift, now int64) error {
	if _, sound := k.read(e); !sound {
		return nil
	}
	k.restoring.at = at
	cell := record.Cell{ID: record.ID(e.Data)}
	return k.env.Table.Update(&cell, now, k.restoring)
}

// restoring adds an entry to a record.
type restoring struct {
	kind persist.Kind
	at   *persist.Shift
	// windowMs is a window's length. n are the permits; until is when they end, number the calendar's bucket, from and to
	// between which times of the wall clock it lies.
	windowMs, n, until, number, from, to int64
	bucket                               Bucket
	tokens                               BucketState
	// log is the document's, own the record's, and all both.
	log, own, all Log
}

// read reads an entry; mine is whether it is one of a flow rule, and sound whether it makes sense.
func (o *restoring) read(e persist.Entry) (mine, sound bool) {
	ok := len(e.Data) > idSize && record.ID(e.Data) != (record.ID{})
	o.kind, o.n = e.Kind, 0
	switch e.Kind {
	case persist.FixedWindow:
		if ok = ok && len(e.Data) == fixedSize; ok {
			o.windowMs, o.n, o.until = numberAt(e.Data, 0), numberAt(e.Data, 1), numberAt(e.Data, 2)
			ok = isLong(o.windowMs)
		}
	case persist.CalendarWindow:
		if ok = ok && len(e.Data) == calendarSize; ok {
			o.number, o.n, o.from, o.to = numberAt(e.Data, 0), numberAt(e.Data, 1), numberAt(e.Data, 2), numberAt(e.Data, 3)
			ok = o.number >= 0 && o.from < o.to
		}
	case persist.ExactWindow:
		if ok = ok && len(e.Data) >= idSize+8; ok {
			o.windowMs = numberAt(e.Data, 0)
			ok = isLong(o.windowMs) && o.log.Decode(e.Data[idSize+8:]) && o.log.Newest <= persist.Latest/(o.windowMs*1e6/ExactTicks)
			o.n = o.log.Used()
		}
	case persist.TokenBucket:
		if ok = ok && len(e.Data) == tokensSize; ok {
			o.bucket.PerNs = math.Float64frombits(uint64(numberAt(e.Data, 0)))
			ok = o.bucket.PerNs > 0 && o.bucket.PerNs <= math.MaxInt64 && o.tokens.Decode(append(e.Data[idSize+8:tokensSize:tokensSize], make([]byte, 8)...))
			o.n = int64(math.Ceil(o.tokens.Used))
		}
	default:
		return false, false
	}
	return true, ok && o.n > 0 && o.n <= MaxCapacity
}

func isLong(ms int64) bool { return ms > persist.Longer && ms <= rule.LongestMs }

// Apply implements record.Transition. A record that was lost counts as spent already.
func (o *restoring) Apply(dst []byte, r record.State) ([]byte, record.Outcome) {
	if r.Lost {
		return dst, record.Keep
	}
	switch o.kind {
	case persist.ExactWindow:
		return o.restoreLog(dst, r)
	case persist.TokenBucket:
		return o.restoreTokens(dst, r)
	}
	return o.restoreBucket(dst, r)
}

// restoreBucket carries permits into a window of one bucket.
func (o *restoring) restoreBucket(dst []byte, r record.State) ([]byte, record.Outcome) {
	w := Window{BucketMs: o.windowMs, Buckets: 1}
	var s WarmState
	if r.Payload != nil && !s.Decode(r.Payload, w) {
		return dst, record.Unreadable
	}
	if o.kind == persist.CalendarWindow {
		// A wall clock that was set back is in another bucket, of which nothing is known.
		if wall := o.at.Wall + r.Now - o.at.Now; wall < o.from-1e9 || wall >= o.to || s.Newest > o.number {
			return dst, record.Keep
		}
		s.Advance(w, o.number)
		s.Carry(o.n, o.number)
		return s.Encode(dst, w), record.Store
	}
	until := min(o.at.Time(o.until), r.Now+o.windowMs*1e6)
	if until <= r.Now || s.ahead(w, r.Now) {
		return dst, record.Keep
	}
	s.MoveTo(w, r.Now)
	s.Carry(o.n, until)
	return s.Encode(dst, w), record.Store
}

// restoreLog merges a log into an exact window's.
func (o *restoring) restoreLog(dst []byte, r record.State) ([]byte, record.Outcome) {
	w := Window{BucketMs: o.windowMs, Buckets: 1, Ticks: ExactTicks}
	own, all, now := &o.own, &o.all, w.Bucket(r.Now)
	own.clear()
	all.clear()
	if r.Payload != nil && (!own.Decode(r.Payload) || own.Newest > now) {
		return dst, record.Unreadable
	}
	own.Advance(now)
	all.Newest = now
	i := 0
	for k := range o.log.n {
		tick := o.tickOf(w, o.log.ticks[k], now)
		if tick < now-ExactTicks {
			continue
		}
		for ; i < own.n && own.ticks[i] <= tick; i++ {
			all.add(own.ticks[i], own.counts[i])
		}
		all.add(tick, o.log.counts[k])
	}
	for ; i < own.n; i++ {
		all.add(own.ticks[i], own.counts[i])
	}
	return all.Encode(dst), record.StoreIf(all.used > own.used)
}

// tickOf is the tick that is not before one of the document's process, and not to come.
func (o *restoring) tickOf(w Window, tick, now int64) int64 {
	ns := w.bucketNs()
	at := o.at.Time(tick*ns + ns - 1)
	t := at / ns
	if at%ns < 0 {
		t--
	}
	return min(t, now)
}

// add is Take, of no more than a log may count.
func (l *Log) add(tick, n int64) {
	if n = min(n, MaxCapacity-l.used); n > 0 {
		l.Take(tick, n)
	}
}

// restoreTokens takes as many tokens as are missing still.
func (o *restoring) restoreTokens(dst []byte, r record.State) ([]byte, record.Outcome) {
	s := BucketState{Latest: r.Now}
	if r.Payload != nil && (!s.Decode(r.Payload) || s.Latest > r.Now) {
		return dst, record.Unreadable
	}
	s.Drain(o.bucket, r.Now)
	before := o.tokens
	before.Latest = min(o.at.Past(before.Latest), r.Now)
	before.Drain(o.bucket, r.Now)
	if before.Used <= 0 {
		return dst, record.Keep
	}
	s.Used = min(s.Used+before.Used, MaxCapacity)
	return s.Encode(dst), record.Store
}
