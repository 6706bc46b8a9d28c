package worker_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"sentinel-envoy/internal/seeds"
	"sentinel-envoy/shared/host/memhost"
	"sentinel-envoy/shared/worker"
)

// TestCount has workers die, leave, come back and count each other: those that died are counted once in all, those that
// left are not, and the live ones are told from both.
func TestCount(t *testing.T) {
	seeds.Try(t, 100, func(t *testing.T, seed uint64) {
		rng := rand.New(rand.NewPCG(seed, 2))
		p := memhost.NewProcess(start)
		now, died := start, uint64(0)
		var alive, all []*worker.Worker
		for range 200 {
			switch n := rng.IntN(10); {
			case n < 3 && len(alive) < 20:
				m := worker.New(p.Worker(nil))
				alive, all = append(alive, m), append(all, m)
			case n == 3 && len(alive) > 1:
				if _, held := alive[0].Identity(); held {
					died++
				}
				alive = alive[1:]
			case n == 4 && len(alive) > 1:
				if err := alive[0].Leave(); err != nil {
					t.Fatal(err)
				}
				alive = alive[1:]
			}
			for _, m := range alive {
				if err := m.Beat(now); err != nil {
					t.Fatal(err)
				}
				if rng.IntN(3) == 0 {
					if _, _, err := m.Count(now); err != nil {
						t.Fatal(err)
					}
				}
			}
			now += 500 * millisecond
		}
		if len(alive) == 0 {
			return
		}
		for end := now + worker.TTL + 500*millisecond; now < end; now += 100 * millisecond {
			for _, m := range alive {
				if err := m.Beat(now); err != nil {
					t.Fatal(err)
				}
			}
		}
		live, _, err := alive[0].Count(now)
		if err != nil {
			t.Fatal(err)
		}
		var lost uint64
		for _, m := range all {
			gone, returned := m.Lost()
			if returned != 0 {
				t.Fatalf("seed %d: a worker was held up", seed)
			}
			lost += gone
		}
		if live[0] != len(alive) || lost != died {
			t.Fatalf("seed %d: %v live of %d, %d lost of %d that died", seed, live, len(alive), lost, died)
		}
	})
}

// Workers of VMs with different configurations are told apart, and the slots of the dead are named once.
func TestCountTellsVMsApart(t *testing.T) {
	p := memhost.NewProcess(1000e9)
	var all []*worker.Worker
	for i := range 7 {
		w := worker.New(p.Worker(nil))
		w.Of(uint64(i % 2))
		if err := w.Beat(p.Now()); err != nil {
			t.Fatal(err)
		}
		all = append(all, w)
	}
	for end := p.Now() + 2*worker.TTL; p.Now() < end; p.Advance(100 * millisecond) {
		for i, w := range all {
			if i == 1 || i == 3 {
				continue
			}
			if err := w.Beat(p.Now()); err != nil {
				t.Fatal(err)
			}
		}
	}
	for n, want := range [][]uint16{{1, 3}, nil} {
		live, ended, err := all[0].Count(p.Now())
		if err != nil || live[0] != 4 || live[1] != 1 || !slices.Equal(ended, want) {
			t.Errorf("count %d: %v live, %v ended, %v", n, live, ended, err)
		}
	}
}
