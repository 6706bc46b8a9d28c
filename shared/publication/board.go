package publication

import (
	"errors"
	"math"

	"sentinel-envoy/shared/host"
	"sentinel-envoy/shared/record"
	"sentinel-envoy/shared/worker"
)

// lookEvery is how often a worker that ticks looks at the record, in nanoseconds: so that decisions seldom have to.
const lookEvery = 100e6

// Board is what one worker sees of the sources of its process: one record with an Entry for each. It is not safe for
// concurrent use.
type Board struct {
	table *record.Table
	clock host.Clock
	cell  record.Cell
	op    operation
	// looked is when the record was last looked at, and until is when it must be again before anything is decided.
	looked, until int64
	chunk         chunk
}

// NewBoard returns the process's board.
func NewBoard(table *record.Table, clock host.Clock) *Board {
	return &Board{table: table, clock: clock, cell: table.Fixed("sources", 0), looked: math.MinInt64}
}

// ErrFull means that the process has as many sources as it has room for.
var ErrFull = errors.New("publication: more than 16 sources in one process")

// Look makes sure that what is seen holds at the time now, in nanoseconds. It costs a read of shared data where it does not.
// An error is the host's.
func (b *Board) Look(now int64) error {
	if now < b.until {
		return nil
	}
	return b.update(now, nil)
}

// Tick looks also where there is time yet, so that decisions do not have to.
func (b *Board) Tick(now int64) error {
	if now < b.until && now-b.looked < lookEvery {
		return nil
	}
	return b.update(now, nil)
}

// Until is when Look has something to do.
func (b *Board) Until() int64 { return b.until }

// Entry is what was seen of a source, nil if it is not there.
func (b *Board) Entry(id record.ID) *Entry {
	if i := find(b.op.entries, id); i >= 0 {
		return &b.op.entries[i]
	}
	return nil
}

// Owns is whether, as was seen, a worker is the owner of a source.
func (b *Board) Owns(id record.ID, me worker.Identity) bool {
	e := b.Entry(id)
	return e != nil && e.Owner == me
}

// Claim makes a worker the owner of a source that has none, or none that has been heard of lately, and reports whether it
// now is the owner. It fails with ErrFull or the host's error.
func (b *Board) Claim(id record.ID, me worker.Identity, now int64) (mine bool, err error) {
	full := false
	err = b.update(now, func(all []Entry, now int64) ([]Entry, bool) {
		var e *Entry
		if all, e = place(all, id, now); e == nil {
			full = true
			return all, false
		}
		full, mine = false, e.Owner == me
		if mine || !e.Free(now) {
			return all, false
		}
		e.Owner, e.Beat, mine = me, now, true
		return all, true
	})
	if full && err == nil {
		err = ErrFull
	}
	return mine, err
}

// place is a source's entry, made where there is none and there is room; nil if there is not.
func place(all []Entry, id record.ID, now int64) ([]Entry, *Entry) {
	if i := find(all, id); i >= 0 {
		return all, &all[i]
	}
	e := Entry{ID: id, Since: now, Next: now, Beat: now}
	if len(all) < MaxSources {
		all = append(all, e)
		return all, &all[len(all)-1]
	}
	oldest := 0
	for i := range all {
		if all[i].Beat < all[oldest].Beat {
			oldest = i
		}
	}
	if now-all[oldest].Beat < forgotten {
		return all, nil
	}
	all[oldest] = e
	return all, &all[oldest]
}

// Change lets the owner of a source change its entry, and reports whether it still is the owner. f may be called several
// times, each time with another entry. An error is the host's.
func (b *Board) Change(id record.ID, me worker.Identity, now int64, f func(e *Entry, now int64)) (done bool, err error) {
	err = b.update(now, func(all []Entry, now int64) ([]Entry, bool) {
		i := find(all, id)
		if done = i >= 0 && all[i].Owner == me; done {
			f(&all[i], now)
			all[i].Beat = now
		}
		return all, done
	})
	return done, err
}

// AskAnew lets a source be asked at once, and without a mark: its text in force cannot be read, or one that was refused may now
// be right. Any worker may say so. An error is the host's.
func (b *Board) AskAnew(id record.ID, now int64) error {
	return b.update(now, func(all []Entry, now int64) ([]Entry, bool) {
		i := find(all, id)
		if i < 0 || all[i].Mark == "" && all[i].Refused == 0 && all[i].Next <= now {
			return all, false
		}
		all[i].Mark, all[i].Refused, all[i].Next = "", 0, now
		return all, true
	})
}

// Publish makes a text that the owner of a source has read the next version of its document. It returns the version, or the
// zero Version where this did not come about: somebody else owns the source, another version is coming, or this worker was
// held up; in the last case the source is asked again. An error is the host's.
func (b *Board) Publish(id record.ID, me worker.Identity, text []byte, mark string, now int64) (Version, error) {
	e := b.Entry(id)
	if e == nil || e.Owner != me {
		return Version{}, nil
	}
	if _, any := e.Coming(now); any {
		return Version{}, nil
	}
	settled := *e
	settled.settle(now)
	v := Version{Hash: hashOf(text), Size: len(text), buffer: settled.spare()}
	if kept, err := b.write(b.numberOf(id), v.buffer, text, now); !kept || err != nil {
		return Version{}, err
	}
	ready := false
	done, err := b.Change(id, me, b.clock.Now(), func(e *Entry, now int64) {
		e.settle(now)
		if ready = e.coming.At == 0 && e.spare() == v.buffer; ready {
			e.announce(v, now)
			e.Mark, e.Refused, v.At = mark, 0, e.coming.At
		}
	})
	if !done || !ready || err != nil {
		return Version{}, err
	}
	ready = false
	after := b.clock.Now()
	_, err = b.Change(id, me, after, func(e *Entry, _ int64) { ready = e.confirm(v, after) })
	if !ready || err != nil {
		return Version{}, err
	}
	return v, nil
}

func (b *Board) numberOf(id record.ID) int { return find(b.op.entries, id) }

func find(all []Entry, id record.ID) int {
	for i := range all {
		if all[i].ID == id {
			return i
		}
	}
	return -1
}

// update looks at the record, and changes it where do says so.
func (b *Board) update(now int64, do func(all []Entry, now int64) ([]Entry, bool)) error {
	b.op.do = do
	err := b.table.Update(&b.cell, now, &b.op)
	if errors.Is(err, record.ErrContended) {
		err = nil // others are at it; what was seen is what they have done
	}
	if err != nil {
		return err
	}
	b.looked, b.until = now, now+Lease
	for i := range b.op.entries {
		if v, any := b.op.entries[i].Coming(now); any {
			b.until = min(b.until, v.At)
		}
	}
	return nil
}

// operation is one look at the record, or a change of it.
type operation struct {
	do      func(all []Entry, now int64) ([]Entry, bool)
	entries []Entry
}

// Apply implements record.Transition. Where the record was lost, nothing is in force until the sources were asked again.
func (o *operation) Apply(dst []byte, s record.State) (next []byte, outcome record.Outcome) {
	var ok bool
	if o.entries, ok = decodeEntries(o.entries[:0], s.Payload); !ok {
		return dst, record.Unreadable
	}
	changed := false
	for i := range o.entries {
		changed = o.entries[i].settle(s.Now) || changed
	}
	if o.do != nil {
		all, done := o.do(o.entries, s.Now)
		o.entries, changed = all, changed || done
	}
	if !changed {
		return dst, record.Keep
	}
	for i := range o.entries {
		dst = o.entries[i].append(dst)
	}
	return dst, record.Store
}
