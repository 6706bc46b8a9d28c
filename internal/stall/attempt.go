package stall

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
)

// attempt is a test that may fail without failing the one that it is part of. All else it leaves to that.
type attempt struct {
	testing.TB
	ctx    context.Context
	failed atomic.Bool
	mu     sync.Mutex
	after  []func()
}

// try runs check in an attempt and tells whether that failed.
func try(t testing.TB, check func(t testing.TB)) (failed bool) {
	ctx, cancel := context.WithCancel(t.Context())
	a := &attempt{TB: t, ctx: ctx}
	a.run(func() { check(a) })
	cancel()
	for f, ok := a.last(); ok; f, ok = a.last() {
		a.run(f)
	}
	return a.failed.Load()
}

// run calls f in a goroutine, which FailNow can end. Where f skips the test, so does run.
func (a *attempt) run(f func()) {
	over := make(chan struct{})
	go func() {
		defer close(over)
		f()
	}()
	<-over
	if a.Skipped() {
		runtime.Goexit()
	}
}

// last takes the cleanup that was added last.
func (a *attempt) last() (f func(), ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.after) == 0 {
		return nil, false
	}
	f = a.after[len(a.after)-1]
	a.after = slices.Delete(a.after, len(a.after)-1, len(a.after))
	return f, true
}

// Cleanup has f called at the end of the attempt.
func (a *attempt) Cleanup(f func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.after = append(a.after, f)
}

// Context gives a context that ends just before the functions of Cleanup are called.
func (a *attempt) Context() context.Context { return a.ctx }

// Failed tells whether the attempt has failed.
func (a *attempt) Failed() bool { return a.failed.Load() }

// Fail fails the attempt.
func (a *attempt) Fail() { a.failed.Store(true) }

// FailNow fails the attempt and ends its goroutine.
func (a *attempt) FailNow() {
	a.Fail()
	runtime.Goexit()
}

// Error is Log and Fail.
func (a *attempt) Error(args ...any) {
	a.TB.Helper()
	a.TB.Log(args...)
	a.Fail()
}

// Errorf is Logf and Fail.
func (a *attempt) Errorf(format string, args ...any) {
	a.TB.Helper()
	a.TB.Logf(format, args...)
	a.Fail()
}

// Fatal is Log and FailNow.
func (a *attempt) Fatal(args ...any) {
	a.TB.Helper()
	a.TB.Log(args...)
	a.FailNow()
}

// Fatalf is Logf and FailNow.
func (a *attempt) Fatalf(format string, args ...any) {
	a.TB.Helper()
	a.TB.Logf(format, args...)
	a.FailNow()
}
