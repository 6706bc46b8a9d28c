package flow

import "sentinel-envoy/shared/rule"

// Sentinel's global statistic: 20 buckets of 500 ms. A rule whose interval is made of such buckets slides over them.
const (
	sharedBucketMs = 500
	// MaxBuckets is the largest number of buckets in a window.
	MaxBuckets = 20
)

// Window is how a rule's statistic interval is cut into aligned buckets. At time t it spans the bucket that holds t and
// the Buckets−1 before it.
type Window struct {
	BucketMs int64
	Buckets  int
	// Ticks is in how many ticks the one bucket of an exact window, the interval, is cut; 0 of others. Numbers of buckets are
	// then those of ticks.
	Ticks int64
	// Calendar, where not nil, are the buckets: BucketMs is then about how long one is, and there is one.
	Calendar Calendar
}

// Calendar are windows by the wall clock. Times are the monotonic clock's, in nanoseconds.
type Calendar interface {
	// Bucket is the number of the window that holds the time now.
	Bucket(now int64) int64
	// Start is when a window begins, as seen at the time now.
	Start(number, now int64) int64
	// Bounds are when the window that holds the time now begins, and when the next does.
	Bounds(now int64) (start, end int64)
}

// WindowOf is the window that sentinel-golang 1.0.4 uses for statIntervalInMs (core/flow, generateStatFor): sliding
// over 500 ms buckets where the interval is made of them and at most 10 s, one aligned bucket otherwise. 0 means 1000.
func WindowOf(statIntervalInMs uint64) Window {
	interval := int64(statIntervalInMs)
	if interval == 0 {
		interval = 1000
	}
	if interval%sharedBucketMs == 0 && interval <= sharedBucketMs*MaxBuckets {
		return Window{BucketMs: sharedBucketMs, Buckets: int(interval / sharedBucketMs)}
	}
	return Window{BucketMs: interval, Buckets: 1}
}

// ShapedWindow is the window of that shape for statIntervalInMs, of which 0 means 1000.
func ShapedWindow(statIntervalInMs uint64, shape rule.Window) Window {
	w := Window{BucketMs: int64(statIntervalInMs), Buckets: 1}
	if w.BucketMs == 0 {
		w.BucketMs = 1000
	}
	switch shape {
	case rule.FixedWindow:
		return w
	case rule.ExactWindow:
		w.Ticks = ExactTicks
		return w
	}
	return WindowOf(statIntervalInMs)
}

// OfUnit is a window that is a unit of the calendar.
func OfUnit(u rule.Unit, c Calendar) Window {
	return Window{BucketMs: u.Ms(), Buckets: 1, Calendar: c}
}

// Bucket is the number of the bucket that holds the time now, in nanoseconds.
func (w Window) Bucket(now int64) int64 {
	if w.Calendar != nil {
		return w.Calendar.Bucket(now)
	}
	return now / w.bucketNs()
}

// Start is when a bucket begins, in nanoseconds, as seen at the time now.
func (w Window) Start(bucket, now int64) int64 {
	if w.Calendar != nil {
		return w.Calendar.Start(bucket, now)
	}
	return bucket * w.bucketNs()
}

// bucketNs is the length of a bucket in nanoseconds.
func (w Window) bucketNs() int64 {
	if w.Ticks > 0 {
		return w.BucketMs * 1e6 / w.Ticks
	}
	return w.BucketMs * 1e6
}

// spans is over how many buckets the window counts.
func (w Window) spans() int64 {
	if w.Ticks > 0 {
		return w.Ticks + 1
	}
	return int64(w.Buckets)
}

// newest is the largest number that the newest bucket of a record can have at the time now: a wall clock may have been set
// back.
func (w Window) newest(now int64) int64 {
	if w.Calendar != nil {
		return w.Calendar.Bucket(now) + 1
	}
	return w.Bucket(now)
}

// State is what a window has counted. Its zero value has counted nothing.
type State struct {
	// Newest is the number of the newest bucket.
	Newest int64
	// Counts has at i the count of the bucket of the window whose number is i modulo Buckets.
	Counts [MaxBuckets]int64
	// Carried are permits of a bucket that a process before this has counted in, and where that has another clock, of what was
	// counted before the bucket's end: they count as long as it lasts, until the time CarriedTo in nanoseconds, of a calendar
	// in the bucket CarriedTo. Only windows of one bucket have any.
	Carried, CarriedTo int64
}

