package quota

import "encoding/binary"

const (
	second = 1e9
	// drift is how much a clock of the service's host and ours may go apart, in parts per million: several times what a
	// clock is off that is kept by NTP.
	drift = 200
	// widest is the longest interval that says anything about when a second of the service's turns, in nanoseconds.
	widest = second / 2
	// contradictions are how many turns in a row must contradict a clock for it to be given up.
	contradictions = 3
)

// Clock is what is known of the clock of a service that tells whole seconds: that one of its seconds has begun between Low
// and High, by the monotonic clock in nanoseconds. Its zero value knows nothing.
//
// The service counts by its host's clock, and says only in how many full seconds a window ends. Two answers between which one
// of its seconds must have turned say when that was, up to the time between them.
type Clock struct {
	Low, High int64
	// Against is how many observations in a row have contradicted it.
	Against int64
}

// Known is whether the clock tells anything at the time now.
func (c *Clock) Known(now int64) bool { return c.Width(now) <= widest }

// Width is how long the interval is in which a second turns, in nanoseconds, as seen at the time now.
func (c *Clock) Width(now int64) int64 {
	if c.High == 0 {
		return second
	}
	return c.High - c.Low + 2*c.grown(now)
}

// grown is by how much the interval has grown to each side.
func (c *Clock) grown(now int64) int64 { return max(now-c.High, 0) * drift / 1e6 }

// Next is the earliest time after t, or t itself, at which a second of the service's may turn; t where nothing is known.
func (c *Clock) Next(t int64) int64 {
	if !c.Known(t) {
		return t
	}
	grown := c.grown(t)
	low, high := c.Low-grown, c.High+grown
	turns := floor(t-high, second) + 1 // the first turn that may lie after t
	return max(t, low+turns*second)
}

// Sure is the latest time at which the second that was to turn at Next(t) has turned; t where nothing is known.
func (c *Clock) Sure(t int64) int64 {
	if !c.Known(t) {
		return t
	}
	grown := c.grown(t)
	return c.High + grown + (floor(t-c.High-grown, second)+1)*second
}

// Observe says that a second of the service's has turned between low and high. It reports whether that may be: where it
// contradicts what was known, somebody has set a clock, another instance has answered, or Redis has lost its counts.
func (c *Clock) Observe(low, high int64) bool {
	if !c.Known(high) {
		c.learn(low, high)
		return true
	}
	grown := c.grown(high)
	turns := -floor(c.High+grown-low, second) // the first that may have been after low
	knownLow, knownHigh := c.Low-grown+turns*second, c.High+grown+turns*second
	switch {
	case knownLow+second <= high: // or the next
		return true
	case knownLow <= high:
		*c = Clock{Low: max(low, knownLow), High: min(high, knownHigh)}
		return true
	}
	if c.Against++; c.Against >= contradictions {
		*c = Clock{}
		c.learn(low, high)
	}
	return false
}

// learn begins anew with what was observed, where that says anything.
func (c *Clock) learn(low, high int64) {
	if high-low <= widest {
		*c = Clock{Low: low, High: high}
	}
}

// floor is a/b, rounded down.
func floor(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

// clockSize is the length of what Encode writes.
const clockSize = 24

// Encode appends the clock to dst.
func (c *Clock) Encode(dst []byte) []byte {
	for _, v := range [...]int64{c.Low, c.High, c.Against} {
		dst = binary.LittleEndian.AppendUint64(dst, uint64(v))
	}
	return dst
}

// Decode reads what Encode wrote at the time now or before, and reports whether it could be that.
func (c *Clock) Decode(src []byte, now int64) bool {
	if len(src) != clockSize {
		return false
	}
	for i, v := range [...]*int64{&c.Low, &c.High, &c.Against} {
		*v = int64(binary.LittleEndian.Uint64(src[8*i:]))
	}
	return c.Low <= c.High && c.High-c.Low <= widest+second && c.High <= now && c.Against >= 0 && c.Against < contradictions
}
