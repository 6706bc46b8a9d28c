package worker_test

import (
	"math/rand/v2"
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
					if _, err := m.Count(now); err != nil {
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
		live, err := alive[0].Count(now)
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
		if live != len(alive) || lost != died {
			t.Fatalf("seed %d: %d live of %d, %d lost of %d that died", seed, live, len(alive), lost, died)
		}
	})
}
