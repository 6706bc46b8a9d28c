package load

import (
	"errors"
	"io"
	"maps"
	"net"
	"os"
	"strconv"
	"sync"
	"time"
)

// lateAfter is how long after its time a request may leave before it counts as behind. It is well above the slop of a
// timer on a busy machine.
const lateAfter = 10 * time.Millisecond

// Counts of requests. At the end of a run Sent is the sum of Passed, Blocked and Failed.
type Counts struct {
	Sent    uint64 // attempts, those that found no connection included
	Passed  uint64 // answered, and neither blocked nor failed
	Blocked uint64 // HTTP: status 429, x-envoy-ratelimited or gRPC status 8. TCP: closed without data, or with the block message
	Failed  uint64 // status 5xx or its gRPC kin, a transport error, no answer in time
	Behind  uint64 // left more than 10 ms after they were due
}

// Latency is counted from the time a request was due, or from its sending in a run without a rate, to the end of its
// answer (TCP: to the first data, or the close). Failed requests count too.
type Latency struct{ P50, P90, P99, Max time.Duration }

// Second is what happened in one second of a run: Sent are the requests that left in it, the others the answers that
// came in it.
type Second struct {
	Index int // 1 for the first
	Counts
	Latency
}

// Summary is what became of a run.
type Summary struct {
	Counts
	Latency
	Unsent      uint64            // were due before the run ended but never left, for want of a free connection
	Elapsed     time.Duration     // from the first due time to the last answer
	Connections uint64            // opened in all
	Status      map[string]uint64 // answers by HTTP status ("200"), with gRPC status ("200 grpc 8"), or TCP outcome
	Errors      map[string]uint64 // failures without an answer: connect, timeout, closed, malformed, interrupted, other
	LastError   string            // text of the last of them
}

// class is what a request counts as.
type class uint8

const (
	passed class = iota
	blocked
	failed
)

// failure says why there was no answer.
type failure string

const (
	failConnect     failure = "connect"
	failTimeout     failure = "timeout"
	failClosed      failure = "closed"
	failMalformed   failure = "malformed"
	failInterrupted failure = "interrupted"
	failOther       failure = "other"
)

// answer is what an HTTP server said, as far as it counts here.
type answer struct {
	status      int
	grpc        int // grpc-status, -1 without
	ratelimited bool
}

// class tells a block from a failure. gRPC's 8 is RESOURCE_EXHAUSTED; those that mean a broken server, as a 5xx does,
// are UNKNOWN, DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE and DATA_LOSS.
func (a answer) class() class {
	if a.status == 429 || a.ratelimited || a.grpc == 8 {
		return blocked
	}
	switch a.grpc {
	case 2, 4, 13, 14, 15:
		return failed
	}
	if a.status >= 500 {
		return failed
	}
	return passed
}

func (a answer) String() string {
	s := strconv.Itoa(a.status)
	if a.grpc >= 0 {
		s += " grpc " + strconv.Itoa(a.grpc)
	}
	return s
}

// tally collects the outcomes of a run. All methods may be called concurrently.
type tally struct {
	clock clock

	mu      sync.Mutex
	second  period // the running second
	total   period // what came before it
	answers map[answer]uint64
	tcp     map[string]uint64
	errors  map[string]uint64
	lastErr error
	conns   uint64
}

type period struct {
	Counts
	hist histogram
}

func (p *period) merge(o *period) {
	p.Sent += o.Sent
	p.Passed += o.Passed
	p.Blocked += o.Blocked
	p.Failed += o.Failed
	p.Behind += o.Behind
	p.hist.merge(&o.hist)
}

func newTally(c clock) *tally {
	return &tally{clock: c, answers: map[answer]uint64{}, tcp: map[string]uint64{}, errors: map[string]uint64{}}
}

// sent counts requests that leave now. paced is false in a run without a rate, where none is late.
func (t *tally) sent(due []time.Duration, now time.Duration, paced bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.second.Sent += uint64(len(due))
	for _, at := range due {
		if paced && now-at > lateAfter {
			t.second.Behind++
		}
	}
}

// opened counts a connection.
func (t *tally) opened() {
	t.mu.Lock()
	t.conns++
	t.mu.Unlock()
}

// http counts an answer to the request that was due then.
func (t *tally) http(due time.Duration, a answer) {
	took := t.clock.now() - due
	t.mu.Lock()
	defer t.mu.Unlock()
	t.answers[a]++
	t.count(a.class(), took)
}

// stream counts the end of a TCP connection; kind goes into Summary.Status.
func (t *tally) stream(due time.Duration, kind string, c class) {
	took := t.clock.now() - due
	t.mu.Lock()
	defer t.mu.Unlock()
	t.tcp[kind]++
	t.count(c, took)
}

// fail counts requests that got no answer, all for one reason.
func (t *tally) fail(due []time.Duration, why failure, err error) {
	now := t.clock.now()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.errors[string(why)] += uint64(len(due))
	t.lastErr = err
	for _, at := range due {
		t.count(failed, now-at)
	}
}

func (t *tally) count(c class, took time.Duration) {
	switch c {
	case passed:
		t.second.Passed++
	case blocked:
		t.second.Blocked++
	default:
		t.second.Failed++
	}
	t.second.hist.add(took)
}

// endSecond closes the running second and returns it.
func (t *tally) endSecond(index int) Second {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := Second{Index: index, Counts: t.second.Counts, Latency: t.second.hist.latency()}
	t.total.merge(&t.second)
	t.second = period{}
	return s
}

// report calls f with each second that ends, or another length of time, until the returned function is called; that one
// reports what is left, and waits for f. So the seconds add up to the summary.
func (t *tally) report(every time.Duration, f func(Second)) (stop func()) {
	if f == nil {
		return func() {}
	}
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(every)
		defer tick.Stop()
		for i := 1; ; i++ {
			select {
			case <-quit:
				if s := t.endSecond(i); s.Counts != (Counts{}) {
					f(s)
				}
				return
			case <-tick.C:
				f(t.endSecond(i))
			}
		}
	}()
	return func() { close(quit); <-done }
}

// summary sums up all until now.
func (t *tally) summary() Summary {
	t.endSecond(0)
	t.mu.Lock()
	defer t.mu.Unlock()
	s := Summary{
		Counts:      t.total.Counts,
		Latency:     t.total.hist.latency(),
		Elapsed:     t.clock.now(),
		Connections: t.conns,
		Status:      maps.Clone(t.tcp),
		Errors:      maps.Clone(t.errors),
	}
	for a, n := range t.answers {
		s.Status[a.String()] += n // += : with and without x-envoy-ratelimited are two answers of one name
	}
	if t.lastErr != nil {
		s.LastError = t.lastErr.Error()
	}
	return s
}

// failureOf names the reason behind an error of a connection that was open. interrupted: the run was broken off.
func failureOf(err error, interrupted bool) failure {
	var timeout net.Error
	switch {
	case interrupted:
		return failInterrupted
	case errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return failTimeout
	case errors.Is(err, errMalformed):
		return failMalformed
	case closedByPeer(err), errors.Is(err, io.ErrUnexpectedEOF):
		return failClosed
	}
	return failOther
}
