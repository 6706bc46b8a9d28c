package hotspot

import (
	"encoding/binary"

	"sentinel-envoy/shared/family"
	"sentinel-envoy/shared/record"
)

const (
	// valuePages is how many pages all rules of a process share, of at most 612 bytes.
	valuePages = 8192
	// Capacity is how many values there is room for. With half as many in use, one in two thousand finds its page full.
	Capacity = valuePages * room
)

// Limits are those of a rule.
type Limits struct {
	Limit
	// Specific are the thresholds of values that have one of their own, by hash.
	Specific map[uint64]int64
	own      Limit
}

// Of is the limit of a value. It is void with the next one's.
func (l *Limits) Of(hash uint64) *Limit {
	if len(l.Specific) == 0 {
		return &l.Limit
	}
	t, ok := l.Specific[hash]
	if !ok {
		return &l.Limit
	}
	l.own = l.Limit
	l.own.Threshold = t
	return &l.own
}

// Values are the values of a rule's parameter as one worker sees them. It is not safe for concurrent use.
type Values struct {
	table *record.Table
	rule  uint32
	op    taking
	look  quoting
	// reserves are of the values that this worker sees often.
	reserves map[uint64]*reserve
	// last is the reserve that was asked for last, nil if there is none, of the value lastHash.
	last     *reserve
	lastHash uint64
	refusals refusals
	// Evicted are the values that were forgotten for one of this rule while they had less than a value that was never seen,
	// Regained what they got by that, in permits.
	Evicted, Regained uint64
}

// NewValues returns the values of the rule with that id.
func NewValues(table *record.Table, rule record.ID) *Values {
	return &Values{table: table, rule: binary.LittleEndian.Uint32(rule[:]), reserves: map[uint64]*reserve{}}
}

// update changes the page that a value belongs to.
func (v *Values) update(hash uint64, now int64, t record.Transition) error {
	cell := v.table.Fixed("values", pageOf(hash, valuePages))
	return v.table.Update(&cell, now, t)
}

// pageOf is which of some pages a value belongs to.
func pageOf(hash uint64, pages int) int { return int((hash >> 32 * uint64(pages)) >> 32) }

// Take asks for n permits for a value, all or none and at least one, at the time now in nanoseconds; who must wait longer
// than maxWait nanoseconds is refused. hash is of the rule and the value. An error is the host's; a page that too many
// workers fight for refuses.
func (v *Values) Take(hash uint64, limits *Limits, n, maxWait, now int64) (Verdict, error) {
	limit := limits.Of(hash)
	if limit.Threshold <= 0 || limit.BanAfter == 0 && !limit.fits(n) { // what counts towards a ban is counted in the page
		return Verdict{}, nil
	}
	if verdict, ok := v.refusals.of(hash, limit, n, maxWait, now); ok {
		return verdict, nil
	}
	r := v.reserve(hash, limit)
	if r != nil && r.spend(limit, n, now) {
		return Verdict{OK: true, At: r.at}, nil
	}
	return v.take(r, hash, limit, n, maxWait, now)
}

// Look asks whether a value has a permit left, and takes none: Charge does, if it turns out to be due. With n 0 it asks for
// none: who is banned does not even get that. It returns like Take.
func (v *Values) Look(hash uint64, limits *Limits, n, now int64) (Verdict, error) {
	limit := limits.Of(hash)
	if limit.Threshold <= 0 {
		return Verdict{OK: n == 0}, nil
	}
	if verdict, ok := v.refusals.of(hash, limit, n, 0, now); ok {
		return verdict, nil
	}
	v.op = taking{values: v, hash: hash, limit: *limit, n: n, now: now, looks: true}
	return v.ask(nil)
}

// Charge takes a permit of a value, whether or not it has one left. An error is the host's, or record.ErrContended.
func (v *Values) Charge(hash uint64, limits *Limits, now int64) error {
	limit := limits.Of(hash)
	if limit.Threshold <= 0 {
		return nil
	}
	v.op = taking{values: v, hash: hash, limit: *limit, n: 1, now: now, charges: true}
	err := v.update(hash, now, &v.op)
	v.forgot()
	return err
}

// take asks the value's page, with what its reserve, if it has one, still has.
func (v *Values) take(r *reserve, hash uint64, limit *Limit, n, maxWait, now int64) (Verdict, error) {
	v.op = taking{values: v, hash: hash, limit: *limit, n: n, maxWait: maxWait, now: now}
	if r != nil {
		v.op.back, v.op.extra = *r, r.uses
	}
	return v.ask(r)
}

