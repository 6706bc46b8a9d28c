package flow

import (
	"encoding/binary"
	"math"

	"sentinel-envoy/shared/record"
)

// Bucket is how much a token bucket has: Burst tokens at most, PerNs more in each nanosecond.
type Bucket struct {
	Burst int64
	PerNs float64
}

// BucketOf is a bucket that gets a threshold of tokens per interval.
func BucketOf(burst int64, threshold float64, intervalMs uint64) Bucket {
	return Bucket{Burst: burst, PerNs: threshold / (float64(intervalMs) * 1e6)}
}

// BucketState is what of a bucket is used. Its zero value is a full bucket.
//
// It is kept as what is used, which drains, so that a rule that changes its rate or its burst keeps it. In any interval at
// most Burst + PerNs × its length is taken: what is used never exceeds Burst, each take adds its permits to it, and it
// drains no faster than PerNs. Sums are rounded up, and so hold exactly.
type BucketState struct {
	// Used is how many tokens are missing at the time Latest, in nanoseconds.
	Used   float64
	Latest int64
	// Taken are all that were ever taken, modulo 2⁶⁴.
	Taken uint64
}

// Drain brings the state to a time.
func (s *BucketState) Drain(b Bucket, now int64) {
	if now <= s.Latest {
		return
	}
	if s.Used > 0 {
		s.Used = max(math.Nextafter(s.Used-drained(b, now-s.Latest), math.MaxFloat64), 0)
	}
	s.Latest = now
}

// drained is how much comes back in a time, rounded down.
func drained(b Bucket, ns int64) float64 {
	return math.Nextafter(math.Nextafter(float64(ns)*b.PerNs, 0), 0)
}

// Take takes n tokens, all or none, and reports whether they were there. The state must be drained.
func (s *BucketState) Take(b Bucket, n int64) bool {
	if s.Used+float64(n) > float64(b.Burst) {
		return false
	}
	s.Used += float64(n)
	s.Taken += uint64(n)
	return true
}

// GiveBack returns n tokens of a take after which so many were taken in all. The state must be drained.
//
// A bucket that was full meanwhile has run over, and what runs over is nobody's: it would be as full without the take. So
// what was taken since stays used, as if all of it were of this moment, though some of it may have come back since.
func (s *BucketState) GiveBack(n int64, taken uint64) {
	since := float64(s.Taken - taken)
	s.Used = max(s.Used-float64(n), min(s.Used, since))
}

// FreeAt is when n tokens are there, in nanoseconds, if nobody takes any, 0 if never.
func (s *BucketState) FreeAt(b Bucket, n int64) int64 {
	if n > b.Burst {
		return 0
	}
	missing := s.Used + float64(n) - float64(b.Burst)
	if missing <= 0 {
		return s.Latest
	}
	return s.Latest + fills(missing, b) + 1
}

// longestFill bounds times to come that are told, in nanoseconds, about 70 years: of a rule that has become slow much may be
// used.
const longestFill = 1 << 61

// fills is how long so many tokens take to come back, in nanoseconds.
func fills(tokens float64, b Bucket) int64 { return int64(min(math.Ceil(tokens/b.PerNs), longestFill)) }

// bucketSize is the length of what BucketState.Encode writes.
const bucketSize = 24

// Encode appends the state to dst: the tokens used as a double, the time and what was taken, little endian.
func (s *BucketState) Encode(dst []byte) []byte {
	dst = binary.LittleEndian.AppendUint64(dst, math.Float64bits(s.Used))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(s.Latest))
	return binary.LittleEndian.AppendUint64(dst, s.Taken)
}

// Decode reads what Encode wrote, and reports whether it could be that.
func (s *BucketState) Decode(src []byte) bool {
	if len(src) != bucketSize {
		return false
	}
	s.Used = math.Float64frombits(binary.LittleEndian.Uint64(src))
	s.Latest = int64(binary.LittleEndian.Uint64(src[8:]))
	s.Taken = binary.LittleEndian.Uint64(src[16:])
	return s.Used >= 0 && s.Used <= MaxCapacity && !math.Signbit(s.Used) && s.Latest >= 0
}

