// Package stall lets a test that judges by time-outs tell a fault from a machine that stood still. A worker that does not
// run for two seconds is taken for dead by the others, as it should be: that says nothing against them.
package stall

import (
	"testing"
	"time"
)

const (
	// lookEvery is how often a watch looks at the clock.
	lookEvery = 10 * time.Millisecond
	// tooLong is a gap that can make a time-out of two seconds lapse where it must not.
	tooLong = time.Second
	// attempts bounds how often a test is tried in all.
	attempts = 3
)

// Retry runs check, which judges by time-outs, until it does not fail, three times at most; after a failure only if the
// machine has stood still during it for a second or longer, which it logs. check is given a test of its own: what it
// cleans up is cleaned up before the next attempt, and it must end from the goroutine in which it was called.
func Retry(t testing.TB, check func(t testing.TB)) {
	t.Helper()
	retry(t, watch, check)
}

// retry is Retry with a watch: that begins at its call, and what it returns ends it and gives the longest gap.
func retry(t testing.TB, watch func() func() time.Duration, check func(t testing.TB)) {
	t.Helper()
	for i := 1; ; i++ {
		longest := watch()
		failed := try(t, check)
		gap := longest()
		switch {
		case !failed:
			return
		case gap < tooLong:
			t.FailNow()
		case i == attempts:
			t.Fatalf("the machine stood still for %v, and that was the last of %d attempts", gap, attempts)
		}
		t.Logf("it failed while the machine stood still for %v: attempt %d of %d follows", gap, i+1, attempts)
	}
}

// watch measures by how much its own goroutine is late: what keeps it from running keeps others from it, too.
func watch() (longest func() time.Duration) {
	var gap time.Duration
	last := time.Now()
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(lookEvery)
		defer tick.Stop()
		for goOn := true; goOn; {
			select {
			case <-stop:
				goOn = false // after another look: the gap may be the last
			case <-tick.C:
			}
			now := time.Now() // and not the tick's own time, which may be that of long ago
			gap = max(gap, now.Sub(last)-lookEvery)
			last = now
		}
	}()
	return func() time.Duration {
		close(stop)
		<-stopped
		return gap
	}
}
