package vm

import "sentinel-envoy/shared/family"

// texts are the configurations of a VM's plugins, in pieces that are shared: an update has most of what was before it.
type texts struct{ pieces family.Pool[string, string] }

// text is one configuration, in its pieces.
type text []string

const (
	// cutEvery is how many objects a piece has on average: more would cost more where one changes.
	cutEvery = 16
	// maxPiece is how long a piece is at most, in bytes.
	maxPiece = 8 << 10
	// offset and prime are those of FNV-1a.
	offset, prime = 2166136261, 16777619
)

func newTexts() texts { return texts{family.NewPool[string, string]()} }

// keep returns a configuration, until drop.
func (ts *texts) keep(data []byte) (t text) {
	for len(data) > 0 {
		end := cut(data)
		piece := string(data[:end])
		t = append(t, ts.pieces.Acquire(piece, func() string { return piece }))
		data = data[end:]
	}
	return t
}

// drop gives up a configuration.
func (ts *texts) drop(t text) {
	for _, piece := range t {
		ts.pieces.Release(piece, false)
	}
}

// bytes is the configuration as it was.
func (t text) bytes() (data []byte) {
	for _, piece := range t {
		data = append(data, piece...)
	}
	return data
}

// cut is where the first piece of data ends: behind an object, as a hash of that says. So where one piece has changed, the
// next begins as it did.
func cut(data []byte) int {
	hash := uint32(offset)
	for i, c := range data[:min(len(data), maxPiece)] {
		switch {
		case c == '}' && hash>>16%cutEvery == 0:
			return i + 1
		case c == '}', c == '{':
			hash = offset
		default:
			hash = (hash ^ uint32(c)) * prime
		}
	}
	return min(len(data), maxPiece)
}
