package worker_test

import (
	"testing"

	"math/rand/v2"
	"sentinel-envoy/internal/seeds"
	"sentinel-envoy/shared/host/memhost"
	"sentinel-envoy/shared/worker"
)

func TestWatch(t *testing.T) {
	var w worker.Watch
	if w.Gone(start-worker.TTL-1, start) {
		t.Error("a worker that has seen nothing calls somebody dead")
	}
	now := start
	look := func(d int64) {
		for end := now + d; now < end; now += tick {
			w.Look(now)
		}
	}
	look(worker.TTL + 2*tick)
	if !w.Gone(now-worker.TTL-1, now) || w.Gone(now-worker.TTL, now) {
		t.Error("who was silent for TTL is told from who was not by more than a nanosecond")
	}
	now += 3 * second // nobody runs
	if w.Gone(start, now) {
		t.Error("after a gap somebody is called dead before the worker has ticked")
	}
	look(worker.TTL)
	if w.Gone(start, now-tick) {
		t.Error("after a gap somebody is called dead before all had TTL")
	}
	look(2 * tick)
	if !w.Gone(start, now) {
		t.Error("TTL after a gap the dead are not called dead")
	}
}

// A process that stands still, again and again, loses no worker, whoever wakes first; those that die meanwhile are lost.
func TestAProcessThatStandsStillLosesNobody(t *testing.T) {
	seeds.Try(t, 200, func(t *testing.T, seed uint64) {
		rng := rand.New(rand.NewPCG(seed, 3))
		p := memhost.NewProcess(start)
		var all []*worker.Worker
		run := func(d int64) {
			for end := p.Now() + d; p.Now() < end; p.Advance(tick) {
				for _, i := range rng.Perm(len(all)) {
					if err := all[i].Beat(p.Now()); err != nil {
						t.Fatal(err)
					}
					if _, err := all[i].Role(p.Now()); err != nil {
						t.Fatal(err)
					}
					if _, _, err := all[i].Count(p.Now()); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		died := uint64(0)
		for range 5 {
			for range 1 + rng.IntN(3) { // also just after a stop: a VM that was made anew
				all = append(all, worker.New(p.Worker(nil)))
			}
			run(rng.Int64N(3 * second))
			if len(all) > 2 && rng.IntN(2) == 0 {
				if _, held := all[0].Identity(); held {
					died++
				}
				all = all[1:]
			}
			p.Advance(rng.Int64N(5 * second))
		}
		run(worker.TTL + second)
		var lost, returned uint64
		for _, w := range all {
			gone, back := w.Lost()
			lost, returned = lost+gone, returned+back
		}
		live, _, err := all[0].Count(p.Now())
		if err != nil || live[0] != len(all) || returned != 0 {
			t.Errorf("%d of %d live, %d were taken for dead, %v", live, len(all), returned, err)
		}
		if lost > died {
			t.Errorf("%d were lost, %d have died", lost, died)
		}
	})
}

// A VM that was made anew in a process that has run for long need not wait to see who is dead.
func TestANewWorkerTakesOverTheWatch(t *testing.T) {
	p := memhost.NewProcess(start)
	dead, old := worker.New(p.Worker(nil)), worker.New(p.Worker(nil))
	beats(t, p, second, old, dead)
	beats(t, p, worker.TTL-100*millisecond, old)
	young := worker.New(p.Worker(nil))
	beats(t, p, 300*millisecond, old, young)
	if !young.Gone(start+second-tick, p.Now()) {
		t.Error("300 ms after its start it does not see that another has been dead for more than TTL")
	}
}
