package worker

// maxGap is how long a worker may not run without taking it for a gap, in nanoseconds: far less than TTL, so that what was
// renewed before a shorter one is still young after it.
const maxGap = 500e6

// Watch is for how long a worker has seen the others run. When a whole process stands still, by a signal or because its machine
// is moved, everything in it looks old to the first worker that wakes; so a worker that has not run itself calls nobody dead,
// until all have had TTL to renew what is theirs. The zero value has seen nothing.
type Watch struct {
	// since is when the worker began to look without a gap, last when it looked last, in nanoseconds.
	since, last int64
}

// Look says that the worker runs, at the time now in nanoseconds. It is called in each tick.
func (w *Watch) Look(now int64) {
	if !w.looks(now) {
		w.since = now
	}
	w.last = max(w.last, now)
}

// Gone is whether something is nobody's any more at the time now, that its holder has renewed at the time renewed, both in
// nanoseconds: for TTL this worker ran and the holder was silent.
func (w *Watch) Gone(renewed, now int64) bool { return w.GoneAt(renewed, now) <= now }

// GoneAt is from when on that is so, in nanoseconds, if this worker runs from now on and the holder is silent.
func (w *Watch) GoneAt(renewed, now int64) int64 {
	since := w.since
	if !w.looks(now) {
		since = now
	}
	return max(renewed, since) + TTL + 1
}

// looks is whether there is no gap between the last look and now.
func (w *Watch) looks(now int64) bool { return w.last > 0 && now-w.last <= maxGap }

// adopt takes over what another has seen who ran while this worker did not: not the process stood still.
func (w *Watch) adopt(since, now int64) { w.since, w.last = since, now }
