package record

import (
	"encoding/binary"
	"errors"
	"strconv"

	"sentinel-envoy/shared/checksum"
	"sentinel-envoy/shared/host"
)

// maxTries bounds how often a lost compare-and-set is tried again. Each loss is another worker's progress. Where 256 workers that
// never rest are interleaved at random, one try in 36 wins: to give up takes bad luck of 10⁻¹², and with 512 of 10⁻⁷. In a
// process no more than its cores try at once.
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

// Table is the shared records of a process, as one worker sees them. It is not safe for concurrent use: a worker has
// one thread. A table has at most Slots records.
type Table struct {
	host Host
	dir  *Directory
	keys string
	buf  []byte
	seen Counts
}

// Counts are what the table has seen so far.
func (tb *Table) Counts() Counts {
	c := tb.seen
	c.Corrupt += tb.dir.corrupt
	return c
}

// NewTable returns the process's table. Its keys carry the version of all codecs of what is stored in it: raise it with
// any change to a payload or to the layout here.
func NewTable(h Host) *Table {
	const version = "sentinel/2/"
	return &Table{host: h, dir: NewDirectory(h, version+"dir/", true), keys: version + "rec/"}
}

// Cell is a record's place in the table. Its zero value with an ID is not yet bound to a slot; the first update binds it.
type Cell struct {
	ID  ID
	key string
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
// or with the host's error; the record is then as it was.
func (tb *Table) Update(c *Cell, now int64, t Transition) error {
	had := c.key != "" // this worker has had the record before
	bound := !had
	if bound {
		if err := tb.bind(c, now); err != nil {
			return err
		}
	}
	for range maxTries {
		r, cas, err := tb.load(c)
		if err == nil && r.foreign && !bound {
			// The slot was given to another id while this worker did not use it.
			bound = true
			if err = tb.bind(c, now); err == nil {
				r, cas, err = tb.load(c)
			}
		}
		if err != nil {
			return err
		}
		now = tb.notBefore(r.written, now)
		// A foreign record lies in a slot that the directory says is ours. Where it once said so of another, ours is lost.
		lost := r.corrupt || r.foreign && had || r.written > now
		next, store := tb.apply(c, t, State{Payload: r.payload, Lost: lost, Now: now})
		if !store {
			return nil
		}
		err = tb.host.Set(c.key, next, cas)
		if !errors.Is(err, host.ErrCASMismatch) {
			return err
		}
		tb.seen.Retries++
	}
	tb.seen.Contended++
	return ErrContended
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

// load reads the record in a cell's slot.
func (tb *Table) load(c *Cell) (record, uint32, error) {
	value, cas, err := read(tb.host, c.key)
	r := decode(value)
	if r.owner != c.ID && !r.corrupt && value != nil {
		r = record{foreign: true}
	}
	return r, cas, err
}

// read is Get in which an absent key is a nil value to be created, and a present one is never nil.
func read(data host.SharedData, key string) (value []byte, cas uint32, err error) {
	value, cas, err = data.Get(key)
	switch {
	case errors.Is(err, host.ErrNotFound):
		return nil, host.CreateOnly, nil
	case err == nil && value == nil:
		value = []byte{}
	}
	return value, cas, err
}

// apply runs the transition on a record and returns what to store.
func (tb *Table) apply(c *Cell, t Transition, s State) (next []byte, store bool) {
	header := appendHeader(tb.buf[:0], c.ID, s.Now)
	if s.Lost {
		s.Payload = nil
		tb.seen.Corrupt++
	}
	next, o := t.Apply(header, s)
	if o == Unreadable {
		tb.seen.Corrupt++
		next, o = t.Apply(header, State{Lost: true, Now: s.Now})
	}
	tb.buf = next
	if o == Store {
		seal(next)
	}
	return next, o == Store
}

// Touch marks c's slot as in use. It must be called at least every 10 minutes for a cell that is in use, costs one read
// of shared data and at most one write a minute, and does nothing for a cell that was never updated.
func (tb *Table) Touch(c *Cell, now int64) error {
	if c.key == "" {
		return nil
	}
	return tb.bind(c, now)
}

func (tb *Table) bind(c *Cell, now int64) error {
	slot, err := tb.dir.Slot(c.ID, now)
	if err != nil {
		return err
	}
	c.key = tb.keys + strconv.Itoa(slot)
	return nil
}

// record is a stored value: a checksum of the rest, the id it belongs to, the time in nanoseconds at which it was written,
// and the payload. One that is missing has a nil payload.
type record struct {
	owner   ID
	written int64
	payload []byte
	// corrupt means that it is none of ours, foreign that it belongs to another id.
	corrupt, foreign bool
}

const headerSize = 4 + len(ID{}) + 8

func appendHeader(dst []byte, id ID, now int64) []byte {
	return binary.LittleEndian.AppendUint64(append(append(dst, 0, 0, 0, 0), id[:]...), uint64(now))
}

func seal(record []byte) {
	binary.LittleEndian.PutUint32(record, checksum.Sum(record[4:]))
}

func decode(value []byte) (r record) {
	if value == nil {
		return record{}
	}
	if len(value) < headerSize || binary.LittleEndian.Uint32(value) != checksum.Sum(value[4:]) {
		return record{corrupt: true}
	}
	copy(r.owner[:], value[4:])
	r.written = int64(binary.LittleEndian.Uint64(value[headerSize-8:]))
	r.payload = value[headerSize:]
	r.corrupt = r.written < 0
	return r
}
