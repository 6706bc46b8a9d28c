package worker

import (
	"errors"

	"sentinel-envoy/shared/host"
)

// Role is who aggregates.
type Role struct {
	Lease
	// Mine is whether it is this worker.
	Mine bool
}

// Role returns who aggregates, having renewed the role if this worker has it, or taken it if it was free. A worker
// without a slot takes nothing. Whoever has just renewed the role has it until somebody finds it run out, and does not look.
func (w *Worker) Role(now int64) (Role, error) {
	if w.held && w.led.Identity == w.lease.Identity && w.led.Term != 0 && now >= w.led.Beat && now-w.led.Beat < roleEvery {
		return Role{Lease: w.led, Mine: true}, nil
	}
	w.led = Lease{}
	l, cas, err := w.get(roleKey)
	if err != nil {
		return Role{}, err
	}
	w.term = max(w.term, l.Term)
	mine := w.held && l.Identity == w.lease.Identity
	free := l.runOut(now, RoleTTL)
	switch {
	case mine && now-l.Beat < roleEvery && !free, !mine && !free, !w.held:
		return Role{Lease: l, Mine: mine}, nil
	case !mine || free:
		// Also its own role, once run out, is taken anew: in between another may have led.
		l = Lease{Identity: w.lease.Identity, Term: w.term + 1}
	}
	l.Beat, l.Since = now, w.since
	err = w.data.Set(roleKey, l.encode(), cas)
	if errors.Is(err, host.ErrCASMismatch) {
		return Role{Lease: l}, nil // somebody else has just taken it
	}
	if err == nil {
		w.led, w.term = l, max(w.term, l.Term)
	}
	return Role{Lease: l, Mine: err == nil}, err
}
