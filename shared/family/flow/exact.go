package flow

import "encoding/binary"

const (
	// ExactTicks is in how many ticks an exact window cuts its interval: a tick of 1 s is 50 µs.
	ExactTicks = 20_000
	// exactFine is how many admissions an exact window keeps apart whenever they were. Beyond that it puts those together that
	// are in one of exactSlices parts of the interval, at the time of the last: at the limit, half a per cent is lost of it.
	exactFine   = 128
	exactSlices = 200
	sliceTicks  = ExactTicks / exactSlices
	// exactEntries bounds the entries: beyond exactFine there is one in each slice, of those to come in one or two.
	exactEntries = exactFine + exactSlices + 4
)

// Log is what an exact window has counted: a sliding log whose times are rounded up, so that it forgets nothing too early.
// Its zero value has counted nothing.
//
// An entry counts until the time lies ExactTicks ticks after it, so that more than an interval lies between whatever it
// stands for and what takes its place. No interval, wherever it begins, has then more than the capacity that the log was
// kept within.
type Log struct {
	// Newest is the tick of the last change.
	Newest int64
	used   int64
	// ticks and counts are the entries, ascending. The last may lie in the future: what is reserved until then counts as used
	// then. The first may lie before the machine's start, where a process before this has counted them.
	n             int
	ticks, counts [exactEntries]int64
}

// clear forgets everything.
func (l *Log) clear() { l.Newest, l.used, l.n = 0, 0, 0 }

// Advance moves to a tick: what has left the window is forgotten. An older tick changes nothing.
func (l *Log) Advance(tick int64) {
	if tick <= l.Newest {
		return
	}
	l.Newest = tick
	gone := 0
	for gone < l.n && l.ticks[gone] < tick-ExactTicks {
		l.used -= l.counts[gone]
		gone++
	}
	l.remove(0, gone)
}

// remove takes out n entries from one on.
func (l *Log) remove(from, n int) {
	if n > 0 {
		copy(l.ticks[from:], l.ticks[from+n:l.n])
		copy(l.counts[from:], l.counts[from+n:l.n])
		l.n -= n
	}
}

// Used is the sum over the window.
func (l *Log) Used() int64 { return l.used }

// Take counts n permits that will be used in no tick after until. There must be room for them.
func (l *Log) Take(until, n int64) {
	last := l.n - 1
	switch {
	case last < 0 || l.ticks[last] < until && l.apart(until):
		last, l.n = l.n, l.n+1
		l.ticks[last], l.counts[last] = until, 0
	case l.ticks[last] < until:
		l.ticks[last] = until
	}
	l.counts[last] += n
	l.used += n
}

// apart is whether what is used until a tick gets an entry of its own, after the last.
func (l *Log) apart(until int64) bool {
	return l.n < exactFine || l.n < exactEntries && l.ticks[l.n-1]/sliceTicks != until/sliceTicks
}

// GiveBack takes n permits out of the count that were used in a tick, or could have been. It reports whether they still
// count. They stand in the first entry from that tick on, or in one after it: then it leaves earlier, and takes nothing of
// it.
func (l *Log) GiveBack(tick, n int64) bool {
	if tick < l.Newest-ExactTicks {
		return false
	}
	for i := range l.n {
		if l.ticks[i] >= tick {
			n = min(n, l.counts[i])
			l.used -= n
			if l.counts[i] -= n; l.counts[i] == 0 {
				l.remove(i, 1)
			}
			return true
		}
	}
	return false
}

// Fill counts a whole capacity now: what a log that was lost is replaced by, so that nothing is admitted twice.
func (l *Log) Fill(capacity int64) {
	l.n, l.used = 0, 0
	if capacity > 0 {
		l.Take(l.Newest, capacity)
	}
}

// FreeAt is the first tick in which need permits of capacity are free if nothing more is taken, or −1 if capacity is below
// that.
func (l *Log) FreeAt(capacity, need int64) int64 {
	if capacity < need {
		return -1
	}
	at, used := l.Newest, l.used
	for i := 0; i < l.n && used+need > capacity; i++ {
		used -= l.counts[i]
		at = l.ticks[i] + ExactTicks + 1
	}
	return at
}

// EmptyAt is the first tick in which nothing is used if nothing more is taken, 0 where nothing is now.
func (l *Log) EmptyAt() int64 {
	if l.n == 0 {
		return 0
	}
	return l.ticks[l.n-1] + ExactTicks + 1
}

// Encode appends the log to dst: the newest tick in 8 bytes, little endian, and for each entry, the oldest first, how many
// ticks it is after the one before, the first after the window's first tick, and its count, as varints.
func (l *Log) Encode(dst []byte) []byte {
	dst = binary.LittleEndian.AppendUint64(dst, uint64(l.Newest))
	before := l.Newest - ExactTicks - 1
	for i := range l.n {
		dst = binary.AppendUvarint(dst, uint64(l.ticks[i]-before))
		dst = binary.AppendUvarint(dst, uint64(l.counts[i]))
		before = l.ticks[i]
	}
	return dst
}

// Decode reads what Encode wrote, and reports whether it could be that.
func (l *Log) Decode(src []byte) bool {
	l.clear()
	if len(src) < 8 {
		return false
	}
	l.Newest = int64(binary.LittleEndian.Uint64(src))
	if l.Newest < 0 {
		return false
	}
	tick := l.Newest - ExactTicks - 1
	for src = src[8:]; len(src) > 0; l.n++ {
		later, a := shortest(src)
		count, b := shortest(src[a:])
		if l.n == exactEntries || a == 0 || b == 0 || later < 1 || count < 1 || later > ExactTicks+2*sliceTicks {
			return false
		}
		tick += later
		l.used += count
		if tick > l.Newest+sliceTicks || count > MaxCapacity || l.used > MaxCapacity {
			return false
		}
		l.ticks[l.n], l.counts[l.n] = tick, count
		src = src[a+b:]
	}
	return true
}

// shortest reads a varint that is as short as it can be. Its size is 0 where there is none.
func shortest(src []byte) (v int64, size int) {
	n, size := binary.Uvarint(src)
	if size <= 0 || size > 1 && src[size-1] == 0 || n > 1<<62 {
		return 0, 0
	}
	return int64(n), size
}
