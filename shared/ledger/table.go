package ledger

import (
	"encoding/binary"
	"errors"
	"strconv"

	"sentinel-envoy/shared/checksum"
	"sentinel-envoy/shared/host"
)

// maxTries bounds how often a lost compare-and-set is tried again. Each loss is another worker's progress.
const maxTries = 32

// Counts are what a table has seen, since it was made.
type Counts struct {
	// Retries are lost compare-and-sets, Contended the updates given up after too many of them.
	Retries, Contended uint64
	// Corrupt are the records found that nobody of us can have written; they are replaced.
	Corrupt uint64
}

// Table is the shared records of a process, as one worker sees them. It is not safe for concurrent use: a worker has
// one thread. A table has at most Slots records.
type Table struct {
	data host.SharedData
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
func NewTable(data host.SharedData) *Table {
	const version = "sentinel/1/"
	return &Table{data: data, dir: NewDirectory(data, version+"dir/", true), keys: version + "rec/"}
}

// Cell is a record's place in the table. Its zero value with an ID is not yet bound to a slot; the first update binds it.
type Cell struct {
	ID  ID
	key string
}

// Transition is a pure change of a record.
type Transition interface {
	// Apply is given what is stored, payload, and appends what shall be stored to dst. It reports whether to store it.
	// It is called again, with what another worker has stored meanwhile, after a lost compare-and-set.
	//
	// A record that does not exist yet has a nil payload. lost means that there was a record and it could not be read:
	// what it held is unknown. Apply reports a payload it cannot read itself by ok false, and is called once more with
	// lost.
	Apply(dst, payload []byte, lost bool) (next []byte, write, ok bool)
}

// Update applies t to cell's record. now is the monotonic time in nanoseconds. It fails with ErrContended or ErrFull,
// or with the host's error; the record is then as it was.
func (tb *Table) Update(c *Cell, now int64, t Transition) error {
	known := c.key != "" // this worker has had the record before
	rebound := !known
	if rebound {
		if err := tb.bind(c, now); err != nil {
			return err
		}
	}
	for range maxTries {
		value, cas, err := read(tb.data, c.key)
		if err != nil {
			return err
		}
		payload, owner, intact := decodeRecord(value)
		if value != nil && intact && owner != c.ID {
			if !rebound {
				// The slot was given to another id while this worker did not use it.
				rebound = true
				if err := tb.bind(c, now); err != nil {
					return err
				}
				continue
			}
			// The directory says that the slot is ours now. Where it once said so of another, that record is lost.
			payload, intact = nil, !known
		}
		next, write := tb.apply(c, t, payload, !intact)
		if !write {
			return nil
		}
		err = tb.data.Set(c.key, next, cas)
		if !errors.Is(err, host.ErrCASMismatch) {
			return err
		}
		tb.seen.Retries++
	}
	tb.seen.Contended++
	return ErrContended
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

// apply runs the transition on a payload and returns the record to store.
func (tb *Table) apply(c *Cell, t Transition, payload []byte, lost bool) (record []byte, write bool) {
	header := appendHeader(tb.buf[:0], c.ID)
	if lost {
		payload = nil
		tb.seen.Corrupt++
	}
	next, write, ok := t.Apply(header, payload, lost)
	if !ok {
		tb.seen.Corrupt++
		next, write, _ = t.Apply(header, nil, true)
	}
	tb.buf = next
	if write {
		seal(next)
	}
	return next, write
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

// A record is a checksum of the rest, the id it belongs to, and the payload.
const recordHeader = 4 + len(ID{})

func appendHeader(dst []byte, id ID) []byte {
	return append(append(dst, 0, 0, 0, 0), id[:]...)
}

func seal(record []byte) {
	binary.LittleEndian.PutUint32(record, checksum.Sum(record[4:]))
}

// decodeRecord splits a record. A missing one is intact and has a nil payload and the zero owner.
func decodeRecord(value []byte) (payload []byte, owner ID, intact bool) {
	if value == nil {
		return nil, owner, true
	}
	if len(value) < recordHeader || binary.LittleEndian.Uint32(value) != checksum.Sum(value[4:]) {
		return nil, owner, false
	}
	copy(owner[:], value[4:])
	return value[recordHeader:], owner, true
}
