package load

import (
	"context"
	"math"
	"sync"
	"time"
)

// clock tells the time since the run began.
type clock interface {
	now() time.Duration
	// sleepUntil returns at the given time, or earlier when ctx has ended; it may return early without reason.
	sleepUntil(ctx context.Context, at time.Duration)
}

// schedule hands out the requests of a run, each with the time it is due. Lanes share one schedule, so a request goes to
// whichever lane is free.
type schedule struct {
	qps      float64       // 0: due at once
	duration time.Duration // nothing is handed out at or after it
	limit    uint64        // of requests; 0: none
	clock    clock

	mu    sync.Mutex    // held while sleeping: only the next request's time is waited for, and by one lane
	next  uint64        // index of the next request
	ended time.Duration // when a lane first found the run over; 0 before
}

// take waits until the next request is due and appends its due time to due, with those of up to max-1 further requests
// that are due already. now is the time it was read at. It appends nothing when the run is over.
func (s *schedule) take(ctx context.Context, due []time.Duration, max int) (_ []time.Duration, now time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		now = s.clock.now()
		at := s.dueAt(s.next, now)
		if s.done() || at >= s.duration || now >= s.duration || ctx.Err() != nil {
			if s.ended == 0 {
				s.ended = now
			}
			return due, now
		}
		if at <= now {
			break
		}
		s.clock.sleepUntil(ctx, at)
	}
	for len(due) < max && !s.done() {
		at := s.dueAt(s.next, now)
		if at > now || at >= s.duration {
			break
		}
		due = append(due, at)
		s.next++
	}
	return due, now
}

func (s *schedule) done() bool { return s.limit > 0 && s.next >= s.limit }

func (s *schedule) dueAt(k uint64, now time.Duration) time.Duration {
	if s.qps == 0 {
		return now
	}
	return time.Duration(float64(k) * float64(time.Second) / s.qps)
}

// unsent returns how many requests were due before the run ended but were not handed out; 0 for a run without a rate.
func (s *schedule) unsent() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.qps == 0 {
		return 0
	}
	end := min(s.ended, s.duration)
	due := uint64(math.Ceil(float64(end) * s.qps / float64(time.Second)))
	if due > 0 && s.dueAt(due-1, 0) >= end { // rounding
		due--
	}
	if s.limit > 0 {
		due = min(due, s.limit)
	}
	return due - min(due, s.next)
}

// runClock is the monotonic clock of a real run.
type runClock struct{ start time.Time }

func newRunClock() *runClock { return &runClock{start: time.Now()} }

func (c *runClock) now() time.Duration { return time.Since(c.start) }

// coarse is the precision of the runtime's timers, and how late the end of a context may be seen.
const coarse = 1200 * time.Microsecond

func (c *runClock) sleepUntil(ctx context.Context, at time.Duration) {
	left := at - c.now()
	if left <= coarse {
		nap(left)
		return
	}
	t := time.NewTimer(left - coarse)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