// Tokens is one rule's token bucket as one worker sees it. Each take is a change of the shared record: what a worker had
// reserved and spent later would come on top of what has come back meanwhile.
type Tokens struct {
	table *record.Table
	cell  record.Cell
	op    pouring
	// of is the bucket of the rule that was bound last.
	of Bucket

	// refused is a refusal of a bucket refusedOf, for refusedNeed tokens or more, that holds until refusedUntil.
	refused                   Verdict
	refusedOf                 Bucket
	refusedNeed, refusedUntil int64
}

// NewTokens returns the bucket with that id in a table.
func NewTokens(table *record.Table, id record.ID) *Tokens {
	return &Tokens{table: table, cell: record.Cell{ID: id}}
}

// Take asks for n tokens, all or none, at the time now in nanoseconds. taken is for GiveBack. An error is the host's, or
// record.ErrFull; a record that too many workers fight for refuses.
func (t *Tokens) Take(b Bucket, n, now int64) (v Verdict, taken uint64, err error) {
	if now < t.refusedUntil && n >= t.refusedNeed && b == t.refusedOf {
		return t.refused, 0, nil
	}
	t.op = pouring{bucket: b, n: n}
	switch err := t.table.Update(&t.cell, now, &t.op); err {
	case nil:
	case record.ErrContended:
		return Verdict{At: now, Capacity: b.Burst, FreeAt: now + 1e6}, 0, nil
	default:
		return Verdict{At: now}, 0, err
	}
	s := &t.op.state
	v = Verdict{OK: t.op.ok, At: s.Latest, Used: int64(math.Ceil(s.Used))}
	if v.OK {
		return v, s.Taken, nil
	}
	v.Capacity, v.FreeAt = b.Burst, s.FreeAt(b, n)
	t.refused, t.refusedOf, t.refusedNeed, t.refusedUntil = v, b, n, s.Latest+refusalMs*1e6
	if v.FreeAt > 0 {
		t.refusedUntil = min(t.refusedUntil, v.FreeAt)
	}
	return v, 0, nil
}

// GiveBack returns n tokens that were taken, of which nothing was used.
func (t *Tokens) GiveBack(b Bucket, n int64, taken uint64, now int64) error {
	t.refusedUntil = 0
	t.op = pouring{bucket: b, back: n, taken: taken}
	if err := t.table.Update(&t.cell, now, &t.op); err != record.ErrContended {
		return err
	}
	return nil // they are spent
}

// Look is what is used at the time now, and whether that is known.
func (t *Tokens) Look(b Bucket, now int64) (s BucketState, known bool, err error) {
	t.op = pouring{bucket: b, looks: true}
	err = t.table.Update(&t.cell, now, &t.op)
	return t.op.state, !t.op.lost, err
}

// Touch marks the record as in use; see record.Table.Touch.
func (t *Tokens) Touch(now int64) error { return t.table.Touch(&t.cell, now) }

// pouring is one update of a bucket's record: take, give back, or look.
type pouring struct {
	bucket  Bucket
	n, back int64
	taken   uint64
	looks   bool
	// state is what there is then, ok whether n were taken, lost whether nobody knows what was there.
	state    BucketState
	ok, lost bool
}

// Apply implements record.Transition.
func (o *pouring) Apply(dst []byte, r record.State) ([]byte, record.Outcome) {
	s := &o.state
	*s, o.ok, o.lost = BucketState{Latest: r.Now}, false, r.Lost
	if r.Payload != nil && (!s.Decode(r.Payload) || s.Latest > r.Now) {
		return dst, record.Unreadable
	}
	s.Drain(o.bucket, r.Now)
	if r.Lost { // all may have been taken
		s.Used = float64(o.bucket.Burst)
	}
	switch {
	case o.looks:
		return dst, record.Keep
	case o.back > 0:
		s.GiveBack(o.back, o.taken)
		return s.Encode(dst), record.StoreIf(r.Payload != nil)
	}
	o.ok = s.Take(o.bucket, o.n)
	return s.Encode(dst), record.StoreIf(o.ok || r.Lost)
}