// ask asks the page that v.op is about.
func (v *Values) ask(r *reserve) (Verdict, error) {
	now := v.op.now
	switch err := v.update(v.op.hash, now, &v.op); err {
	case nil:
	case record.ErrContended:
		return Verdict{FreeAt: now + 1e6}, nil
	default:
		return Verdict{}, err
	}
	if r != nil {
		r.at, r.left, r.limit = v.op.verdict.At, v.op.got, v.op.limit
		r.until = r.limit.endOf(r.at, v.op.now)
	}
	v.forgot()
	if v.op.steady {
		v.refusals.remember(&v.op)
	}
	return v.op.verdict, nil
}

// forgot counts what was forgotten for the value that was asked about.
func (v *Values) forgot() {
	if v.op.regained > 0 {
		v.Evicted++
		v.Regained += uint64(v.op.regained)
	}
}

// GiveBack returns n permits that were taken, with the time of their verdict, where the bucket is still the same. Times that
// were given out stay so: others have queued behind them.
func (v *Values) GiveBack(hash uint64, limits *Limits, at, n, now int64) error {
	if limits.Paced {
		return nil
	}
	v.refusals.forget(hash)
	if r := v.reserves[hash]; r != nil && r.left > 0 && r.at == at {
		r.left += n
		return nil
	}
	return v.giveBack(hash, n, *limits.Of(hash), at, now)
}

func (v *Values) giveBack(hash uint64, n int64, l Limit, at, now int64) error {
	err := v.update(hash, now, &giving{hash: hash, n: n, at: at, limit: l})
	if err == record.ErrContended {
		return nil // it is spent
	}
	return err
}

// taking is one update of a page: a permit for a value.
type taking struct {
	// looks is whether none is taken where there is one, charges whether one is also where there is none.
	looks, charges bool

	values  *Values
	hash    uint64
	limit   Limit
	n       int64
	maxWait int64
	now     int64 // the page's, once it is applied
	verdict Verdict
	// steady is whether the page says of the value what it said before.
	steady bool
	// regained is what the values got that had to make room.
	regained int64
	// back is what this worker still has of the value, extra how many more it would like than the one, and got
	// how many it gets.
	back       reserve
	extra, got int64
}

// Apply implements record.Transition.
func (o *taking) Apply(dst []byte, r record.State) ([]byte, record.Outcome) {
	o.now = r.Now
	start := len(dst)
	lostAt := int64(0)
	if r.Lost {
		lostAt = o.now
	}
	if r.Payload == nil {
		dst = binary.LittleEndian.AppendUint64(dst, uint64(lostAt))
	} else if dst = append(dst, r.Payload...); !page(r.Payload).intact() {
		return dst[:start], record.Unreadable
	}
	p := page(dst[start:])
	o.regained = 0
	if until := p.bannedUntil(o.hash, &o.limit, o.now); until > 0 && !o.charges {
		o.verdict, o.steady = Verdict{Banned: true, FreeAt: until}, true
		return dst[:start], record.Keep
	}
	i := p.find(o.hash)
	b, known := o.unseen(p.lostAt()), p.lostAt() > 0
	if i >= 0 {
		b, known = p.value(i).bucket, true
	}
	if s := o.limit.seen(o.hash, o.values.rule, b); s.ahead(o.now) {
		return dst[:start], record.Unreadable
	}
	before := b
	if o.take(&b, known); o.looks && o.verdict.OK {
		o.steady = false
		return dst[:start], record.Keep
	}
	if i < 0 {
		dst, i = o.place(dst, start, -1)
	}
	page(dst[start:]).put(i, o.limit.seen(o.hash, o.values.rule, b))
	o.steady = !o.verdict.OK && b == before && !r.Lost
	if o.limit.BanAfter > 0 && !o.verdict.OK && !o.charges {
		dst, o.steady = o.countRefusal(dst, start, i), false
	}
	return dst, record.StoreIf(!o.steady)
}

// place makes a place in the page that begins at start of dst: a new one, or that of a value that makes room, but not of the
// one at keep, −1 for any.
func (o *taking) place(dst []byte, start, keep int) (grown []byte, place int) {
	p := page(dst[start:])
	if n := p.values(); n < room {
		return append(dst, make([]byte, valueSize)...), n
	}
	place, regained := o.coolest(p, p.crowded(o.values.rule), keep)
	if place < 0 { // the rule has no other
		place, regained = o.coolest(p, p.value((keep+1)%room).rule, keep)
	}
	o.regained += regained
	return dst, place
}

// take takes a permit from a bucket, and as many more as this worker would like, and returns what it still had.
func (o *taking) take(b *bucket, known bool) {
	if o.back.left > 0 && b.at == o.back.at {
		b.left = min(max(b.left, 0)+o.back.left, max(o.back.limit.most(), b.left))
	}
	if o.looks {
		if left, _ := o.limit.filled(*b, o.now); !known || left > 0 || o.n == 0 {
			o.verdict = Verdict{OK: true, At: o.now}
			return
		}
	}
	o.verdict = o.limit.take(b, known, o.n, o.maxWait, o.now)
	o.got = 0
	if o.verdict.OK {
		o.got = min(o.extra, max(b.left, 0)/reservePart)
	}
	b.left -= o.got
}

