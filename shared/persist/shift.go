package persist

const (
	// slack is by how much less than the wall clock says is taken to have passed, in nanoseconds, and the 2^slackBits-th part
	// of that: by so much both clocks may have run apart, and a window must not end before it would have.
	slack, slackBits = 1e9, 10
)

// Shift is what makes the times of the process that has left a document those of another.
type Shift struct {
	delta int64
	// Now and Wall are the times of both clocks at which the document was read, in nanoseconds.
	Now, Wall int64
}

// ShiftOf is the shift of a document that is read at a time by both clocks, in nanoseconds.
//
// The monotonic clock may have begun anew meanwhile, so the wall clock says how much time has passed. It may have been set:
// back, and no time has passed, so that nothing counts for longer than if it had been counted now; forward, and what was
// counted is forgotten early, once.
func ShiftOf(d *Document, now, wall int64) Shift {
	passed := max(min(wall, Latest)-d.Wall, 0)
	passed = max(passed-slack-passed>>slackBits, 0)
	return Shift{delta: now - d.Now - passed, Now: now, Wall: wall}
}

// Time is a time of the document's process as one of this, both in nanoseconds by the monotonic clock; it may be negative, of
// a machine that has started since. What is no time is 0.
func (s *Shift) Time(then int64) int64 {
	if then < -Latest || then > Latest {
		return 0
	}
	return then + s.delta
}

// Past is Time of what has been, so not after Now.
func (s *Shift) Past(then int64) int64 { return min(s.Time(then), s.Now) }