// Carry counts n permits of a bucket that lasts until a time, or of a calendar is that with a number. What is carried already
// is not told from them: the same may be carried twice.
func (s *State) Carry(n, to int64) {
	if n > s.Carried {
		s.Carried = n
	}
	s.CarriedTo = max(s.CarriedTo, to)
}

// carry brings what is carried to a time, before the state is moved to that time's bucket. What the bucket before has counted
// is in the window of what is carried, too, as long as that lasts.
func (s *State) carry(w Window, bucket, now int64) {
	switch {
	case w.Calendar != nil && bucket > s.CarriedTo, w.Calendar == nil && now >= s.CarriedTo:
		s.Carried, s.CarriedTo = 0, 0
	case w.Calendar == nil && bucket > s.Newest:
		s.Carried = min(s.Carried+s.Counts[0], MaxCapacity)
		s.Counts[0] = 0
	}
}

// carriedFree is when need permits of capacity are free of which some are carried, in nanoseconds; next is when the next bucket
// begins.
func (s *State) carriedFree(capacity, need, next int64) int64 {
	if s.Counts[0]+need <= capacity {
		return s.CarriedTo
	}
	return max(s.CarriedTo, next)
}

// Advance moves the state to bucket: what has left the window is forgotten. An older bucket changes nothing.
func (s *State) Advance(w Window, bucket int64) {
	if bucket <= s.Newest {
		return
	}
	steps := min(bucket-s.Newest, int64(w.Buckets))
	for b := bucket - steps + 1; b <= bucket; b++ {
		s.Counts[b%int64(w.Buckets)] = 0
	}
	s.Newest = bucket
}

// Used is the sum over the window.
func (s *State) Used(w Window) int64 {
	sum := s.Carried
	for _, c := range s.Counts[:w.Buckets] {
		sum += c
	}
	return sum
}

// Take counts up to want permits in the newest bucket, as many as stay within capacity over the window, and returns how
// many that is.
func (s *State) Take(w Window, capacity, want int64) int64 {
	granted := min(want, capacity-s.Used(w))
	if granted <= 0 {
		return 0
	}
	s.Counts[s.Newest%int64(w.Buckets)] += granted
	return granted
}

// GiveBack takes n permits that were counted in bucket out of the count. It reports whether the bucket is still in the
// window; where it has left, nothing changes.
func (s *State) GiveBack(w Window, bucket, n int64) bool {
	if bucket > s.Newest || bucket <= s.Newest-int64(w.Buckets) {
		return false
	}
	c := &s.Counts[bucket%int64(w.Buckets)]
	*c = max(*c-n, 0)
	return true
}

// Fill counts the whole capacity in the newest bucket: what a state that was lost is replaced by, so that nothing is
// admitted twice.
func (s *State) Fill(w Window, capacity int64) {
	s.Counts = [MaxBuckets]int64{}
	s.Counts[s.Newest%int64(w.Buckets)] = capacity
}

// FreeAt is the number of the first bucket in which need permits of capacity are free if nothing more is taken, or −1 if
// capacity is below that.
func (s *State) FreeAt(w Window, capacity, need int64) int64 {
	if capacity < need {
		return -1
	}
	used := s.Used(w)
	n := int64(w.Buckets)
	for ahead := int64(0); ahead < n; ahead++ {
		if used+need <= capacity {
			return s.Newest + ahead
		}
		// The oldest bucket is the first to leave.
		used -= s.Counts[(s.Newest+ahead+1)%n]
	}
	return s.Newest + n
}

// EmptyAt is the number of the first bucket in which nothing is used if nothing more is taken, 0 where nothing is now.
func (s *State) EmptyAt(w Window) int64 {
	n := int64(w.Buckets)
	for b := s.Newest; b > s.Newest-n && b >= 0; b-- {
		if s.Counts[b%n] > 0 {
			return b + n
		}
	}
	return 0
}
