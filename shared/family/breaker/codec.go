package breaker

import (
	"encoding/binary"
	"math"
)

// Encode appends a state to dst, little endian: the phase; the times At and Since, Seen, Generation and Successes; then,
// half open, the deadlines of the places up to the last that is taken, and closed, the newest bucket's number and the
// counts a bucket.
func (s *State) Encode(dst []byte, w Window) []byte {
	dst = append(dst, byte(s.Phase))
	for _, v := range [...]uint64{uint64(s.At), uint64(s.Since), math.Float64bits(s.Seen), s.Generation, s.Successes} {
		dst = binary.LittleEndian.AppendUint64(dst, v)
	}
	switch s.Phase {
	case HalfOpen:
		for _, deadline := range s.Places[:s.taken()] {
			dst = binary.LittleEndian.AppendUint64(dst, uint64(deadline))
		}
	case Closed:
		dst = binary.LittleEndian.AppendUint64(dst, uint64(s.Newest))
		for _, c := range s.Counts[:w.Buckets+1] {
			dst = binary.LittleEndian.AppendUint64(dst, c.Bad)
			dst = binary.LittleEndian.AppendUint64(dst, c.Total)
		}
	}
	return dst
}

const (
	headerSize = 1 + 5*8
	// maxCount bounds a bucket's counts in a record: sums of a window's don't overflow.
	maxCount = 1 << 56
	// maxGeneration is more than there will be, and so few that a probe's place can be told beside it in 64 bits.
	maxGeneration = 1 << 48
	// maxProbeNs is the longest time that any rule gives a probe.
	maxProbeNs = (1<<32 - 1) * 1e6
)

// Decode reads what Encode wrote for the same window, and reports whether it could be that.
func (s *State) Decode(src []byte, w Window) bool {
	*s = State{}
	if len(src) < headerSize {
		return false
	}
	r := reader(src[1:])
	s.Phase = Phase(src[0])
	s.At, s.Since, s.Seen = int64(r.next()), int64(r.next()), math.Float64frombits(r.next())
	s.Generation, s.Successes = r.next(), r.next()
	if s.Since < 0 || s.At < s.Since || s.Generation > maxGeneration || !(s.Seen >= 0 && s.Seen <= maxCount) ||
		s.Phase != HalfOpen && s.Successes != 0 {
		return false
	}
	switch s.Phase {
	case Open:
		return len(r) == 0
	case HalfOpen:
		return s.decodePlaces(r)
	case Closed:
		return s.decodeCounts(r, w)
	}
	return false
}

func (s *State) decodePlaces(r reader) bool {
	if len(r)%8 != 0 || len(r) > 8*MaxOutstanding {
		return false
	}
	n := len(r) / 8
	for i := range n {
		if s.Places[i] = int64(r.next()); s.Places[i] < 0 || s.Places[i]-s.At > maxProbeNs {
			return false
		}
	}
	return s.taken() == n
}

func (s *State) decodeCounts(r reader, w Window) bool {
	if len(r) != 8+16*(w.Buckets+1) {
		return false
	}
	if s.Newest = int64(r.next()); s.Newest < 0 || s.Newest > w.Bucket(s.At) {
		return false
	}
	for i := range w.Buckets + 1 {
		c := &s.Counts[i]
		if c.Bad, c.Total = r.next(), r.next(); c.Bad > c.Total || c.Total > maxCount {
			return false
		}
	}
	return true
}

// taken is how many places there are up to the last that is taken.
func (s *State) taken() int {
	n := len(s.Places)
	for n > 0 && s.Places[n-1] == 0 {
		n--
	}
	return n
}

// reader takes one number after another from what is known to be long enough.
type reader []byte

func (r *reader) next() uint64 {
	v := binary.LittleEndian.Uint64(*r)
	*r = (*r)[8:]
	return v
}
