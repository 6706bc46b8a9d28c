package breaker

import (
	"encoding/binary"
	"math"
)

// Encode appends a state to dst, little endian: the phase; the times At and Since, Seen, Granted, First, Successes and Again; the
// number of places up to the last that is taken, and the leases of those; and, closed, the newest bucket's number and the
// counts a bucket.
func (s *State) Encode(dst []byte, w Window) []byte {
	dst = append(dst, byte(s.Phase))
	for _, v := range [...]uint64{uint64(s.At), uint64(s.Since), math.Float64bits(s.Seen), uint64(s.Granted), uint64(s.First),
		s.Successes, s.Again, uint64(s.taken())} {
		dst = binary.LittleEndian.AppendUint64(dst, v)
	}
	for _, l := range s.Places[:s.taken()] {
		dst = binary.LittleEndian.AppendUint64(dst, uint64(l.Mark))
		dst = binary.LittleEndian.AppendUint64(dst, uint64(l.Renewed))
	}
	if s.Phase != Closed {
		return dst
	}
	dst = binary.LittleEndian.AppendUint64(dst, uint64(s.Newest))
	for _, c := range s.Counts[:w.Buckets+1] {
		dst = binary.LittleEndian.AppendUint64(dst, c.Bad)
		dst = binary.LittleEndian.AppendUint64(dst, c.Total)
	}
	return dst
}

const (
	headerSize = 1 + 8*8
	leaseSize  = 2 * 8
	// maxCount bounds a bucket's counts in a record: sums of a window's don't overflow.
	maxCount = 1 << 56
	// maxAhead is how far marks may be ahead of the time, in nanoseconds: each is another.
	maxAhead = 1e6
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
	s.Granted, s.First, s.Successes, s.Again = int64(r.next()), int64(r.next()), r.next(), r.next()
	places := r.next()
	if s.Since < 0 || s.At < s.Since || s.At > maxTime || !(s.Seen >= 0 && s.Seen <= maxCount) ||
		s.First < 0 || s.Granted < s.First || s.Granted > s.At+maxAhead ||
		s.Again > maxAgain || s.Phase > Open || s.Phase != HalfOpen && s.Successes != 0 || !s.decodePlaces(&r, places) {
		return false
	}
	if s.Phase == Closed {
		return s.decodeCounts(r, w)
	}
	return len(r) == 0
}

// maxTime is a time that no clock reaches: sums with times don't overflow.
const maxTime = 1 << 62

func (s *State) decodePlaces(r *reader, n uint64) bool {
	if n > MaxOutstanding || uint64(len(*r)) < n*leaseSize {
		return false
	}
	for i := range s.Places[:n] {
		l := &s.Places[i]
		l.Mark, l.Renewed = int64(r.next()), int64(r.next())
		if l.Mark < 0 || l.Mark > s.Granted || l.Renewed < 0 || l.Renewed > s.At ||
			l.Mark == 0 && *l != (Lease{}) {
			return false
		}
	}
	return s.taken() == int(n)
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
	for n > 0 && s.Places[n-1].Mark == 0 {
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
