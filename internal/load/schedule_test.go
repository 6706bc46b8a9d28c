package load

import (
	"context"
	"sync"
	"testing"
	"time"
)

// fakeClock moves only when somebody sleeps.
type fakeClock struct {
	mu  sync.Mutex
	t   time.Duration
	lag time.Duration // how much too late each sleep ends
}

func (c *fakeClock) now() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *fakeClock) sleepUntil(_ context.Context, at time.Duration) {
	c.advanceTo(at + c.lag)
}

func (c *fakeClock) advanceTo(at time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = max(c.t, at)
}

// drain takes all requests, max at a time, and returns the batches.
func drain(s *schedule, max int) (batches [][]time.Duration) {
	for {
		due, _ := s.take(context.Background(), nil, max)
		if len(due) == 0 {
			return batches
		}
		batches = append(batches, due)
	}
}

func TestScheduleIsFixedInAdvance(t *testing.T) {
	s := &schedule{qps: 4, duration: time.Second, clock: &fakeClock{}}
	batches := drain(s, 1)
	if len(batches) != 4 {
		t.Fatalf("4/s for 1s: %d requests, want 4", len(batches))
	}
	for k, b := range batches {
		if want := time.Duration(k) * 250 * time.Millisecond; b[0] != want {
			t.Errorf("request %d due at %v, want %v", k, b[0], want)
		}
	}
}

func TestScheduleDoesNotDriftWithLateTimers(t *testing.T) {
	s := &schedule{qps: 1000, duration: 10 * time.Second, clock: &fakeClock{lag: 3 * time.Millisecond}}
	n := 0
	for _, b := range drain(s, 1) {
		if want := time.Duration(n) * time.Millisecond; b[0] != want {
			t.Fatalf("request %d due at %v, want %v", n, b[0], want)
		}
		n++
	}
	// The last of the 10,000 may fall behind the end by the lag, not by the sum of all lags.
	if n < 10000-4 || n > 10000 {
		t.Errorf("%d requests, want 10000 or at most 4 fewer", n)
	}
}

func TestScheduleBatchesWhatIsDue(t *testing.T) {
	clock := &fakeClock{t: 10 * time.Millisecond}
	s := &schedule{qps: 1000, duration: time.Second, clock: clock}
	due, now := s.take(context.Background(), nil, 8)
	if len(due) != 8 || now != clock.now() {
		t.Fatalf("first take: %d requests at %v, want 8 at %v", len(due), now, clock.now())
	}
	due, _ = s.take(context.Background(), nil, 8)
	if len(due) != 3 || due[2] != 10*time.Millisecond {
		t.Errorf("second take: %v, want those due at 8, 9 and 10ms", due)
	}
	due, _ = s.take(context.Background(), nil, 8)
	if len(due) != 1 || clock.now() != 11*time.Millisecond {
		t.Errorf("third take: %v at %v, want one, waited for until 11ms", due, clock.now())
	}
}

func TestScheduleEnds(t *testing.T) {
	over, cancel := context.WithCancel(context.Background())
	cancel()
	for _, tc := range []struct {
		name string
		s    *schedule
		ctx  context.Context
		at   time.Duration
		want int
	}{
		{"by count", &schedule{qps: 10, duration: time.Hour, limit: 7}, context.Background(), 0, 7},
		{"by count without a rate", &schedule{duration: time.Hour, limit: 7}, context.Background(), 0, 7},
		{"by time, whatever is overdue", &schedule{qps: 1000, duration: time.Second}, context.Background(), time.Second, 0},
		{"by time without a rate", &schedule{duration: time.Second}, context.Background(), time.Second, 0},
		{"by the context", &schedule{qps: 10, duration: time.Second}, over, 0, 0},
		{"by the context without a rate", &schedule{duration: time.Second}, over, 0, 0},
		{"a rate below one", &schedule{qps: 0.5, duration: 3 * time.Second}, context.Background(), 0, 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.s.clock = &fakeClock{t: tc.at}
			got := 0
			for {
				due, _ := tc.s.take(tc.ctx, nil, 4)
				if len(due) == 0 {
					break
				}
				got += len(due)
			}
			if got != tc.want {
				t.Errorf("%d requests, want %d", got, tc.want)
			}
		})
	}
}

func TestScheduleGivesEachRequestOnce(t *testing.T) {
	s := &schedule{qps: 1000, duration: 5 * time.Second, clock: &fakeClock{}}
	var mu sync.Mutex
	seen := map[time.Duration]int{}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for {
				due, _ := s.take(context.Background(), nil, 1+i)
				if len(due) == 0 {
					return
				}
				mu.Lock()
				for _, at := range due {
					seen[at]++
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(seen) != 5000 {
		t.Errorf("%d different requests, want 5000", len(seen))
	}
	for at, n := range seen {
		if n != 1 {
			t.Errorf("request of %v given %d times", at, n)
		}
	}
}

func TestUnsentIsWhatWasDue(t *testing.T) {
	over, cancel := context.WithCancel(context.Background())
	cancel()
	for _, tc := range []struct {
		name  string
		s     *schedule
		ctx   context.Context
		taken int
		end   time.Duration
		want  uint64
	}{
		{"all left in time", &schedule{qps: 10, duration: 2 * time.Second}, context.Background(), 20, 2 * time.Second, 0},
		{"a part never left", &schedule{qps: 10, duration: 2 * time.Second}, context.Background(), 12, 5 * time.Second, 8},
		{"binary fractions", &schedule{qps: 10, duration: 1100 * time.Millisecond}, context.Background(), 11, 5 * time.Second, 0},
		{"broken off", &schedule{qps: 10, duration: time.Hour}, over, 5, time.Second, 5},
		{"limited", &schedule{qps: 10, duration: 2 * time.Second, limit: 7}, context.Background(), 3, 5 * time.Second, 4},
		{"no rate", &schedule{duration: 2 * time.Second}, context.Background(), 3, 5 * time.Second, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			clock := &fakeClock{}
			tc.s.clock = clock
			for range tc.taken {
				tc.s.take(context.Background(), nil, 1)
			}
			clock.advanceTo(tc.end)
			if due, _ := tc.s.take(tc.ctx, nil, 1); len(due) != 0 {
				t.Fatal("the run should be over")
			}
			clock.advanceTo(time.Hour) // what comes later, as waiting for answers, does not matter
			tc.s.take(tc.ctx, nil, 1)
			if got := tc.s.unsent(); got != tc.want {
				t.Errorf("unsent %d, want %d", got, tc.want)
			}
		})
	}
}
