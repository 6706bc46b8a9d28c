package flow

// Memory is a threshold that falls while memory fills, as in sentinel-golang 1.0.4: in a straight line from Low, where
// the memory in use is LowMark bytes or less, to High, where it is HighMark or more.
type Memory struct {
	// Low and High are permits in an interval. Low is the larger: it is for low use.
	Low, High int64
	// LowMark and HighMark are bytes in use, LowMark < HighMark.
	LowMark, HighMark int64
}

// Threshold is how many permits an interval has with so many bytes in use; a negative number means that it is not known.
//
// What is not known gets the smaller threshold. Sentinel takes the larger, but it reads the figure in its own process,
// where it is only missing in the first moments. A source of ours may fail just because memory has run out, and the rule
// is there for that moment.
func (m *Memory) Threshold(used float64) float64 {
	low, high := float64(m.Low), float64(m.High)
	switch {
	case used < 0:
		return min(low, high)
	case used <= float64(m.LowMark):
		return low
	case used >= float64(m.HighMark):
		return high
	}
	slope := (high - low) / float64(m.HighMark-m.LowMark)
	return slope*(used-float64(m.LowMark)) + low
}
