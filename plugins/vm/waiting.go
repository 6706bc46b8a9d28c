package vm

import (
	"container/heap"

	"sentinel-envoy/plugins/envoyhost"
	"sentinel-envoy/shared/engine"
)

// resumeMs is how often a plugin looks, while any of its streams waits, whose turn it is, in milliseconds: a stream goes
// on at most that much after its time.
const resumeMs = 5

// waiting are the streams of one plugin that are held back until their turn, the next one first. The engine bounds how many
// there are.
type waiting struct {
	streams byTurn
	// fast is whether the plugin's tick is the fast one.
	fast bool
}

// add holds a stream back until a time in nanoseconds.
func (w *waiting) add(b *Base, until int64) error {
	b.until = until
	heap.Push(&w.streams, b)
	if w.fast {
		return nil
	}
	w.fast = true
	return envoyhost.SetTickPeriod(resumeMs)
}

// remove takes out a stream that has gone, if it is there. It leaves the tick as it is: each change of the period begins it
// anew, and clients that come and go must not keep it from ending.
func (w *waiting) remove(b *Base) {
	if b.Waits() {
		heap.Remove(&w.streams, b.place-1)
	}
}

// resume lets all proceed whose time has come, and reports whether none waits any more: the fast tick has served its time.
func (w *waiting) resume(f *engine.Filter, now int64) (done bool) {
	if !w.fast {
		return false
	}
	for len(w.streams) > 0 && w.streams[0].until <= now {
		w.turn(f, heap.Pop(&w.streams).(*Base), now)
	}
	w.fast = len(w.streams) > 0
	return !w.fast
}

// answered lets all be asked anew that wait for the rate limit service.
func (w *waiting) answered(f *engine.Filter, now int64) {
	var some []*Base
	for _, b := range w.streams {
		if b.Entry.AwaitsService() {
			some = append(some, b)
		}
	}
	for _, b := range some {
		if !b.Waits() {
			continue // one before it has ended it
		}
		heap.Remove(&w.streams, b.place-1)
		w.turn(f, b, now)
	}
}

// turn lets a stream proceed that has waited.
func (w *waiting) turn(f *engine.Filter, b *Base, now int64) {
	if err := envoyhost.SetEffectiveContext(b.context); err != nil {
		f.Fault("resuming a stream", err)
		return
	}
	b.turn(now)
}

// byTurn implements heap.Interface.
type byTurn []*Base

func (s byTurn) Len() int           { return len(s) }
func (s byTurn) Less(i, j int) bool { return s[i].until < s[j].until }
func (s byTurn) Swap(i, j int) {
	s[i], s[j] = s[j], s[i]
	s[i].place, s[j].place = i+1, j+1
}

// Push implements heap.Interface.
func (s *byTurn) Push(x any) {
	b := x.(*Base)
	*s = append(*s, b)
	b.place = len(*s)
}

// Pop implements heap.Interface.
func (s *byTurn) Pop() any {
	last := len(*s) - 1
	b := (*s)[last]
	(*s)[last] = nil
	*s = (*s)[:last]
	b.place = 0
	return b
}
