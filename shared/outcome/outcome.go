// Package outcome says what the end of a request or a connection tells of the service behind it. It is pure: what Envoy
// knows of the stream comes in through HTTPEnd and TCPEnd.
package outcome

// Outcome is what an end tells of the service.
type Outcome uint8

// The outcomes.
const (
	// Silent: it says nothing of the service. Whoever brought it about was the client, the operator or another filter.
	Silent Outcome = iota
	// Well: the service did what it was asked.
	Well
	// Badly: the service failed, or could not be reached.
	Badly
)

// String is the outcome in words.
func (o Outcome) String() string {
	switch o {
	case Well:
		return "well"
	case Badly:
		return "badly"
	}
	return "says nothing"
}

// NoTime stands for a time that there is none of.
const NoTime int64 = -1

// End is how an entry ended.
type End struct {
	Outcome Outcome
	// ResponseMs is the service's own time, in milliseconds: from the last that the client sent before the answer began to
	// where it began, or to where there was nothing more to wait for. It is NoTime where nobody waited for the service.
	ResponseMs int64
	// GaveUp is whether the wait ended without an answer, and not by the service's doing: the service would have taken
	// longer than ResponseMs.
	GaveUp bool
	// Connection is whether it is a connection, whose times are other ones than those of requests.
	Connection bool
}

// TookLonger is whether the service took longer than so many milliseconds, and whether the end tells. A wait that was given
// up tells only that it was too long.
func (e End) TookLonger(ms uint64) (longer, known bool) {
	if e.ResponseMs == NoTime {
		return false, false
	}
	longer = uint64(e.ResponseMs) > ms
	return longer, longer || e.Outcome != Silent && !e.GaveUp
}
