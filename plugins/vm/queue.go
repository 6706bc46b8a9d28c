package vm

import (
	"container/heap"

	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm"

	"sentinel-envoy/shared/engine"
)

// releaseMs is how often a filter looks, while any of its streams waits, whose turn it is, in milliseconds: a stream goes
// on at most that much after its time.
const releaseMs = 5

// Waiter is a stream that waits for its turn.
type Waiter interface {
	// Turn is called once the time has come, with the stream's context in effect, at the time now in nanoseconds.
	Turn(now int64)
}

// Place is a stream's place in the queue of its filter. Its zero value is in none.
type Place struct {
	waiter  Waiter
	context uint32
	until   int64
	// at is the place's index in the queue plus one, 0 if it is in none.
	at int
}

// Waits is whether the stream is in the queue.
func (p *Place) Waits() bool { return p.at > 0 }

// Queue are the streams of one filter that wait, the next one first. The engine bounds how many there are.
type Queue struct {
	places places
	fast   bool
}

// Add lets a stream wait until a time in nanoseconds. context is the id of its context.
func (q *Queue) Add(p *Place, w Waiter, context uint32, until int64) error {
	p.waiter, p.context, p.until = w, context, until
	heap.Push(&q.places, p)
	if q.fast {
		return nil
	}
	q.fast = true
	return proxywasm.SetTickPeriodMilliSeconds(releaseMs)
}

// Remove takes a stream that has gone out of the queue, if it is there. It leaves the tick as it is: each change of the
// period begins it anew, and clients that come and go must not keep it from ending.
func (q *Queue) Remove(p *Place) {
	if p.Waits() {
		heap.Remove(&q.places, p.at-1)
	}
}

// Tick lets all go on whose time has come.
func (q *Queue) Tick(e *Engine, now int64) {
	if !q.fast {
		return
	}
	for len(q.places) > 0 && q.places[0].until <= now {
		p := heap.Pop(&q.places).(*Place)
		if err := proxywasm.SetEffectiveContext(p.context); err != nil {
			e.Fault("letting a stream go on", err)
			continue
		}
		p.waiter.Turn(now)
	}
	if len(q.places) == 0 {
		q.fast = false
		if err := proxywasm.SetTickPeriodMilliSeconds(engine.TickMs); err != nil {
			e.Fault("slowing the tick", err)
		}
	}
}

// places implements heap.Interface.
type places []*Place

func (s places) Len() int           { return len(s) }
func (s places) Less(i, j int) bool { return s[i].until < s[j].until }
func (s places) Swap(i, j int) {
	s[i], s[j] = s[j], s[i]
	s[i].at, s[j].at = i+1, j+1
}

// Push implements heap.Interface.
func (s *places) Push(x any) {
	p := x.(*Place)
	*s = append(*s, p)
	p.at = len(*s)
}

// Pop implements heap.Interface.
func (s *places) Pop() any {
	last := len(*s) - 1
	p := (*s)[last]
	(*s)[last] = nil
	*s = (*s)[:last]
	p.at = 0
	return p
}
