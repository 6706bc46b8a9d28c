package memhost

import (
	"iter"
	"math/rand/v2"

	"sentinel-envoy/shared/host"
)

// Sim runs the workers of a process as coroutines, one step at a time, in an order drawn from a seed: whatever runs is
// interleaved with the others at every host call, can stall between any two of them, and can die there.
type Sim struct {
	*Process
	Rand  *rand.Rand
	tasks []*Task
	// others are further processes of the machine.
	others []*Process
}

// NewSim returns a simulation of a process whose clock stands at now nanoseconds. The seed decides everything.
func NewSim(seed uint64, now int64) *Sim {
	return &Sim{Process: NewProcess(now), Rand: rand.New(rand.NewPCG(seed, 0x5e17))}
}

// Task is one worker in a simulation.
type Task struct {
	*Worker
	sim    *Sim
	next   func() (struct{}, bool)
	stop   func()
	wakeAt int64
	over   bool
}

// Fork adds another process to the simulation, which shares nothing with the others but time.
func (s *Sim) Fork() *Process {
	p := NewProcess(s.Now())
	s.others = append(s.others, p)
	return p
}

// Advance moves the clock of all processes forward by d ≥ 0 nanoseconds.
func (s *Sim) Advance(d int64) {
	s.Process.Advance(d)
	for _, p := range s.others {
		p.Advance(d)
	}
}

// Go adds a worker that runs f. f must do nothing but compute, call its host, and Sleep.
func (s *Sim) Go(f func(t *Task)) *Task { return s.GoIn(s.Process, f) }

// GoIn is Go for a worker of a process that Fork has made.
func (s *Sim) GoIn(p *Process, f func(t *Task)) *Task {
	t := &Task{sim: s}
	t.next, t.stop = iter.Pull(func(yield func(struct{}) bool) {
		defer func() {
			t.over = true
			if r := recover(); r != nil {
				if _, ok := r.(host.Death); !ok {
					panic(r)
				}
			}
		}()
		t.Worker = p.Worker(func() {
			if !yield(struct{}{}) {
				panic(host.Death{})
			}
		})
		f(t)
	})
	s.tasks = append(s.tasks, t)
	return t
}

// Sleep lets the worker rest until the clock has reached until.
func (t *Task) Sleep(until int64) {
	t.wakeAt = max(t.wakeAt, until)
	t.Worker.yield()
}

// Stall keeps a worker from running for d nanoseconds from now, wherever it is.
func (s *Sim) Stall(t *Task, d int64) { t.wakeAt = max(t.wakeAt, s.Now()+d) }

// Kill ends a worker where it is. Nothing of it runs again.
func (s *Sim) Kill(t *Task) {
	if !t.over {
		t.stop()
		t.over = true
	}
}

// Live are the workers that have not ended.
func (s *Sim) Live() []*Task {
	live := s.tasks[:0:0]
	for _, t := range s.tasks {
		if !t.over {
			live = append(live, t)
		}
	}
	return live
}

// Step runs one worker that is awake up to its next host call. Where none is awake the clock moves on to when one is.
// It reports false when all have ended.
func (s *Sim) Step() bool {
	now := s.Now()
	var awake *Task
	candidates, earliest := 0, int64(-1)
	for _, t := range s.tasks {
		switch {
		case t.over:
		case t.wakeAt <= now:
			candidates++
			if s.Rand.IntN(candidates) == 0 {
				awake = t
			}
		case earliest < 0 || t.wakeAt < earliest:
			earliest = t.wakeAt
		}
	}
	if awake != nil {
		awake.next()
		return true
	}
	if earliest < 0 {
		return false
	}
	s.Advance(earliest - now)
	return true
}

// Close ends all workers.
func (s *Sim) Close() {
	for _, t := range s.tasks {
		s.Kill(t)
	}
}
