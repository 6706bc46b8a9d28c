package hotspot

import (
	"encoding/binary"
	"strconv"

	"sentinel-envoy/shared/record"
)

const (
	// maxPages and maxRoom bound what a rule takes of shared data: 256 records of at most 1.6 KB.
	maxPages = 256
	maxRoom  = 64
	minRoom  = 16
	// DefaultCapacity is how many values a rule tracks that does not say how many, MaxCapacity how many at most.
	DefaultCapacity = maxPages * minRoom
	MaxCapacity     = maxPages * maxRoom
)

// Limits are those of a rule.
type Limits struct {
	Limit
	// Specific are the thresholds of values that have one of their own, by hash.
	Specific map[uint64]int64
}

// Of is the limit of a value.
func (l *Limits) Of(hash uint64) Limit {
	of := l.Limit
	if t, ok := l.Specific[hash]; ok {
		of.Threshold = t
	}
	return of
}

// Values are the values of a rule's parameter as one worker sees them. It is not safe for concurrent use.
type Values struct {
	table *record.Table
	cells []record.Cell
	room  int
	op    taking
	// reserves are of the values that this worker sees often.
	reserves map[uint64]*reserve
	// Evicted are the values that were forgotten while they had less than a value that was never seen, Regained what
	// they got by that, in permits.
	Evicted, Regained uint64
}

// NewValues returns the values of the rule that id describes, of which capacity are tracked at once; 0 is
// DefaultCapacity, more than MaxCapacity is that.
func NewValues(table *record.Table, capacity int64, id ...string) *Values {
	pages, room := shape(capacity)
	v := &Values{table: table, cells: make([]record.Cell, pages), room: room, reserves: map[uint64]*reserve{}}
	id = append(id, strconv.Itoa(pages), strconv.Itoa(room), "")
	for i := range v.cells {
		id[len(id)-1] = strconv.Itoa(i)
		v.cells[i].ID = record.IDOf(id...)
	}
	return v
}

// shape is how many pages a rule has, and how many values fit one. Small pages cost less a request.
func shape(capacity int64) (pages, room int) {
	if capacity <= 0 {
		capacity = DefaultCapacity
	}
	capacity = min(capacity, MaxCapacity)
	for room = minRoom; capacity > maxPages*int64(room); {
		room *= 2
	}
	return int((capacity + int64(room) - 1) / int64(room)), room
}

// cell is where a value belongs. The page follows from other bits of the hash than what tells values in it apart.
func (v *Values) cell(hash uint64) *record.Cell {
	return &v.cells[(hash>>32*uint64(len(v.cells)))>>32]
}

// Take asks for a permit for a value, at the time now in nanoseconds; one that must wait longer than maxWait nanoseconds
// is refused. An error is the host's, or record.ErrFull; a page that too many workers fight for refuses.
func (v *Values) Take(hash uint64, limits *Limits, maxWait, now int64) (Verdict, error) {
	limit := limits.Of(hash)
	if limit.Threshold <= 0 {
		return Verdict{}, nil
	}
	r := v.reserve(hash, limit)
	if r != nil && r.spend(limit, now) {
		return Verdict{OK: true, At: r.at}, nil
	}
	v.op = taking{values: v, hash: hash, limits: limits, limit: limit, maxWait: maxWait, now: now}
	if r != nil {
		v.op.back, v.op.extra = *r, r.uses
	}
	switch err := v.table.Update(v.cell(hash), now, &v.op); err {
	case nil:
	case record.ErrContended:
		return Verdict{FreeAt: now + 1e6}, nil
	default:
		return Verdict{}, err
	}
	if r != nil {
		r.at, r.left, r.most = v.op.verdict.At, v.op.got, limit.most()
	}
	if v.op.regained > 0 {
		v.Evicted++
		v.Regained += uint64(v.op.regained)
	}
	return v.op.verdict, nil
}

// GiveBack returns a permit that was taken, with the time of its verdict, where the bucket is still the same. Times that
// were given out stay so: others have queued behind them.
func (v *Values) GiveBack(hash uint64, limits *Limits, at, now int64) error {
	if limits.Paced {
		return nil
	}
	if r := v.reserves[hash]; r != nil && r.left > 0 && r.at == at {
		r.left++
		return nil
	}
	return v.giveBack(hash, 1, limits.Of(hash).most(), at, now)
}

