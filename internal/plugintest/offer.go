package plugintest

import (
	"context"
	"sync"
	"testing"

	"sentinel-envoy/internal/envoytest"
	"sentinel-envoy/internal/load"
)

// Offered is load in the background.
type Offered struct {
	cancel context.CancelFunc
	done   sync.WaitGroup
	sum    load.Summary
	err    error
}

// Offer offers load to a host:port until the test's end, or Stop; or until it is over, where the options say how long or
// how many.
func Offer(t testing.TB, addr string, o load.Options) *Offered {
	t.Helper()
	o.Port = envoytest.PortOf(t, addr)
	if o.Duration == 0 {
		o.Duration = load.MaxDuration
	}
	ctx, cancel := context.WithCancel(t.Context())
	l := &Offered{cancel: cancel}
	l.done.Go(func() { l.sum, l.err = load.Run(ctx, o) })
	t.Cleanup(func() { cancel(); l.done.Wait() })
	return l
}

// Wait waits until the load is over by itself and gives what became of it.
func (l *Offered) Wait(t testing.TB) load.Summary {
	t.Helper()
	l.done.Wait()
	if l.err != nil {
		t.Fatal(l.err)
	}
	return l.sum
}

// Stop ends the load and gives what became of it.
func (l *Offered) Stop(t testing.TB) load.Summary {
	t.Helper()
	l.cancel()
	return l.Wait(t)
}
