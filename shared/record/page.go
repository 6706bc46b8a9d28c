package record

import (
	"encoding/binary"

	"sentinel-envoy/shared/checksum"
)

const (
	// slotsPerPage is how many slots a page of a directory has.
	slotsPerPage = 32
	// touchSeconds is how old the mark of a slot in use grows before it is made again.
	touchSeconds = 30
	// idleSeconds is how long a slot must have gone unused before another id may have it. A worker touches what it uses
	// every two minutes at the latest, and makes the mark anew where it is older than touchSeconds: a mark of a slot in
	// use is at most 150 s old, but for what a worker is held up.
	idleSeconds = 240
)

// page is a page of a directory: an id's place in it is its slot.
type page struct {
	// lost is when the page was made anew, in seconds, 0 if never. Records may have been lost with it, nobody knows whose.
	lost    uint32
	entries []entry
}

// entry is one slot of a page. That of the zero ID is free.
type entry struct {
	id      ID
	touched uint32 // seconds
}

// idle is for how long a slot has gone unused, in seconds. One that is used in a time to come was written by nobody of us,
// but for a little that our reading of the clock may be behind: it would never be free.
func (e entry) idle(seconds uint32) int64 {
	if e.id == (ID{}) {
		return idleSeconds
	}
	return age(e.touched, seconds)
}

// age is how long ago a time was, in seconds; a time to come is long ago.
func age(then, seconds uint32) int64 {
	passed := int64(seconds) - int64(then)
	if passed < -touchSeconds {
		return idleSeconds
	}
	return max(passed, 0)
}

// unsure is whether a record that is not there may be one that was lost.
func (p *page) unsure(seconds uint32) bool { return p.lost != 0 && age(p.lost, seconds) < idleSeconds }

// find is the place of an id, −1 where it has none.
func (p *page) find(id ID) int {
	for i, e := range p.entries {
		if e.id == id {
			return i
		}
	}
	return -1
}

// vacant is a place that nobody uses: a new one while there are any, else the one unused for longest; −1 where there is
// none.
func (p *page) vacant(seconds uint32) int {
	if n := len(p.entries); n < slotsPerPage {
		p.entries = append(p.entries, entry{})
		return n
	}
	oldest := 0
	for i, e := range p.entries {
		if e.idle(seconds) > p.entries[oldest].idle(seconds) {
			oldest = i
		}
	}
	if p.entries[oldest].idle(seconds) < idleSeconds {
		return -1
	}
	return oldest
}

// inUse is how many slots have an id that uses them.
func (p *page) inUse(seconds uint32) (n int) {
	for _, e := range p.entries {
		if e.idle(seconds) < idleSeconds {
			n++
		}
	}
	return n
}

// A page is a checksum of the rest and the time of its loss (4 bytes each), and then entries: id (16 bytes) and time (4),
// little-endian.
const (
	pageHeader = 4 + 4
	entrySize  = len(ID{}) + 4
)

// decodePage returns a page, and whether it is one. A missing page is one without entries.
func decodePage(value []byte) (p page, intact bool) {
	if value == nil {
		return page{}, true
	}
	if len(value) < pageHeader || (len(value)-pageHeader)%entrySize != 0 || len(value) > pageHeader+slotsPerPage*entrySize {
		return page{}, false
	}
	if binary.LittleEndian.Uint32(value) != checksum.Sum(value[4:]) {
		return page{}, false
	}
	body := value[pageHeader:]
	p = page{lost: binary.LittleEndian.Uint32(value[4:]), entries: make([]entry, len(body)/entrySize, slotsPerPage)}
	for i := range p.entries {
		e := body[i*entrySize:]
		copy(p.entries[i].id[:], e)
		p.entries[i].touched = binary.LittleEndian.Uint32(e[len(ID{}):])
	}
	return p, true
}

// encode appends the page to dst, which is empty.
func (p *page) encode(dst []byte) []byte {
	dst = binary.LittleEndian.AppendUint32(append(dst, 0, 0, 0, 0), p.lost)
	for _, e := range p.entries {
		dst = append(dst, e.id[:]...)
		dst = binary.LittleEndian.AppendUint32(dst, e.touched)
	}
	binary.LittleEndian.PutUint32(dst, checksum.Sum(dst[4:]))
	return dst
}