// unseen is what a value has of which a page that was lost then may have known something: nobody knows who had what, so
// it is taken for one that has nothing left.
func (o *taking) unseen(lostAt int64) bucket {
	if o.limit.Paced {
		lostAt += o.limit.MaxWaitMs * 1e6
		if o.limit.Costs {
			lostAt += o.limit.DurationMs * 1e6
		}
	}
	return bucket{at: lostAt}
}

// coolest is the place of the value that makes room, and what it regains: of a rule's, the one seen longest ago of those
// that regain least. The rule is mostly the one that has most in the page, so that one that is flooded with values makes
// room for them itself. The one at keep makes none; the place is −1 where the rule has no other.
func (o *taking) coolest(p page, of uint32, keep int) (place int, regains int64) {
	place = -1
	var least, oldest int64
	for i := range p.values() {
		s := p.value(i)
		if i == keep {
			continue
		}
		if s.ahead(o.now) {
			return i, 0 // it would stay for ever
		}
		if s.rule != of {
			continue
		}
		if heat := s.heat(o.now); place < 0 || heat < least || heat == least && s.at < oldest {
			place, least, oldest = i, heat, s.at
			regains = s.regains(o.now)
		}
	}
	return place, regains
}

// giving is one update of a page: a permit comes back.
type giving struct {
	hash  uint64
	n, at int64
	limit Limit
}

// Apply implements record.Transition.
func (o *giving) Apply(dst []byte, r record.State) ([]byte, record.Outcome) {
	if r.Payload == nil || !page(r.Payload).intact() {
		return dst, record.Keep
	}
	start := len(dst)
	dst = append(dst, r.Payload...)
	p := page(dst[start:])
	i := p.find(o.hash)
	if i < 0 {
		return dst, record.Keep
	}
	s := p.value(i)
	if s.at != o.at || s.left >= o.limit.most() {
		return dst, record.Keep
	}
	s.left = min(max(s.left, 0)+o.n, o.limit.most())
	p.put(i, o.limit.seen(o.hash, s.rule, s.bucket))
	return dst, record.Store
}

// quota sets what a value has left at the time now, in nanoseconds: by its page, and what this worker has reserved of it.
func (v *Values) quota(q *family.Quota, hash uint64, limits *Limits, now int64) error {
	limit := limits.Of(hash)
	if limit.Threshold <= 0 {
		return nil
	}
	q.Limit = limit.most()
	v.look = quoting{hash: hash, limit: *limit}
	if err := v.update(hash, now, &v.look); err != nil {
		return err
	}
	o := &v.look
	q.Left = o.left
	if r := v.reserves[hash]; r != nil && r.left > 0 && r.at == o.at && r.limit.most() == limit.most() {
		q.Left = min(q.Left+r.left, q.Limit)
	}
	q.ResetIn(o.fullAt, now)
	return nil
}

// quoting is a look at a page: what a value has left, since when, and when it has all, in nanoseconds.
type quoting struct {
	hash             uint64
	limit            Limit
	left, at, fullAt int64
}

// Apply implements record.Transition.
func (o *quoting) Apply(dst []byte, r record.State) ([]byte, record.Outcome) {
	o.left, o.at, o.fullAt = 0, 0, r.Now+o.limit.DurationMs*1e6
	p := page(r.Payload)
	switch {
	case r.Lost || r.Payload != nil && !p.intact(): // nobody knows
		return dst, record.Keep
	case r.Payload == nil:
		o.left, o.fullAt = o.limit.most(), 0
		return dst, record.Keep
	}
	if until := p.bannedUntil(o.hash, &o.limit, r.Now); until > 0 {
		o.fullAt = until
		return dst, record.Keep
	}
	b, known := bucket{at: p.lostAt()}, p.lostAt() > 0
	if i := p.find(o.hash); i >= 0 {
		b, known = p.value(i).bucket, true
	}
	if !known {
		o.left, o.fullAt = o.limit.most(), 0
		return dst, record.Keep
	}
	left, over := o.limit.filled(b, r.Now)
	if over {
		b.at = o.limit.begin(r.Now)
	}
	b.left = min(left, o.limit.most())
	o.left, o.at = b.left, b.at
	s := o.limit.seen(o.hash, 0, b)
	if o.fullAt = b.at + s.fullMs*1e6; o.limit.Calendar != nil && o.left < o.limit.most() {
		o.fullAt = o.limit.endOf(b.at, r.Now)
	}
	return dst, record.Keep
}
