package flow

import "math"

// Pace is how far apart a rule with Throttling lets entries in.
type Pace struct {
	// IntervalMs is the interval in milliseconds that a threshold is for, MaxWaitMs how long an entry may wait.
	IntervalMs uint64
	MaxWaitMs  uint32
	// Costs is whether entries may take more than one permit.
	Costs bool
}

// Gap is the time in nanoseconds between an entry of n permits and the next, under a threshold of permits per interval; 0 if
// it may not enter: a threshold has no room for an entry of more permits, as in Sentinel.
func (p Pace) Gap(threshold float64, n int64) int64 {
	if !(threshold >= float64(n)) {
		return 0
	}
	return int64(math.Ceil(float64(n) / threshold * float64(int64(p.IntervalMs)*1e6)))
}

// PaceState is which times were given out. Its zero value has given none.
type PaceState struct {
	// Last is the latest time given out, in nanoseconds, of an entry of several permits that of the last of them.
	Last int64
	Warmth
	// Newest is the number of the newest bucket that has a time, Counts how many times each bucket has, at its number
	// modulo their number.
	Newest int64
	Counts [PaceBuckets]uint32
}

const (
	// paceAhead is for how many buckets to come times are counted each in its own; what is later counts in the last.
	paceAhead = 11
	// PaceBuckets are the buckets of the largest window, the one before it, and those to come.
	PaceBuckets = MaxBuckets + 1 + paceAhead
)

// Next gives out the next time, in nanoseconds: now, or a gap after the last one if that is later. ok is false where
// it would be more than maxWait after now; at is then when it would have been. What follows is a gap after lasts more.
func (s *PaceState) Next(gap, lasts, maxWait, now int64) (at int64, ok bool) {
	at = now
	if s.Last > 0 {
		at = max(s.Last+gap, now)
	}
	if at-now > maxWait {
		return at, false
	}
	s.Last = at + lasts
	return at, true
}

// Count adds n entries, or takes them away, in the bucket of the time at, as seen at the time now.
func (s *PaceState) Count(w Window, at, now, n int64) {
	bucket := min(w.Bucket(at), w.Bucket(now)+paceAhead)
	for b := max(s.Newest+1, bucket-PaceBuckets+1); b <= bucket; b++ {
		s.Counts[b%PaceBuckets] = 0
	}
	s.Newest = max(s.Newest, bucket)
	if bucket > s.Newest-PaceBuckets {
		c := &s.Counts[bucket%PaceBuckets]
		*c = uint32(min(max(int64(*c)+n, 0), math.MaxUint32))
	}
}

// Ahead is whether times were given out that lie too far ahead of now to be ours.
func (s *PaceState) Ahead(w Window, now int64) bool { return s.Newest > w.Bucket(now)+paceAhead }

// Previous is the sum over the window that ends before the bucket of the time now.
func (s *PaceState) Previous(w Window, now int64) (sum int64) {
	last := w.Bucket(now) - 1
	for b := last - int64(w.Buckets) + 1; b <= last; b++ {
		if b <= s.Newest && b > s.Newest-PaceBuckets && b >= 0 {
			sum += int64(s.Counts[b%PaceBuckets])
		}
	}
	return sum
}
