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

// Encode appends the state of a window that may warm up to dst: the window's, and once it was ever asked for its warmth
// what that is computed from.
func (s *WarmState) Encode(dst []byte, w Window) []byte {
	dst = s.State.Encode(dst, w)
	if s.Filled != 0 {
		dst = s.Warmth.Encode(binary.LittleEndian.AppendUint64(dst, uint64(s.Left)))
	}
	if s.Carried > 0 {
		dst = binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(dst, uint64(s.Carried)), uint64(s.CarriedTo))
	}
	return dst
}

// carriedSize is the length of what is carried.
const carriedSize = 16

// decodeCarried reads what is carried, of a state that Decode has read without it.
func (s *State) decodeCarried(src []byte, w Window) bool {
	s.Carried, s.CarriedTo = int64(binary.LittleEndian.Uint64(src)), int64(binary.LittleEndian.Uint64(src[8:]))
	return w.Buckets == 1 && s.Carried > 0 && s.Carried <= MaxCapacity && s.CarriedTo >= 0
}

// EncodeCounts appends all counts, and no warmth, to dst.
func (s *WarmState) EncodeCounts(dst []byte, w Window) []byte {
	return binary.LittleEndian.AppendUint64(s.State.Encode(dst, w), uint64(s.Left))
}

// DecodeCounts reads what EncodeCounts wrote for the same window, and reports whether it could be that.
func (s *WarmState) DecodeCounts(src []byte, w Window) bool {
	n := 8 + 8*w.Buckets
	*s = WarmState{}
	if len(src) != n+8 || !s.State.Decode(src[:n], w) {
		return false
	}
	s.Left = int64(binary.LittleEndian.Uint64(src[n:]))
	return s.Left >= 0 && s.Left <= MaxCapacity
}

// Decode reads what Encode, or State.Encode, wrote for the same window, and reports whether it could be that.
func (s *WarmState) Decode(src []byte, w Window) bool {
	n := 8 + 8*w.Buckets
	*s = WarmState{}
	carried := src[len(src):]
	if more := len(src) - n; more == carriedSize || more == 8+warmthSize+carriedSize {
		src, carried = src[:len(src)-carriedSize], src[len(src)-carriedSize:]
	}
	if ok := s.decode(src, w); !ok || len(carried) == 0 {
		return ok
	}
	return s.decodeCarried(carried, w)
}

// decode is Decode of a state in which nothing is carried.
func (s *WarmState) decode(src []byte, w Window) bool {
	n := 8 + 8*w.Buckets
	if len(src) <= n {
		return s.State.Decode(src, w)
	}
	return len(src) == n+8+warmthSize && s.DecodeCounts(src[:n+8], w) && s.Warmth.Decode(src[n+8:])
}

// warmthSize is the length of what Warmth.Encode writes.
const warmthSize = 16

// Encode appends a warmth to dst.
func (s *Warmth) Encode(dst []byte) []byte {
	dst = binary.LittleEndian.AppendUint64(dst, uint64(s.Stored))
	return binary.LittleEndian.AppendUint64(dst, uint64(s.Filled))
}

// Decode reads what Encode wrote of a warmth that was asked for, and reports whether it could be that.
func (s *Warmth) Decode(src []byte) bool {
	if len(src) != warmthSize {
		return false
	}
	s.Stored, s.Filled = int64(binary.LittleEndian.Uint64(src)), int64(binary.LittleEndian.Uint64(src[8:]))
	return s.Stored >= 0 && s.Stored <= 2*MaxCapacity && s.Filled > 0
}

// Encode appends a schedule to dst: the latest time, and once it was ever asked for its warmth what that is computed
// from.
func (s *PaceState) Encode(dst []byte) []byte {
	dst = binary.LittleEndian.AppendUint64(dst, uint64(s.Last))
	if s.Filled == 0 {
		return dst
	}
	dst = s.Warmth.Encode(dst)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(s.Newest))
	for _, c := range s.Counts {
		dst = binary.LittleEndian.AppendUint32(dst, c)
	}
	return dst
}

// Decode reads what Encode wrote, and reports whether it could be that.
func (s *PaceState) Decode(src []byte) bool {
	*s = PaceState{}
	if len(src) < 8 {
		return false
	}
	s.Last = int64(binary.LittleEndian.Uint64(src))
	if src = src[8:]; s.Last < 0 || len(src) == 0 {
		return s.Last >= 0
	}
	if len(src) != warmthSize+8+4*PaceBuckets || !s.Warmth.Decode(src[:warmthSize]) {
		return false
	}
	s.Newest = int64(binary.LittleEndian.Uint64(src[warmthSize:]))
	for i := range s.Counts {
		s.Counts[i] = binary.LittleEndian.Uint32(src[warmthSize+8+4*i:])
	}
	return s.Newest >= 0
}

// MaxCapacity is the largest capacity of a window: sums of MaxBuckets such counts don't overflow.
const MaxCapacity = 1 << 56

// Capacity is how many permits a threshold admits in a window. Sentinel admits the nth while n ≤ threshold, so a
// fraction admits no one.
func Capacity(threshold float64) int64 {
	switch {
	case threshold >= MaxCapacity:
		return MaxCapacity
	case threshold > 0:
		return int64(threshold)
	}
	return 0
}
