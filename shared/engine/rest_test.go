package engine_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"sentinel-envoy/internal/seeds"
	"sentinel-envoy/shared/engine"
	"sentinel-envoy/shared/record"
)

// runAtRest lets d nanoseconds pass in which no worker has streams: each ticks as often as it asks for, and up to 80 ms late.
func (w *process) runAtRest(d int64, rng *rand.Rand) {
	next := make([]int64, len(w.workers))
	for end := w.Now() + d; w.Now() < end; w.Advance(millisecond) {
		for i, wk := range w.workers {
			if wk.gone || w.Now() < next[i] {
				continue
			}
			wk.Tick(w.Now())
			next[i] = w.Now() + int64(wk.Period(true, w.Now()))*millisecond + rng.Int64N(80*millisecond)
		}
	}
}

// aggregating are the workers that live and have the aggregator's role.
func (w *process) aggregating() (those []*worker) {
	for _, wk := range w.workers {
		if !wk.gone && wk.Aggregates() {
			those = append(those, wk)
		}
	}
	return those
}

// Workers at rest keep what they hold: nobody is taken for dead, and one of them aggregates as long as it lives. One that dies
// meanwhile is missed all the same, also the one that aggregates.
func TestWorkersAtRest(t *testing.T) {
	seeds.Try(t, 20, func(t *testing.T, seed uint64) {
		rng := rand.New(rand.NewPCG(seed, 0))
		const workers = 6
		w := newProcess(workers, cfg(limit("id", 10, 1000)))
		w.runAtRest(8*second, rng)
		see := func(live, lost uint64) {
			t.Helper()
			gotLive, _ := w.Metric("sentinel_workers")
			gotLost, _ := w.Metric("sentinel_workers_lost")
			if gotLive != live || gotLost != lost || len(w.aggregating()) != 1 {
				t.Errorf("%d live, %d lost, %d aggregate; want %d, %d, 1", gotLive, gotLost, len(w.aggregating()), live, lost)
			}
		}
		first := w.aggregating()[0]
		w.runAtRest(60*second, rng)
		if see(workers, 0); len(w.aggregating()) == 1 && w.aggregating()[0] != first {
			t.Error("another aggregates than a minute ago")
		}
		for _, wk := range w.workers {
			if got := wk.Period(true, w.Now()); got <= engine.TickMs {
				t.Errorf("a worker at rest ticks every %d ms", got)
			}
		}
		first.gone = true
		w.runAtRest(6*second, rng)
		see(workers-1, 1)
		if admitted := admit(w.aggregating()[0].http, 20, w.Now()); admitted != 10 {
			t.Errorf("%d of 20 are admitted at a threshold of 10", admitted)
		}
	})
}

// Whoever is paged for records that run out reads how many are left, of which a process at rest knows as soon as one under load.
func TestRecordsAreCountedAtRest(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 0))
	const rules = 300
	w := newProcess(2, fits(t, `{"flowRules": [`+numbered(rules, `{"id": "%d", "resource": "/%d", "threshold": 3}`)+`]}`))
	w.runAtRest(10*second, rng)
	for i := range rules {
		w.ask(fmt.Sprint("/", i), "", 1)
	}
	w.runAtRest(45*second, rng) // two rounds, and a little
	free, known := w.Metric("sentinel_records_free")
	if used := record.MaxRecords - int(free); !known || used < rules || used > rules+32 {
		t.Errorf("%d records are in use by %d rules, known %t", used, rules, known)
	}
}
