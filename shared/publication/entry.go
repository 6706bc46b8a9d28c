// Package publication hands a document from the worker that has read it to all workers of the process, so that all change to
// it at one instant.
//
// A worker announces a version with the time at which it takes effect, and then confirms that the announcement was early
// enough: everybody who decides later than that time has seen it. Who comes after it and finds it unconfirmed calls it off.
// Both is a compare-and-set on one record, so that one of them wins.
package publication

import (
	"encoding/binary"

	"sentinel-envoy/shared/record"
	"sentinel-envoy/shared/source"
	"sentinel-envoy/shared/worker"
)

const (
	// Lease is for how long a worker may decide by what it has last seen, in nanoseconds.
	Lease = 250e6
	// lead is how long after its announcement a version takes effect: what is left after Lease is for the announcement to
	// be made in, and Lease for workers to prepare.
	lead = 500e6
	// MaxSources is how many sources a process has room for.
	MaxSources = 16
	// Abandoned is how long after its owner's last sign a source is anybody's to ask, and forgotten how long after it its
	// place may be another's, in nanoseconds.
	Abandoned = 2 * worker.TTL
	forgotten = 60e9
)

// Version is one text of a source's document.
type Version struct {
	// At is the time from which on it is in force, in nanoseconds; 0 is that of no version.
	At   int64
	Hash uint64
	Size int // bytes
	// buffer is in which of its source's two places the text is.
	buffer uint8
}

// state is how far a coming version is.
type state uint8

const (
	announced state = iota
	confirmed
)

// Entry is what the workers know together of one source.
type Entry struct {
	ID record.ID
	// Owner asks the source; Beat is when it last said so, in nanoseconds, Since when the source became known.
	Owner       worker.Identity
	Beat, Since int64
	// Next is when the source is to be asked, and Good when it last answered well, in nanoseconds; Failures are those since.
	Next, Good int64
	Failures   int
	// Mark is by which the server is to be asked; see source.Ask. Refused is the hash of a text that was found wrong, and is
	// what the mark is of, 0 where there is none.
	Mark    string
	Refused uint64

	current, coming Version
	state           state
}

// InForce is the version to decide by at the time now, the zero Version where there is none.
func (e *Entry) InForce(now int64) Version {
	if e.coming.At != 0 && e.state == confirmed && now >= e.coming.At {
		return e.coming
	}
	return e.current
}

// Coming is the version that takes effect later than now, if there is one.
func (e *Entry) Coming(now int64) (v Version, any bool) {
	return e.coming, e.coming.At > now
}

// settle makes a version whose time has come the current one, or calls it off if nobody has confirmed it. It reports whether
// it has called one off; the source is then asked anew.
func (e *Entry) settle(now int64) (calledOff bool) {
	if e.coming.At == 0 || now < e.coming.At {
		return false
	}
	if e.state == confirmed {
		e.current = e.coming
	} else {
		e.Mark, e.Next = "", now
		calledOff = true
	}
	e.coming = Version{}
	return calledOff
}

// announce makes a text the coming version. buffer tells where the text has been put.
func (e *Entry) announce(v Version, now int64) {
	v.At = now + lead
	e.coming, e.state = v, announced
}

// confirm ends an announcement at the time now, read after it was made: late, it is called off.
func (e *Entry) confirm(v Version, now int64) (done bool) {
	if e.coming != v || e.state != announced {
		return false
	}
	if now > v.At-Lease {
		e.coming, e.Mark, e.Next = Version{}, "", now
		return false
	}
	e.state = confirmed
	return true
}

// spare is the buffer of which no version is.
func (e *Entry) spare() uint8 { return 1 - e.current.buffer&1 }

const versionSize, entrySize = 8 + 8 + 4 + 1, 16 + 2 + 8 + 8 + 8 + 8 + 8 + 1 + 8 + 1 + 1

func (v Version) append(dst []byte) []byte {
	dst = binary.LittleEndian.AppendUint64(dst, uint64(v.At))
	dst = binary.LittleEndian.AppendUint64(dst, v.Hash)
	return append(binary.LittleEndian.AppendUint32(dst, uint32(v.Size)), v.buffer)
}

func (e *Entry) append(dst []byte) []byte {
	dst = append(dst, e.ID[:]...)
	dst = binary.LittleEndian.AppendUint16(dst, e.Owner.Slot)
	for _, n := range [...]uint64{
		e.Owner.Epoch, uint64(e.Beat), uint64(e.Since), uint64(e.Next), uint64(e.Good), e.Refused,
	} {
		dst = binary.LittleEndian.AppendUint64(dst, n)
	}
	dst = append(dst, uint8(min(e.Failures, 255)), uint8(e.state), uint8(len(e.Mark)))
	dst = append(dst, e.Mark...)
	return e.coming.append(e.current.append(dst))
}

// decodeEntries reads entries, and reports whether that is what they are.
func decodeEntries(dst []Entry, b []byte) ([]Entry, bool) {
	for len(b) > 0 {
		var e Entry
		var ok bool
		if b, ok = e.decode(b); !ok || len(dst) == MaxSources {
			return dst, false
		}
		dst = append(dst, e)
	}
	return dst, true
}

func (e *Entry) decode(b []byte) (rest []byte, ok bool) {
	if len(b) < entrySize {
		return nil, false
	}
	copy(e.ID[:], b)
	b = b[len(e.ID):]
	e.Owner.Slot = binary.LittleEndian.Uint16(b)
	b = b[2:]
	var n [6]uint64
	for i := range n {
		n[i] = binary.LittleEndian.Uint64(b[8*i:])
	}
	b = b[8*len(n):]
	e.Owner.Epoch, e.Beat, e.Since, e.Next, e.Good, e.Refused = n[0], int64(n[1]), int64(n[2]), int64(n[3]), int64(n[4]), n[5]
	e.Failures, e.state = int(b[0]), state(b[1])
	mark := int(b[2])
	if b = b[3:]; mark > source.MaxMark || len(b) < mark+2*versionSize {
		return nil, false
	}
	e.Mark, b = string(b[:mark]), b[mark:]
	ok = e.current.decode(b) && e.coming.decode(b[versionSize:])
	return b[2*versionSize:], ok && e.state <= confirmed && e.Beat >= 0 && e.Next >= 0 && e.Good >= 0 && e.Since >= 0
}

func (v *Version) decode(b []byte) (ok bool) {
	v.At, v.Hash = int64(binary.LittleEndian.Uint64(b)), binary.LittleEndian.Uint64(b[8:])
	v.Size, v.buffer = int(binary.LittleEndian.Uint32(b[16:])), b[20]
	return v.At >= 0 && v.Size <= source.MaxText && v.buffer <= 1
}
