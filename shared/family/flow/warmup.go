package flow

import "math"

// WarmUp is how the threshold of a rule rises while its resource is in use, as in sentinel-golang 1.0.4 and Sentinel for
// Java: a bucket of stored tokens that is full while the resource is idle. The more of it is above the warning line, the
// further is the threshold below its own.
type WarmUp struct {
	// Capacity is what the rule admits in a window once it is warm.
	Capacity int64

	threshold float64 // permits in an interval
	interval  float64 // seconds
	perSecond float64 // permits in a second
	warning   int64   // tokens
	max       int64   // tokens
	slope     float64 // seconds per permit, for each token above the warning line
	idle      float64 // permits in an interval, below which a cold resource stays cold
}

// NewWarmUp returns what WarmUp makes of a threshold in permits per interval, warming up in periodSec seconds from the
// threshold / coldFactor.
//
// Sentinel's formula takes the threshold for one per second, whatever the interval: with 2 s a cold resource would never
// warm up. Here it is converted.
func NewWarmUp(threshold float64, intervalMs uint64, periodSec, coldFactor uint32) *WarmUp {
	interval := float64(intervalMs) / 1000
	perSecond := threshold / interval
	period, factor := float64(periodSec), float64(coldFactor)
	warning := Capacity(period * perSecond / (factor - 1))
	most := warning + Capacity(2*period*perSecond/(1+factor))
	return &WarmUp{
		Capacity:  Capacity(threshold),
		threshold: threshold,
		interval:  interval,
		perSecond: perSecond,
		warning:   warning,
		max:       most,
		slope:     (factor - 1) / perSecond / float64(most-warning),
		idle:      math.Floor(math.Floor(threshold) / factor),
	}
}

// Warmth is how warm a resource is. Its zero value is that of a resource which was never used.
type Warmth struct {
	// Stored are the tokens, fewer the warmer it is, at the beginning of the second Filled.
	Stored, Filled int64
}

// Second is the number of the second that holds the time now, in nanoseconds.
func Second(now int64) int64 { return now / 1e9 }

// Advance brings the warmth up to a second, once in each second in which the rule is asked at all. passed is how many
// entries the resource has had in the interval before.
func (w *WarmUp) Advance(s *Warmth, second, passed int64) {
	if second <= s.Filled {
		return
	}
	tokens := s.Stored
	if tokens < w.warning || tokens > w.warning && float64(passed) < w.idle {
		elapsed := float64((second - s.Filled) * 1000)
		tokens = min(Capacity(float64(tokens)+elapsed*w.perSecond/1000), w.max)
		if s.Filled == 0 {
			tokens = w.max
		}
	}
	s.Stored = max(min(tokens, w.max)-int64(float64(passed)/w.interval), 0)
	s.Filled = second
}

// Threshold is how many permits an interval has at some warmth.
//
// It is at least one where the rule's own is: Sentinel's cold threshold below one admits nothing, so that nothing ever
// warms the resource up.
func (w *WarmUp) Threshold(s Warmth) float64 {
	if s.Stored < w.warning || w.max == w.warning {
		return w.threshold
	}
	perSecond := math.Nextafter(1/(float64(s.Stored-w.warning)*w.slope+1/w.perSecond), math.MaxFloat64)
	return max(min(perSecond*w.interval, w.threshold), min(w.threshold, 1)) // rounding must not bring it above its own
}

// WarmState is the state of a window whose threshold may warm up: the window, and what a warmth is computed from.
type WarmState struct {
	State
	// Left is the count of the bucket that has just left the window, the one before its oldest.
	Left int64
	Warmth
}

// Advance moves the state to bucket, as State.Advance.
func (s *WarmState) Advance(w Window, bucket int64) {
	if bucket <= s.Newest {
		return
	}
	left, n := bucket-int64(w.Buckets), int64(w.Buckets)
	switch {
	case left > s.Newest || left < 0: // in the first buckets after a start of the machine there is nothing before
		s.Left = 0
	case left > s.Newest-n:
		s.Left = s.Counts[left%n]
	}
	s.State.Advance(w, bucket)
}

// Add counts n more in bucket, where that is one of the window's or the one before.
func (s *WarmState) Add(w Window, bucket, n int64) {
	size := int64(w.Buckets)
	switch {
	case bucket > s.Newest || bucket < s.Newest-size:
	case bucket == s.Newest-size:
		s.Left = min(s.Left+n, MaxCapacity)
	default:
		c := &s.Counts[bucket%size]
		*c = min(*c+n, MaxCapacity)
	}
}

// GiveBack is State.GiveBack, also for the bucket that has just left the window.
func (s *WarmState) GiveBack(w Window, bucket, n int64) bool {
	if s.Filled > 0 && bucket == s.Newest-int64(w.Buckets) {
		s.Left = max(s.Left-n, 0)
		return true
	}
	return s.State.GiveBack(w, bucket, n)
}

// Previous is the sum over the window that ends before the newest bucket.
func (s *WarmState) Previous(w Window) int64 {
	return s.Used(w) - s.Carried - s.Counts[s.Newest%int64(w.Buckets)] + s.Left
}

// MoveTo moves the state to the bucket of the time now, in nanoseconds.
func (s *WarmState) MoveTo(w Window, now int64) {
	bucket := w.Bucket(now)
	if s.Carried > 0 {
		s.carry(w, bucket, now)
	}
	s.Advance(w, bucket)
}

// ahead is whether the state is of a time after now: nobody of us has made it.
func (s *WarmState) ahead(w Window, now int64) bool {
	return s.Newest > w.newest(now) || s.Filled > Second(now)
}
