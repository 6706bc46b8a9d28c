// Package hotspot limits each value of a parameter by itself, in the whole process and in memory of a fixed size,
// whatever values clients send.
//
// All rules of a process share a fixed number of pages in shared data, a page has room for a fixed number of values.
// Which page a value of a rule belongs to follows from a hash that clients do not know. Where a page is full, the rule
// that has most values in it makes room, with the value that has least to regain by being forgotten; what it regains is
// counted.
package hotspot

import (
	"math"
	"math/bits"

	"sentinel-envoy/shared/rule"
)

// coolest bounds how many refusals are remembered of a value that has nothing left: they tell values that are hot
// from those that had their last permit by chance.
const coolest = -7

// Limit is what one value of a parameter may have.
type Limit struct {
	// Threshold is in permits per DurationMs milliseconds, Burst what a value may save up beyond it.
	Threshold, Burst, DurationMs int64
	// Calendar, where not nil, are the windows in which a value has all that it may have, in place of DurationMs from its first
	// entry on. The time of a bucket is then when its window began.
	Calendar Calendar
	// Paced lets entries in one after the other, evenly spaced. Burst then means nothing.
	Paced bool
	// MaxWaitMs is how long an entry may wait for its turn, where Paced.
	MaxWaitMs int64
	// BanMs is for how many milliseconds a value is refused that was refused BanAfter times in DurationMs; 0 is never.
	BanAfter, BanMs int64
	// Costs is whether entries may take more than one permit.
	Costs bool
}

// Calendar are windows by the wall clock. Times are the monotonic clock's, in nanoseconds.
type Calendar interface {
	// Bounds are when the window that holds the time now begins, and when the next does.
	Bounds(now int64) (start, end int64)
}

// limitOf is the limit of a rule that counts entries, for a value that has none of its own.
func limitOf(r *rule.Hotspot) Limit {
	return Limit{
		Threshold: r.Threshold, Burst: r.BurstCount, DurationMs: r.DurationMs(),
		Paced: r.ControlBehavior == rule.Throttling, MaxWaitMs: r.MaxQueueingTimeMs,
		BanAfter: r.BanAfter, BanMs: r.BanMs, Costs: r.Cost != nil,
	}
}

// bucket is what is known of a value.
type bucket struct {
	// at is when it was filled, or where Paced the last time given out, in nanoseconds, of an entry of several permits that of
	// the last of them.
	at int64
	// left are the permits it has, negative by the refusals since the last one was taken.
	left int64
}

// Verdict is the answer to one entry.
type Verdict struct {
	OK bool
	// At is the time, in nanoseconds, at which the entry may pass where Paced, else of the bucket it took a permit from.
	At int64
	// FreeAt is when asking again makes sense for a refused entry, in nanoseconds, 0 if never.
	FreeAt int64
	// Banned is whether an entry is refused because its value was refused too often, Begins whether that is so from now on.
	Banned, Begins bool
}

// most is what a bucket holds at most.
func (l Limit) most() int64 { return l.Threshold + l.Burst }

// Gap is the time in nanoseconds between an entry of n permits and the next where Paced.
func (l Limit) Gap(n int64) int64 {
	return int64(math.Ceil(float64(n) * float64(l.DurationMs*1e6) / float64(l.Threshold)))
}

// fits is whether an entry may take n permits at all.
func (l Limit) fits(n int64) bool {
	if l.Paced {
		return n <= l.Threshold
	}
	return n <= l.most()
}

// take asks for n permits, all or none, at the time now in nanoseconds. known is whether b is what the value has; else it
// has not been seen. Threshold must be positive, and n fit where Paced.
func (l Limit) take(b *bucket, known bool, n, maxWait, now int64) Verdict {
	if l.Paced {
		return l.pace(b, known, n, maxWait, now)
	}
	if !known {
		*b = bucket{at: l.begin(now), left: l.most()}
	} else if left, over := l.filled(*b, now); over {
		*b = bucket{at: l.begin(now), left: left}
	}
	if b.left = min(b.left, l.most()); b.left >= n {
		b.left -= n
		return Verdict{OK: true, At: b.at}
	}
	if b.left <= 0 { // what is left to others is not counted down
		b.left = max(b.left-1, coolest)
	}
	return Verdict{At: b.at, FreeAt: l.has(b, n, now)}
}

