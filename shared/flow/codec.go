package flow

import "encoding/binary"

// Encode appends the state of a window to dst: the newest bucket's number, then a count a bucket, little endian.
func (s *State) Encode(dst []byte, w Window) []byte {
	dst = binary.LittleEndian.AppendUint64(dst, uint64(s.Newest))
	for _, c := range s.Counts[:w.Buckets] {
		dst = binary.LittleEndian.AppendUint64(dst, uint64(c))
	}
	return dst
}

// Decode reads what Encode wrote for the same window, and reports whether it could be that.
func (s *State) Decode(src []byte, w Window) bool {
	if len(src) != 8+8*w.Buckets {
		return false
	}
	*s = State{Newest: int64(binary.LittleEndian.Uint64(src))}
	if s.Newest < 0 {
		return false
	}
	for i := range w.Buckets {
		s.Counts[i] = int64(binary.LittleEndian.Uint64(src[8+8*i:]))
		if s.Counts[i] < 0 || s.Counts[i] > MaxCapacity {
			return false
		}
	}
	return true
}

// MaxCapacity is the largest capacity of a window: sums of MaxBuckets such counts don't overflow.
const MaxCapacity = 1 << 56

// Capacity is how many permits a threshold admits in a window. Sentinel admits the nth while n ≤ threshold, so a
// fraction admits no one.
func Capacity(threshold float64) int64 {
	if threshold >= MaxCapacity {
		return MaxCapacity
	}
	return int64(max(threshold, 0))
}