func (v *Values) giveBack(hash uint64, n, most, at, now int64) error {
	err := v.table.Update(v.cell(hash), now, &giving{hash: hash, n: n, at: at, most: most, room: v.room})
	if err == record.ErrContended {
		return nil // it is spent
	}
	return err
}

// Touch marks the pages as in use; see record.Table.Touch.
func (v *Values) Touch(now int64) error {
	for i := range v.cells {
		if err := v.table.Touch(&v.cells[i], now); err != nil {
			return err
		}
	}
	return nil
}

// taking is one update of a page: a permit for a value.
type taking struct {
	values  *Values
	hash    uint64
	limits  *Limits
	limit   Limit
	maxWait int64
	now     int64 // the page's, once it is applied
	verdict Verdict
	// regained is what the value got that had to make room.
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
	if r.Payload == nil {
		dst = binary.LittleEndian.AppendUint64(dst, uint64(o.lostAt(r.Lost)))
	} else if dst = append(dst, r.Payload...); !page(r.Payload).intact(o.values.room) {
		return dst[:start], record.Unreadable
	}
	p := page(dst[start:])
	i := p.find(o.hash)
	b, known := bucket{at: p.lostAt()}, p.lostAt() > 0
	if i >= 0 {
		b, known = p.bucket(i), true
	}
	if o.ahead(b) {
		return dst[:start], record.Unreadable
	}
	before := b
	if o.back.left > 0 && b.at == o.back.at {
		b.left = min(max(b.left, 0)+o.back.left, max(o.back.most, b.left))
	}
	o.verdict = o.limit.take(&b, known, o.maxWait, o.now)
	extra := int64(0)
	if o.verdict.OK {
		extra = min(o.extra, max(b.left, 0)/reservePart)
	}
	b.left -= extra
	var regained int64
	switch {
	case i >= 0:
	case p.values() < o.values.room:
		dst = append(dst, make([]byte, valueSize)...)
		p = page(dst[start:])
		i = p.values() - 1
	default:
		i, regained = o.coolest(p)
	}
	p.put(i, o.hash, b)
	o.regained, o.got = regained, extra
	return dst, record.StoreIf(o.verdict.OK || b != before || r.Lost)
}

// lostAt is from when on a new page knows its values: of a lost one nobody knows who had what, so each value is taken
// for one that has nothing left.
func (o *taking) lostAt(lost bool) int64 {
	if !lost {
		return 0
	}
	if o.limit.Paced {
		return o.now + o.limit.MaxWaitMs*1e6
	}
	return o.now
}

// ahead is whether the bucket is of a time to come: nobody of us has written it.
func (o *taking) ahead(b bucket) bool {
	if o.limit.Paced {
		return b.at > o.now+farthest
	}
	return b.at > o.now
}

// coolest is the place of the value that makes room, the one seen longest ago of those that regain least, and what it
// regains.
func (o *taking) coolest(p page) (place int, regains int64) {
	var least, oldest int64
	for i := range p.values() {
		b, limit := p.bucket(i), o.limits.Of(p.hash(i))
		if o.ahead(b) {
			return i, 0 // it would stay for ever
		}
		if heat := limit.heat(b, o.now); i == 0 || heat < least || heat == least && b.at < oldest {
			place, least, oldest = i, heat, b.at
			regains = limit.regains(b, o.now)
		}
	}
	return place, regains
}

// giving is one update of a page: a permit comes back.
type giving struct {
	hash        uint64
	n, at, most int64
	room        int
}

// Apply implements record.Transition.
func (o *giving) Apply(dst []byte, r record.State) ([]byte, record.Outcome) {
	if r.Payload == nil || !page(r.Payload).intact(o.room) {
		return dst, record.Keep
	}
	start := len(dst)
	dst = append(dst, r.Payload...)
	p := page(dst[start:])
	i := p.find(o.hash)
	if i < 0 {
		return dst, record.Keep
	}
	b := p.bucket(i)
	if b.at != o.at || b.left >= o.most {
		return dst, record.Keep
	}
	b.left = min(max(b.left, 0)+o.n, o.most)
	p.put(i, o.hash, b)
	return dst, record.Store
}
