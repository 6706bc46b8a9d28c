package record

import (
	"encoding/binary"
	"errors"
	"strconv"

	"sentinel-envoy/shared/checksum"
	"sentinel-envoy/shared/host"
)

// The directory has a fixed number of pages, a page a fixed number of slots. An id belongs to one page; its place in
// the page is its slot.
const (
	pages        = 1024
	slotsPerPage = 32
	// idleSeconds is how long a slot must have gone unused before another id may have it: longer than Envoy drains a
	// filter chain by default (600 s).
	idleSeconds = 1200
	// touchSeconds is how often a slot in use is marked as such.
	touchSeconds = 60
)

// ErrFull means that an id's page has no free slot: far more ids are in use than Slots.
var ErrFull = errors.New("record: no free slot")

// ErrContended means that compare-and-set was lost as often as is tried.
var ErrContended = errors.New("record: lost compare-and-set too often")

// Slots is the largest number of ids a directory can hold.
const Slots = pages * slotsPerPage

// Directory assigns slots to ids, the same in every worker. Its keys begin with a prefix; there are at most 1024 of
// them, each value at most 652 bytes.
type Directory struct {
	data host.SharedData
	// prefix carries the version of the codec: two versions never read each other's pages.
	prefix string
	// reuse lets an id that has gone unused lose its slot.
	reuse   bool
	buf     []byte
	corrupt uint64
}

// NewDirectory returns the directory with that prefix. With reuse, an id that is not touched for 20 minutes can lose
// its slot to another; without, a slot is for ever.
func NewDirectory(data host.SharedData, prefix string, reuse bool) *Directory {
	return &Directory{data: data, prefix: prefix, reuse: reuse}
}

// Corrupt is how many pages were found that nobody of us can have written; they are replaced.
func (d *Directory) Corrupt() uint64 { return d.corrupt }

// Slot returns the number of id's slot, below Slots, and takes one if it has none. now is the monotonic time in
// nanoseconds. It fails with ErrFull, ErrContended, or the host's error.
func (d *Directory) Slot(id ID, now int64) (int, error) {
	page := id.page()
	key := d.prefix + strconv.Itoa(page)
	seconds := uint32(now / 1e9)
	for range maxTries {
		value, cas, err := read(d.data, key)
		if err != nil {
			return 0, err
		}
		entries, intact := decodePage(value)
		if !intact {
			d.corrupt++
		}
		at, changed, ok := d.place(entries, id, seconds)
		if !ok {
			return 0, ErrFull
		}
		if changed {
			d.buf = encodePage(d.buf[:0], entries, at, entry{id: id, touched: seconds})
			err = d.data.Set(key, d.buf, cas)
			if errors.Is(err, host.ErrCASMismatch) {
				continue
			}
			if err != nil {
				return 0, err
			}
		}
		return page*slotsPerPage + at, nil
	}
	return 0, ErrContended
}

// place finds id's place among entries, or the place it shall have, and whether the page must be written.
func (d *Directory) place(entries []entry, id ID, seconds uint32) (at int, changed, ok bool) {
	oldest := -1
	for i, e := range entries {
		if e.id == id {
			return i, d.reuse && e.idle(seconds) >= touchSeconds, true
		}
		if oldest < 0 || e.idle(seconds) > entries[oldest].idle(seconds) {
			oldest = i
		}
	}
	if len(entries) < slotsPerPage {
		return len(entries), true, true
	}
	if d.reuse && entries[oldest].idle(seconds) >= idleSeconds {
		return oldest, true, true
	}
	return 0, false, false
}

// entry is one slot of a page.
type entry struct {
	id      ID
	touched uint32 // seconds
}

// idle is for how long a slot has gone unused, in seconds. One that is used in a time to come was written by nobody of us,
// but for a little that our reading of the clock may be behind: it would never be free.
func (e entry) idle(seconds uint32) int64 {
	idle := int64(seconds) - int64(e.touched)
	if idle < -touchSeconds {
		return idleSeconds
	}
	return max(idle, 0)
}

const (
	pageHeader = 4 // checksum
	entrySize  = len(ID{}) + 4
)

// decodePage returns the entries of a page, and whether it is one. A missing page is one without entries.
func decodePage(value []byte) (entries []entry, intact bool) {
	if value == nil {
		return nil, true
	}
	if len(value) < pageHeader || (len(value)-pageHeader)%entrySize != 0 || len(value) > pageHeader+slotsPerPage*entrySize {
		return nil, false
	}
	body := value[pageHeader:]
	if binary.LittleEndian.Uint32(value) != checksum.Sum(body) {
		return nil, false
	}
	entries = make([]entry, len(body)/entrySize, slotsPerPage)
	for i := range entries {
		e := body[i*entrySize:]
		copy(entries[i].id[:], e)
		entries[i].touched = binary.LittleEndian.Uint32(e[len(ID{}):])
	}
	return entries, true
}

// encodePage appends the page of entries to dst, with e at place at, which may be one past the end.
func encodePage(dst []byte, entries []entry, at int, e entry) []byte {
	if at == len(entries) {
		entries = append(entries, e)
	} else {
		entries[at] = e
	}
	dst = append(dst, 0, 0, 0, 0)
	for _, e := range entries {
		dst = append(dst, e.id[:]...)
		dst = binary.LittleEndian.AppendUint32(dst, e.touched)
	}
	binary.LittleEndian.PutUint32(dst, checksum.Sum(dst[pageHeader:]))
	return dst
}
