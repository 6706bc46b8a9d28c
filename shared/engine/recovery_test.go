package engine_test

import (
	"math/rand/v2"
	"strings"
	"testing"

	"sentinel-envoy/internal/seeds"
	"sentinel-envoy/shared/engine"
	"sentinel-envoy/shared/host/memhost"
	"sentinel-envoy/shared/outcome"
)

const recovering = `"circuitBreakerRules": [{"id": "b", "resource": "r", "strategy": "ErrorCount", "threshold": 1, "statIntervalMs": 1000,
	"retryTimeoutMs": 1000, "recoveryDurationMs": 10000}]`

// fail lets one entry fail, or succeed.
func fail(t *testing.T, f *engine.Filter, now int64, bad bool) {
	t.Helper()
	var e engine.Entry
	if b := f.Enter("r", now, &e); b != nil {
		t.Fatalf("refused: %+v", b)
	}
	e.Finish(now, bad)
}

// While a breaker recovers, its workers let in ever more, and all again at the end.
func TestRecovery(t *testing.T) {
	w := newProcess(3, tried(t, recovering))
	fail(t, w.workers[0].http, w.Now(), true)
	w.run(2 * tick)
	var e engine.Entry
	if b := w.workers[1].http.Enter("r", w.Now(), &e); b == nil {
		t.Fatal("it did not open")
	}
	w.run(second)
	fail(t, w.workers[1].http, w.Now(), false) // the probe
	w.run(tick)
	const perSecond = 3 * 100
	for i := range 11 {
		admitted := 0
		for range 100 {
			for _, wk := range w.workers {
				admitted += admit(wk.http, 1, w.Now())
			}
			w.run(second / 100)
		}
		share := float64(admitted) / perSecond
		if want := min(float64(i)/10+0.05, 1); share < want-0.06 || share > want+0.02 {
			t.Errorf("in second %d %.2f were let in, want %.2f", i, share, want)
		}
	}
	b := w.workers[2].http.Enter("r", w.Now(), &e)
	if b != nil {
		t.Errorf("it has recovered: %+v", b)
	}
}

// A breaker that fails while it recovers opens again, on all workers, whatever order they run in; what it lets in until then is
// never more than its share.
func TestRecoveryOfInterleavedWorkers(t *testing.T) {
	seeds.Try(t, 60, func(t *testing.T, seed uint64) {
		rng := rand.New(rand.NewPCG(seed, 5))
		workers := 1 + rng.IntN(6)
		sim := memhost.NewSim(seed, start)
		defer sim.Close()
		c := tried(t, recovering)
		closedAt, share, admitted := int64(0), 0.0, 0
		for i := range workers {
			sim.Go(func(task *memhost.Task) {
				vm := engine.New(task, "test")
				f := vm.NewFilter("sentinel_http", c, nil)
				for i > 0 && closedAt == 0 {
					task.Sleep(task.Now() + tick)
				}
				if i == 0 { // it opens, and closes
					fail(t, f, task.Now(), true)
					vm.Tick(task.Now())
					task.Sleep(task.Now() + second)
					now := task.Now()
					fail(t, f, now, false)
					closedAt = now
				}
				for now := task.Now(); now < start+5*second; now = task.Now() {
					vm.Tick(now)
					var e engine.Entry
					now = task.Now()
					b := f.Enter("r", now, &e)
					recovers := b == nil || strings.HasPrefix(b.Measure, "it recovers")
					if closedAt > 0 && now > closedAt+2*tick && recovers {
						share += float64(now-closedAt) / float64(10*second)
						if b == nil {
							admitted++
						}
					}
					if b == nil {
						e.Exit(now, outcome.End{Outcome: outcome.Well})
					}
					task.Sleep(now + rng.Int64N(tick))
				}
			})
		}
		for sim.Step() {
			if sim.Rand.IntN(50) == 0 {
				sim.Advance(sim.Rand.Int64N(millisecond))
			}
		}
		if float64(admitted) > share+float64(workers) || float64(admitted) < share-2*float64(workers) || admitted == 0 {
			t.Errorf("%d workers let in %d, and their shares are %.1f", workers, admitted, share)
		}
	})
}

// A breaker that is forced open lets nothing in, and one that is forced closed all, whatever happens; its gauge says so.
func TestForcedBreakers(t *testing.T) {
	for forced, want := range map[string]struct {
		admitted int
		gauge    uint64
	}{"open": {0, 2}, "closed": {10, 0}} {
		c := tried(t, strings.Replace(recovering, `"threshold"`, `"forced": "`+forced+`", "threshold"`, 1))
		w := newProcess(2, c)
		admitted := 0
		for range 5 {
			for _, wk := range w.workers {
				var e engine.Entry
				if wk.http.Enter("r", w.Now(), &e) == nil {
					admitted++
					e.Finish(w.Now(), true)
				}
				w.run(3 * tick)
			}
		}
		w.run(second)
		gauge, _ := w.Metric("sentinel_breaker_state;resource=r;rule=b")
		if admitted != want.admitted || gauge != want.gauge {
			t.Errorf("forced %s: %d let in, gauge %d, want %+v", forced, admitted, gauge, want)
		}
		for _, wk := range w.workers {
			wk.update(tried(t, recovering))
		}
		w.run(second)
		if gauge, _ := w.Metric("sentinel_breaker_state;resource=r;rule=b"); admit(w.workers[0].http, 1, w.Now()) != 1 || gauge != 0 {
			t.Errorf("forced %s, and then not: gauge %d", forced, gauge)
		}
	}
}

// A breaker that is forced while it is open keeps to what it is forced to beyond its time-out, on every worker, and what was
// open before is what its rule says now that nobody forces it.
func TestForcedWhileOpen(t *testing.T) {
	for forced, want := range map[string]int{"open": 0, "closed": 6} {
		w := newProcess(2, tried(t, recovering))
		fail(t, w.workers[0].http, w.Now(), true)
		w.run(2 * tick)
		force := tried(t, strings.Replace(recovering, `"threshold"`, `"forced": "`+forced+`", "threshold"`, 1))
		for _, wk := range w.workers {
			wk.update(force)
		}
		for range 3 {
			w.run(second) // beyond retryTimeoutMs
			if got := admit(w.workers[0].http, 3, w.Now()) + admit(w.workers[1].http, 3, w.Now()); got != want {
				t.Errorf("forced %s: %d of 6 let in, want %d", forced, got, want)
			}
		}
		for _, wk := range w.workers {
			wk.update(tried(t, recovering))
		}
		w.run(second)
		if got := admit(w.workers[0].http, 1, w.Now()); got != 1 {
			t.Errorf("forced %s, and then not: not even a probe is let in", forced)
		}
	}
}
