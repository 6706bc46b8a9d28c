package ruleserver

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"sentinel-envoy/internal/envoytest"
)

// Gate is a document that lets everything pass on /orders, or nothing.
func Gate(open bool) string {
	const text = `{"flowRules": [{"id": "open %v", "resource": "/orders", "threshold": %d}]}`
	return fmt.Sprintf(text, open, map[bool]int{true: 1_000_000}[open])
}

// GateRules is the same as a list of flow rules.
func GateRules(open bool) string {
	list := strings.TrimPrefix(Gate(open), `{"flowRules": `)
	return strings.TrimSuffix(list, "}")
}

// Verdicts are requests that look at a gate all the time, and what became of them.
type Verdicts struct {
	stop context.CancelFunc
	done sync.WaitGroup
	mu   sync.Mutex
	all  []verdict
}

// verdict is that a request was let in or not, at a time between two.
type verdict struct {
	began, ended time.Time
	open         bool
}

// Watch sends requests from some clients with connections of their own until See.
func Watch(t *testing.T, url string) *Verdicts {
	ctx, cancel := context.WithCancel(t.Context())
	v := &Verdicts{stop: cancel}
	const clients = 8
	for range clients {
		v.done.Go(func() {
			client := envoytest.NewHTTPClient(false)
			defer client.CloseIdleConnections()
			for ctx.Err() == nil {
				began := time.Now()
				r, err := envoytest.Do(ctx, client, http.MethodGet, url)
				if ctx.Err() != nil {
					return
				}
				if err != nil || r.Status != 200 && r.Status != 429 {
					t.Errorf("status %d: %v", r.Status, err)
					return
				}
				v.mu.Lock()
				v.all = append(v.all, verdict{began, time.Now(), r.Status == 200})
				v.mu.Unlock()
				time.Sleep(time.Millisecond)
			}
		})
	}
	t.Cleanup(cancel)
	return v
}

// newest is whether the last request was let in.
func (v *Verdicts) newest() (open, any bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.all) == 0 {
		return false, false
	}
	return v.all[len(v.all)-1].open, true
}

// Becomes waits until requests are let in, or not.
func (v *Verdicts) Becomes(t *testing.T, open bool) {
	t.Helper()
	envoytest.Eventually(t, patience, fmt.Sprintf("the gate is open: %v", open), func() bool {
		is, any := v.newest()
		return any && is == open
	})
}

// See ends the requests. Between verdicts of one kind and of the other there must be an instant before which all can have been
// decided one way, and after which all the other way.
func (v *Verdicts) See(t *testing.T, changes int) {
	t.Helper()
	v.stop()
	v.done.Wait()
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.all) == 0 {
		t.Fatal("no requests")
	}
	open, seen := v.all[0].open, 0
	// last is the latest beginning of a verdict like the present one, held and next when that and the next hold at the latest.
	var last, held, next time.Time
	for _, one := range v.all { // by their ends, more or less
		switch {
		case one.open == open && !next.IsZero() && one.began.After(next):
			t.Fatalf("open %v: a request that began %v after one had ended by the new rules was decided by the old; change %d",
				open, one.began.Sub(next), seen)
		case one.open == open:
			last = one.began
		case one.began.Before(held): // it may be of the time before
		case next.IsZero():
			next = one.ended
		case one.began.After(last) && one.began.After(next):
			open, held, next = one.open, next, time.Time{}
			seen++
		}
	}
	t.Logf("%d requests, %d changes seen of %d", len(v.all), seen, changes)
	if seen < changes {
		t.Errorf("%d changes were seen, want %d", seen, changes)
	}
}
