package quota

import (
	"encoding/binary"

	"sentinel-envoy/shared/record"
)

// A page has the states of values of parameters, of any rule: the hash of each, little endian, and what State.Encode writes.
const (
	// valuePages is how many pages all rules of a process share, and room how many values fit one.
	valuePages = 512
	room       = 16
	hashSize   = 8
)

// Capacity is of how many values a process knows at once what it has reserved.
const Capacity = valuePages * room

// entrySize is the length of what a page has of a value.
var entrySize = hashSize + len(new(State).Encode(nil))

// within is a change of the state that a page has of one value.
//
// Where the page is full another value makes room. What was reserved for it is lost, and an answer that it waits for
// comes too late: both leave hits counted at the service that nobody spends.
type within struct {
	hash  uint64
	state record.Transition
}

// Apply implements record.Transition.
func (w *within) Apply(dst []byte, r record.State) ([]byte, record.Outcome) {
	if len(r.Payload)%entrySize != 0 || len(r.Payload) > room*entrySize {
		return dst, record.Unreadable
	}
	page := page(r.Payload)
	at := page.find(w.hash)
	one := record.State{Now: r.Now, Lost: r.Lost}
	if at >= 0 {
		one.Payload = page.state(at)
	}
	start := len(dst)
	dst = append(dst, r.Payload...)
	end := len(dst)
	dst = binary.LittleEndian.AppendUint64(dst, w.hash)
	dst, outcome := w.state.Apply(dst, one)
	if outcome == record.Unreadable { // only this value's is
		dst, outcome = w.state.Apply(dst[:end+hashSize], record.State{Lost: true, Now: r.Now})
	}
	if outcome != record.Store {
		return dst[:start], outcome
	}
	if at < 0 && page.values() == room {
		at = page.coldest(r.Now)
	}
	if at >= 0 {
		copy(dst[start+at*entrySize:], dst[end:])
		dst = dst[:end]
	}
	return dst, record.Store
}

// page is the bytes of a page.
type page []byte

func (p page) values() int { return len(p) / entrySize }

func (p page) state(i int) []byte { return p[i*entrySize+hashSize : (i+1)*entrySize] }

// find is the place of a value, −1 where it has none.
func (p page) find(hash uint64) int {
	for i := range p.values() {
		if binary.LittleEndian.Uint64(p[i*entrySize:]) == hash {
			return i
		}
	}
	return -1
}

// coldest is the place of the value that makes room: of those that have nothing reserved and no call under way, or of all
// where none is, the one that has called the service longest ago.
func (p page) coldest(now int64) (place int) {
	best := int64(-1)
	for i := range p.values() {
		var s State
		if !s.Decode(p.state(i), now) {
			return i
		}
		age := now - s.Begun
		if s.Deadline == 0 && s.free(now) == 0 {
			age += 1 << 60
		}
		if age > best {
			place, best = i, age
		}
	}
	return place
}
