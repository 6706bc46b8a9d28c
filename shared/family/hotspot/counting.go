package hotspot

import (
	"encoding/binary"

	"sentinel-envoy/shared/record"
	"sentinel-envoy/shared/worker"
)

// A page of counts is the time at which it was lost (8 bytes, in nanoseconds, 0 if never), and then a part for each worker:
// slot (2), epoch (8), stamp (8), and how many counts follow (2), each a key (8) and a number (4); little-endian.
const (
	partHeader = 2 + 8 + 8 + 2
	countSize  = 8 + 4
)

// part is the bytes of what one worker has in a page.
type part []byte

// next splits off the first part of some, and reports whether there is one.
func next(parts []byte) (first part, rest []byte, ok bool) {
	if len(parts) < partHeader {
		return nil, nil, false
	}
	size := partHeader + countSize*int(binary.LittleEndian.Uint16(parts[18:]))
	if len(parts) < size {
		return nil, nil, false
	}
	return parts[:size], parts[size:], true
}

func (p part) holder() worker.Identity {
	return worker.Identity{Slot: binary.LittleEndian.Uint16(p), Epoch: binary.LittleEndian.Uint64(p[2:])}
}

func (p part) stamp() int64 { return int64(binary.LittleEndian.Uint64(p[10:])) }

// of is how many entries of a value the worker has in flight, with those that share its count.
func (p part) of(hash uint64) (n int64) {
	for c := p[partHeader:]; len(c) > 0; c = c[countSize:] {
		if key := binary.LittleEndian.Uint64(c); key == hash || key == shared(hash) {
			n += int64(binary.LittleEndian.Uint32(c[8:]))
		}
	}
	return n
}

// counting is one update of a page: an entry, or what this worker has.
type counting struct {
	of     *Concurrency
	page   *countPage
	holder worker.Identity
	// hash is the value's that asks for an entry, key what that would be counted by.
	hash, key uint64
	threshold int64
	enters    bool
	now       int64 // the page's, once it is applied
	count     Count
	written   bool
}

// Apply implements record.Transition.
func (o *counting) Apply(dst []byte, r record.State) ([]byte, record.Outcome) {
	o.now = r.Now
	lostAt, parts, ok := o.read(r.Payload)
	if !ok {
		return dst, record.Unreadable
	}
	if r.Lost {
		lostAt = o.now
	}
	dst = binary.LittleEndian.AppendUint64(dst, uint64(lostAt))
	var others int64
	holders := 0
	for p, rest, ok := next(parts); ok; p, rest, ok = next(rest) {
		if h := p.holder(); h == o.holder || h == o.page.holder || o.of.watch.Gone(p.stamp(), o.now) {
			continue
		}
		dst = append(dst, p...)
		holders++
		if o.enters {
			others += p.of(o.hash)
		}
	}
	unknown := lostAt > 0 && !o.of.watch.Gone(lostAt, o.now)
	o.decide(others, holders, unknown)
	if o.written = r.Lost || o.count.OK || !o.enters; !o.written {
		return dst, record.Keep
	}
	return o.appendMine(dst), record.Store
}

// read splits a page, and reports whether it is one.
func (o *counting) read(payload []byte) (lostAt int64, parts []byte, ok bool) {
	if payload == nil {
		return 0, nil, true
	}
	if len(payload) < 8 {
		return 0, nil, false
	}
	lostAt, parts = int64(binary.LittleEndian.Uint64(payload)), payload[8:]
	newest, rest := lostAt, parts
	for len(rest) > 0 {
		var p part
		if p, rest, ok = next(rest); !ok {
			return 0, nil, false
		}
		newest = max(newest, p.stamp())
	}
	return lostAt, parts, lostAt >= 0 && newest <= o.now
}

// decide sets the answer, where so many other workers have so many in flight of the value, if that is known.
func (o *counting) decide(others int64, holders int, unknown bool) {
	if !o.enters {
		return
	}
	mine := int64(0)
	for _, h := range o.page.held {
		if h.hash == o.hash || h.hash == shared(o.hash) {
			mine += int64(h.n)
		}
	}
	o.count = Count{InFlight: others + mine}
	o.count.OK = others+mine < o.threshold && !unknown && (holders < maxHolders || len(o.page.held) > 0)
}

// appendMine appends this worker's part, with the entry that is let in.
func (o *counting) appendMine(dst []byte) []byte {
	entered := o.count.OK
	start, n := len(dst), 0
	dst = binary.LittleEndian.AppendUint16(dst, o.holder.Slot)
	dst = binary.LittleEndian.AppendUint64(dst, o.holder.Epoch)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(o.now))
	dst = append(dst, 0, 0)
	for _, h := range o.page.held {
		if o.count.OK && h.hash == o.key {
			h.n++
			entered = false
		}
		dst, n = appendCount(dst, h), n+1
	}
	if entered {
		dst, n = appendCount(dst, held{o.key, 1}), n+1
	}
	if n == 0 {
		return dst[:start]
	}
	binary.LittleEndian.PutUint16(dst[start+18:], uint16(n))
	return dst
}

func appendCount(dst []byte, h held) []byte {
	return binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint64(dst, h.hash), h.n)
}
