package record

import (
	"encoding/binary"
	"errors"
	"strconv"

	"sentinel-envoy/shared/host"
)

// maxTries bounds how often a lost compare-and-set is tried again. Each loss is another worker's progress. Where 256
// workers that never rest are interleaved at random, one try in 36 wins: to give up takes bad luck of 10⁻¹², and with 512
// of 10⁻⁷. In a process no more than its cores try at once.
const maxTries = 1000

// Counts are what a table has seen, since it was made.
type Counts struct {
	// Retries are lost compare-and-sets, Contended the updates given up after too many of them.
	Retries, Contended uint64
	// Corrupt are the records found that nobody of us can have written; they are replaced.
	Corrupt uint64
}

// Host is what a table asks of the proxy.
type Host interface {
	host.SharedData
	host.Clock
}

// The directory of a table: with MaxRecords in use, its fullest page has no more than its slots but once in a million.
const tablePages = 4096

// MaxRecords is how many records a process has room for. Beyond it ids begin to find their page full.
const MaxRecords = tablePages * slotsPerPage / 4

// MaxKeys is how many keys a table makes at most, but for those of Fixed.
const MaxKeys = tablePages + tablePages*slotsPerPage

// Table is the shared records of a process, as one worker sees them. It is not safe for concurrent use: a worker has
// one thread.
type Table struct {
	host Host
	// data is the host's: to take it from host costs a look-up each time.
	data   host.SharedData
	dir    *Directory
	prefix string
	buf    []byte
	seen   Counts
	census census
}

// Counts are what the table has seen so far.
func (tb *Table) Counts() Counts {
	c := tb.seen
	c.Corrupt += tb.dir.corrupt
	return c
}

// Version begins the keys of all that is stored in a table: raise it with any change to a payload or to the layout here.
const Version = "sentinel/6/"

// NewTable returns the process's table.
func NewTable(h Host) *Table {
	return &Table{host: h, data: h, prefix: Version, dir: &Directory{
		data: h, prefix: Version + "dir/", pages: tablePages, slots: &slots{host: h, keys: Version + "rec/"},
	}}
}

// Cell is a record's place in the table. Its zero value with an ID is not yet bound to a slot; the first update binds it.
type Cell struct {
	ID  ID
	key string
	// stored is whether this worker has stored the record: where it is no more, it was lost.
	stored bool
	// fixed is whether it has a key of its own.
	fixed bool
	// touched is when Touch last looked at the directory, in nanoseconds.
	touched int64
}

// Fixed is the place of a record that has a key of its own, and needs no slot. Names, of at most 8 bytes, and numbers must
// come from a bounded set.
func (tb *Table) Fixed(name string, number int) Cell {
	c := Cell{key: tb.prefix + name + "/" + strconv.Itoa(number), fixed: true}
	copy(c.ID[:8], name)
	binary.LittleEndian.PutUint64(c.ID[8:], uint64(number))
	return c
}

// State is a record as a transition finds it.
type State struct {
	// Payload is what was stored, nil where there is no record yet, or where it was lost.
	Payload []byte
	// Lost means that there was a record and it could not be read: what it held is unknown.
	Lost bool
	// Now is the time of the change, in nanoseconds: the caller's, or a later one where another worker has written since
	// the caller read the clock. It is not before the time of any earlier change.
	Now int64
}

// Outcome is what becomes of a record.
type Outcome uint8

// The outcomes of a transition.
const (
	// Keep leaves the record as it is.
	Keep Outcome = iota
	// Store replaces it by what was appended.
	Store
	// Unreadable means that nobody of us can have written the payload: the transition is asked once more, with Lost.
	Unreadable
)

// StoreIf is Store where something has changed, else Keep.
func StoreIf(changed bool) Outcome {
	if changed {
		return Store
	}
	return Keep
}

// Transition is a pure change of a record.
type Transition interface {
	// Apply appends to dst what shall be stored in place of s, and says what becomes of the record. It is called again,
	// with what another worker has stored meanwhile, after a lost compare-and-set.
	Apply(dst []byte, s State) (next []byte, o Outcome)
}

// Update applies t to cell's record. now is the monotonic time in nanoseconds. It fails with ErrContended or ErrFull,
// or with the host's error; the record is then as it was, or has had a change too much.
func (tb *Table) Update(c *Cell, now int64, t Transition) error {
	stored := c.stored
	var f found
	for range maxTries {
		err := tb.find(&f, c, stored)
		if err != nil {
			return err
		}
		if f.written > now {
			now = tb.notBefore(f.written, now)
		}
		next, store := tb.apply(c, t, f.payload, f.lost || f.written > now, now)
		if !store {
			return nil
		}
		if err = tb.data.Set(c.key, next, f.cas); err == nil {
			if !f.claimed || c.fixed {
				return nil
			}
			if kept, err := tb.confirm(c, &f); kept || err != nil {
				return err
			}
		} else if !errors.Is(err, host.ErrCASMismatch) {
			return err
		}
		tb.seen.Retries++
	}
	tb.seen.Contended++
	return ErrContended
}

