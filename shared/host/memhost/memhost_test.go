package memhost_test

import (
	"encoding/binary"
	"errors"
	"slices"
	"sync"
	"testing"

	"sentinel-envoy/internal/seeds"
	"sentinel-envoy/shared/host"
	"sentinel-envoy/shared/host/memhost"
)

func TestSharedDataIsLikeEnvoys(t *testing.T) {
	p := memhost.NewProcess(1)
	a, b := p.Worker(nil), p.Worker(nil)
	if _, _, err := a.Get("k"); !errors.Is(err, host.ErrNotFound) {
		t.Fatalf("absent key: %v", err)
	}
	if err := a.Set("k", []byte("1"), host.CreateOnly); err != nil {
		t.Fatalf("creating: %v", err)
	}
	if err := b.Set("k", []byte("2"), host.CreateOnly); !errors.Is(err, host.ErrCASMismatch) {
		t.Errorf("creating what is there: %v", err)
	}
	value, cas, err := b.Get("k")
	if err != nil || string(value) != "1" {
		t.Fatalf("got %q, %v", value, err)
	}
	value[0] = 'x' // a copy
	if err := a.Set("k", []byte("3"), cas); err != nil {
		t.Errorf("compare-and-set with the right token: %v", err)
	}
	if err := b.Set("k", []byte("4"), cas); !errors.Is(err, host.ErrCASMismatch) {
		t.Errorf("compare-and-set with an old token: %v", err)
	}
	if value, _, _ := b.Get("k"); string(value) != "3" {
		t.Errorf("got %q", value)
	}
	if err := b.Set("k", []byte("5"), 0); err != nil {
		t.Errorf("a blind write: %v", err)
	}
	if err := b.Set("new", nil, 12345); err != nil {
		t.Errorf("an absent key is created whatever the token is: %v", err)
	}
	if keys, size := p.Keys(); keys != 2 || size != 1 {
		t.Errorf("%d keys of %d bytes", keys, size)
	}
}

func TestQueueIsLikeEnvoys(t *testing.T) {
	p := memhost.NewProcess(1)
	a, b := p.Worker(nil), p.Worker(nil)
	if _, err := b.Resolve("q"); !errors.Is(err, host.ErrNotFound) {
		t.Errorf("resolving before anybody opened: %v", err)
	}
	id, _ := a.Open("q")
	_ = a.Enqueue(id, []byte("1"))
	again, _ := b.Open("q")
	_ = b.Enqueue(again, []byte("2"))
	for _, want := range []string{"1", "2"} {
		if got, err := b.Dequeue(id); err != nil || string(got) != want {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
	}
	if _, err := a.Dequeue(id); !errors.Is(err, host.ErrEmpty) {
		t.Errorf("an empty queue: %v", err)
	}
	if err := a.Enqueue(id+1, nil); err == nil {
		t.Error("an unknown queue took a message")
	}
}

// Real threads: no increment of a counter that all change by compare-and-set is lost.
func TestCompareAndSetUnderContention(t *testing.T) {
	const workers, increments = 8, 500
	p := memhost.NewProcess(1)
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			w := p.Worker(nil)
			for range increments {
				for !increment(t, w) {
				}
			}
		})
	}
	wg.Wait()
	value, _, _ := p.Worker(nil).Get("counter")
	if got := binary.LittleEndian.Uint64(value); got != workers*increments {
		t.Errorf("counted %d of %d", got, workers*increments)
	}
}

func increment(t *testing.T, w host.SharedData) (done bool) {
	value, cas, err := w.Get("counter")
	if errors.Is(err, host.ErrNotFound) {
		value, cas = make([]byte, 8), host.CreateOnly
	}
	next := binary.LittleEndian.AppendUint64(nil, binary.LittleEndian.Uint64(value)+1)
	err = w.Set("counter", next, cas)
	if err != nil && !errors.Is(err, host.ErrCASMismatch) {
		t.Error(err)
	}
	return err == nil
}

// history is the order in which the workers of a small simulation get to run.
func history(seed uint64, disturb func(sim *memhost.Sim, tasks []*memhost.Task, step int)) (order []int) {
	sim := memhost.NewSim(seed, 1)
	defer sim.Close()
	var tasks []*memhost.Task
	for i := range 4 {
		tasks = append(tasks, sim.Go(func(task *memhost.Task) {
			for range 20 {
				task.Sleep(task.Now() + 10)
				order = append(order, i)
			}
		}))
	}
	for step := 0; sim.Step(); step++ {
		if disturb != nil {
			disturb(sim, tasks, step)
		}
	}
	return order
}

func TestSimIsDecidedByItsSeed(t *testing.T) {
	seeds.Try(t, 20, func(t *testing.T, seed uint64) {
		one := history(seed, nil)
		if again := history(seed, nil); !slices.Equal(one, again) {
			t.Error("the same seed gave two orders")
		}
		if slices.Equal(one, history(seed+1, nil)) {
			t.Error("two seeds gave the same order")
		}
	})
}

func TestSimKillsAndStalls(t *testing.T) {
	seeds.Try(t, 20, simKillsAndStalls)
}

func simKillsAndStalls(t *testing.T, seed uint64) {
	order := history(seed, func(sim *memhost.Sim, tasks []*memhost.Task, step int) {
		switch step {
		case 0:
			sim.Stall(tasks[1], 1e9)
		case 40:
			sim.Kill(tasks[2])
		}
	})
	last := order[len(order)-20:]
	if slices.ContainsFunc(last, func(i int) bool { return i != 1 }) {
		t.Errorf("the stalled worker did not run alone at the end: %v", order)
	}
	var killed int
	for _, i := range order {
		if i == 2 {
			killed++
		}
	}
	if killed == 0 || killed == 20 {
		t.Errorf("the killed worker ran %d of 20 rounds", killed)
	}
}

func TestFailAndCorrupt(t *testing.T) {
	p := memhost.NewProcess(1)
	w := p.Worker(nil)
	_ = w.Set("k", []byte("1"), host.CreateOnly)
	fault := errors.New("fault")
	w.Fail(fault)
	if _, _, err := w.Get("k"); !errors.Is(err, fault) {
		t.Errorf("got %v", err)
	}
	w.Fail(nil)
	_, cas, _ := w.Get("k")
	p.Corrupt(func(string, []byte) ([]byte, bool) { return []byte("x"), true })
	if err := w.Set("k", []byte("2"), cas); !errors.Is(err, host.ErrCASMismatch) {
		t.Errorf("a corrupted value kept its token: %v", err)
	}
}
