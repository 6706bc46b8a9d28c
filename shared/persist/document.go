// Package persist is the document in which a process leaves its counts for the next one: its format, and how its times are
// those of another process. It is pure: what an entry says is its family's.
package persist

import (
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"sort"
	"strconv"

	"sentinel-envoy/shared/checksum"
)

const (
	// MaxSize is how long a document may be, in bytes: about 27,000 values of parameters, or all rules that a process may
	// have. It is built in one piece, and sent every few seconds.
	MaxSize = 1 << 20
	// Longer is how long a window must be to be kept, in milliseconds: what a shorter one has counted is not worth it.
	Longer = 60_000
	// maxEntry is how long an entry may be, in bytes.
	maxEntry = 8 << 10

	magic = "sentinel counts\n"
	// version is to be raised with any change to what an entry says, a value's place in a page among them.
	version = 1
	// prefix is the magic, the version (4 bytes), a checksum of all that follows it, and how long that is (4 each); the
	// header has after it the times of both clocks (8 each), little-endian. An entry is its kind (1), its length as a
	// varint, and what it says.
	prefix     = len(magic) + 4 + 4 + 4
	headerSize = prefix + 8 + 8
	// Latest bounds times of another process, in nanoseconds.
	Latest = 1 << 61
)

// Kind is what an entry is about.
type Kind uint8

// The kinds of entries.
const (
	FixedWindow    Kind = 1 + iota // of a flow rule
	CalendarWindow                 // of a flow rule
	ExactWindow                    // of a flow rule
	TokenBucket                    // of a flow rule
	ValueSeed                      // the key of the hash of values
	Value                          // of a hotspot rule
	kinds
)

// Entry is what is said of one thing.
type Entry struct {
	Kind Kind
	Data []byte
}

// Document is what a process has left.
type Document struct {
	// Now and Wall are the times of both clocks when it was written, in nanoseconds.
	Now, Wall int64
	Entries   []Entry
	// Hash tells documents apart.
	Hash uint64
}

// ErrForeign is the error of a text that no process of ours has left: it is somebody else's.
var ErrForeign = errors.New("this is no document of counts: is the path somebody else's?")

// Decode reads a document, whole or not at all. It fails with ErrForeign, or says what is wrong with a document of ours: it
// is of another version, or is not all there.
func Decode(text []byte) (*Document, error) {
	if len(text) < len(magic) || string(text[:len(magic)]) != magic {
		return nil, ErrForeign
	}
	switch {
	case len(text) < headerSize || len(text) > MaxSize:
		return nil, errors.New("a document of counts of " + strconv.Itoa(len(text)) + " bytes")
	case binary.LittleEndian.Uint32(text[len(magic):]) != version:
		return nil, errors.New("a document of counts of another version")
	case binary.LittleEndian.Uint32(text[len(magic)+8:]) != uint32(len(text)-prefix):
		return nil, errors.New("a part of a document of counts")
	case binary.LittleEndian.Uint32(text[len(magic)+4:]) != checksum.Sum(text[prefix:]):
		return nil, errors.New("a damaged document of counts")
	}
	d := &Document{
		Now:  int64(binary.LittleEndian.Uint64(text[prefix:])),
		Wall: int64(binary.LittleEndian.Uint64(text[prefix+8:])),
		Hash: checksum.Hash(checksum.Seed, text[prefix:]),
	}
	ok := d.Now >= 0 && d.Now < Latest && d.Wall >= 0 && d.Wall < Latest
	if d.Entries, ok = entries(text[headerSize:], ok); !ok {
		return nil, errors.New("a document of counts that makes no sense")
	}
	if !slices.ContainsFunc(d.Entries, func(e Entry) bool { return e.Kind == Value }) { // the key is of no use without any
		d.Entries = slices.DeleteFunc(d.Entries, func(e Entry) bool { return e.Kind == ValueSeed })
	}
	return d, nil
}

func entries(text []byte, ok bool) (all []Entry, intact bool) {
	for ok && len(text) > 0 {
		size, n := binary.Uvarint(text[1:])
		if n <= 0 || size > maxEntry || uint64(len(text)-1-n) < size || text[0] == 0 || Kind(text[0]) >= kinds {
			return nil, false
		}
		end := 1 + n + int(size)
		all = append(all, Entry{Kind: Kind(text[0]), Data: text[1+n : end : end]})
		text = text[end:]
	}
	return all, ok
}

// Snapshot is a document that is being made. What does not fit is left out, beginning with what has the least weight.
type Snapshot struct {
	text    []byte
	parts   []part
	dropped int
}

// part is an entry in a snapshot's text.
type part struct {
	from, to int
	weight   int64
}

// Always is the weight of what is left out last.
const Always = math.MaxInt64

// Add adds an entry. What it says is copied.
func (s *Snapshot) Add(kind Kind, weight int64, data []byte) {
	if len(data) > maxEntry {
		s.dropped++
		return
	}
	from := len(s.text)
	s.text = append(s.text, byte(kind))
	s.text = binary.AppendUvarint(s.text, uint64(len(data)))
	s.text = append(s.text, data...)
	s.parts = append(s.parts, part{from, len(s.text), weight})
	if len(s.text) > 2*MaxSize {
		s.cut()
	}
}

// cut leaves out what is too much.
func (s *Snapshot) cut() {
	if headerSize+len(s.text) <= MaxSize {
		return
	}
	sort.Slice(s.parts, func(i, j int) bool {
		a, b := &s.parts[i], &s.parts[j]
		if a.weight != b.weight {
			return a.weight > b.weight
		}
		return a.from < b.from
	})
	kept := make([]byte, 0, MaxSize)
	for i, p := range s.parts {
		if headerSize+len(kept)+p.to-p.from > MaxSize {
			s.dropped += len(s.parts) - i
			s.parts = s.parts[:i]
			break
		}
		from := len(kept)
		kept = append(kept, s.text[p.from:p.to]...)
		s.parts[i].from, s.parts[i].to = from, len(kept)
	}
	s.text = kept
}

// Hash tells what is in it apart, whenever it is written.
func (s *Snapshot) Hash() uint64 {
	s.cut()
	return checksum.Hash(checksum.Seed, s.text)
}

// Empty is whether there is nothing in it.
func (s *Snapshot) Empty() bool { return len(s.parts) == 0 }

// Dropped is how many entries were left out.
func (s *Snapshot) Dropped() int { return s.dropped }

// Encode is the document, written at a time by both clocks, in nanoseconds.
func (s *Snapshot) Encode(now, wall int64) []byte {
	s.cut()
	dst := make([]byte, 0, headerSize+len(s.text))
	dst = binary.LittleEndian.AppendUint32(append(dst, magic...), version)
	dst = append(dst, 0, 0, 0, 0, 0, 0, 0, 0)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(now))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(wall))
	dst = append(dst, s.text...)
	binary.LittleEndian.PutUint32(dst[len(magic)+4:], checksum.Sum(dst[prefix:]))
	binary.LittleEndian.PutUint32(dst[len(magic)+8:], uint32(len(dst)-prefix))
	return dst
}