// begin is the time of a bucket that is filled at the time now.
func (l Limit) begin(now int64) int64 {
	if l.Calendar == nil {
		return now
	}
	start, _ := l.Calendar.Bounds(now)
	return start
}

// endOf is when a bucket of the time at, not filled at the time now, can be.
func (l Limit) endOf(at, now int64) int64 {
	if l.Calendar == nil {
		return (at/1e6 + l.DurationMs + 1) * 1e6
	}
	_, end := l.Calendar.Bounds(now)
	return end
}

// longestWait bounds times to come that are told, in milliseconds: about 140 years.
const longestWait = 1 << 42

// has is when a bucket that lacks some of n permits at the time now will have them, 0 if never.
func (l Limit) has(b *bucket, n, now int64) int64 {
	if !l.fits(n) {
		return 0
	}
	free := l.endOf(b.at, now)
	if n > 1 && l.Calendar == nil {
		free = max(free, (b.at/1e6+min(l.fills(n-max(b.left, 0)), longestWait))*1e6)
	}
	return free
}

// filled is what a bucket has at the time now, and whether it is to be filled: as in Sentinel, only once more than the
// duration has gone by since the last time, in whole milliseconds.
func (l Limit) filled(b bucket, now int64) (left int64, over bool) {
	if l.Calendar != nil {
		// Workers know the wall clock each by itself, and somebody may set it: buckets of one window have about one time.
		start, end := l.Calendar.Bounds(now)
		if b.at < start-(end-start)/2 {
			return l.most(), true
		}
		return max(b.left, 0), false
	}
	passed := now/1e6 - b.at/1e6
	if left = max(b.left, 0); passed <= l.DurationMs {
		return left, false
	}
	high, low := bits.Mul64(uint64(passed), uint64(l.Threshold))
	if high >= uint64(l.DurationMs) {
		return l.most(), true
	}
	added, _ := bits.Div64(high, low, uint64(l.DurationMs))
	if added > uint64(l.most()) {
		return l.most(), true
	}
	return min(left+int64(added), l.most()), true
}

// pace asks for a time, at most maxWait nanoseconds after now.
func (l Limit) pace(b *bucket, known bool, n, maxWait, now int64) Verdict {
	at := now
	if known {
		at = max(now, b.at+l.Gap(1))
	}
	if at > now && at-now >= maxWait {
		b.left = max(b.left-1, coolest)
		return Verdict{At: at, FreeAt: max(now, at-l.MaxWaitMs*1e6) + 1e6}
	}
	*b = bucket{at: at + l.Gap(n) - l.Gap(1)}
	return Verdict{OK: true, At: at}
}

// longer is by what part a unit of the calendar may be longer than DurationMs says: a day has up to 25 hours.
const longer = 16

// seen is what a page keeps of a value that is under the limit.
func (l Limit) seen(hash uint64, rule uint32, b bucket) seen {
	s := seen{hash: hash, rule: rule, bucket: b}
	if l.Paced {
		s.fullMs = min(max(l.Gap(1)/1e6, 1), longestMs)
		return s
	}
	s.most = min(max(clip(l.most()), 1), refusalsMark-1)
	if used := l.most() - max(b.left, 0); used > 0 && l.Calendar != nil {
		s.fullMs = l.DurationMs + l.DurationMs/longer
	} else if used > 0 {
		s.fullMs = min(max(l.DurationMs+1, l.fills(used)), longestMs)
	}
	return s
}

// fills is after how many milliseconds that many permits have come back.
func (l Limit) fills(permits int64) int64 {
	high, low := bits.Mul64(uint64(permits), uint64(l.DurationMs))
	if high >= uint64(l.Threshold) {
		return math.MaxInt64
	}
	ms, rest := bits.Div64(high, low, uint64(l.Threshold))
	if ms >= math.MaxInt64 {
		return math.MaxInt64
	}
	return int64(ms) + min(int64(rest), 1)
}
