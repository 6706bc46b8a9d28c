package host

// Wall is by how much the wall clock is ahead of the monotonic one, as a worker knows it.
type Wall struct {
	clock      Clock
	offset, at int64
	known      bool
}

// wallAge is for how long what is known of the wall clock is good, in nanoseconds: it may be set at any time.
const wallAge = 1e9

// NewWall returns what is known of a clock.
func NewWall(c Clock) *Wall { return &Wall{clock: c} }

// Offset is what to add to the monotonic time now to have that of the wall clock, in nanoseconds since 1970.
func (w *Wall) Offset(now int64) int64 {
	if !w.known || now-w.at >= wallAge || w.at-now >= wallAge {
		w.offset, w.at, w.known = w.clock.Wall()-w.clock.Now(), now, true
	}
	return w.offset
}