// found is a record as find has found it.
type found struct {
	record
	cas uint32
	// lost means that there was a record, fresh that there was none, claimed that what is stored now must be confirmed.
	lost, fresh, claimed bool
}

// find reads a cell's record. Where its slot has another's, the directory says which slot is the cell's now. stored is
// whether this worker has stored the record before.
func (tb *Table) find(f *found, c *Cell, stored bool) (err error) {
	unsure := false
	if c.key != "" {
		err = tb.load(f, c)
	}
	if c.key == "" || err == nil && tb.astray(c, f) {
		if unsure, err = tb.bind(c); err == nil {
			err = tb.load(f, c)
		}
	}
	if err != nil {
		return err
	}
	switch {
	case f.owner == c.ID:
		f.lost, f.fresh, f.claimed = false, false, !c.stored
	case f.corrupt || c.fixed && !f.absent:
		*f = found{cas: f.cas, lost: true, claimed: true}
	default: // there is none, or one of another that has lost the slot
		lost := stored || unsure
		*f = found{cas: f.cas, lost: lost, fresh: !lost, claimed: true}
	}
	return nil
}

// astray is whether a cell may have another slot than the one in which that was found.
func (tb *Table) astray(c *Cell, f *found) bool {
	return !c.fixed && f.owner != c.ID && (c.stored || !f.absent)
}

func (tb *Table) load(f *found, c *Cell) (err error) {
	f.cas, err = load(&f.record, tb.data, c.key)
	return err
}

// confirm makes sure that the slot is the cell's in which this worker has stored its record for the first time. Where the
// directory's page was lost after this worker had read it, another slot may be, or this record not the first: it is then
// nobody's, and the cell has yet to find its slot.
func (tb *Table) confirm(c *Cell, f *found) (kept bool, err error) {
	slot, unsure, err := tb.dir.Slot(c.ID)
	if err != nil || c.key == tb.dir.slots.key(slot) && !(unsure && f.fresh) {
		c.stored = err == nil
		return err == nil, err
	}
	wrong := c.key
	c.key = ""
	var r record
	cas, err := load(&r, tb.data, wrong)
	if err == nil && r.owner == c.ID {
		_, err = tb.dir.slots.disown(wrong, cas)
	}
	return false, err
}

// notBefore is the time of a change of a record that was written at another time. Somebody may have written since our
// caller read the clock. Every writer reads the clock before it writes, so a record that is ahead even of another reading
// was written by nobody of us.
func (tb *Table) notBefore(written, now int64) int64 {
	if written <= now {
		return now
	}
	return max(now, tb.host.Now())
}

// apply runs the transition on a record, of which nothing is known where it is lost, and returns what to store.
func (tb *Table) apply(c *Cell, t Transition, payload []byte, lost bool, now int64) (next []byte, store bool) {
	header := appendHeader(tb.buf[:0], c.ID, now)
	if lost {
		payload = nil
		tb.seen.Corrupt++
	}
	next, o := t.Apply(header, State{Payload: payload, Lost: lost, Now: now})
	if o == Unreadable {
		tb.seen.Corrupt++
		next, o = t.Apply(header, State{Lost: true, Now: now})
	}
	tb.buf = next
	if o == Store {
		seal(next)
	}
	return next, o == Store
}

// Touch marks c's slot as in use. It must be called at least every two minutes for a cell that is in use, costs one read of
// shared data and at most two writes a minute, and does nothing for a cell that was never updated. now is in nanoseconds.
func (tb *Table) Touch(c *Cell, now int64) error {
	if c.key == "" || c.fixed || now-c.touched < touchSeconds*1e9 {
		return nil
	}
	c.touched = now
	_, err := tb.bind(c)
	return err
}

func (tb *Table) bind(c *Cell) (unsure bool, err error) {
	slot, unsure, err := tb.dir.Slot(c.ID)
	if err == nil {
		c.key = tb.dir.slots.key(slot)
	}
	return unsure, err
}

// pagesPerLook is how many pages of the directory Free looks at, and Looks after how many calls it has seen all.
const (
	pagesPerLook = 8
	Looks        = tablePages / pagesPerLook
)

// census counts the slots in use, a few pages at a time.
type census struct {
	next, counted, inUse int
	known                bool
}

// Free is how many more records the process has room for, and whether that is known already. Each call looks at a few pages
// of the directory; what it tells is at most two rounds of them old. It fails with the host's error.
func (tb *Table) Free() (free int, known bool, err error) {
	c := &tb.census
	seconds := tb.dir.seconds()
	for range pagesPerLook {
		n, err := tb.dir.inUse(c.next, seconds)
		if err != nil {
			return 0, false, err
		}
		c.counted += n
		if c.next++; c.next == tablePages {
			*c = census{inUse: c.counted, known: true}
		}
	}
	return max(MaxRecords-c.inUse, 0), c.known, nil
}
