package engine_test

import (
	"math/rand/v2"
	"testing"

	"sentinel-envoy/internal/seeds"
	"sentinel-envoy/shared/config"
	"sentinel-envoy/shared/engine"
	"sentinel-envoy/shared/host/memhost"
	"sentinel-envoy/shared/rule"
)

func isolate(rules ...rule.Isolation) *config.Config {
	c := &config.Config{Rules: list(rules)}
	for _, r := range rules {
		c.RuleHash += uint64(len(r.ID)) + uint64(r.Threshold)
	}
	return c
}

// atMost is an isolation rule on the resource "r".
func atMost(id string, threshold uint32) rule.Isolation {
	return rule.Isolation{Target: rule.Target{ID: id, Resource: "r"}, Threshold: threshold}
}

// crowdIn enters until it is refused, and returns the entries.
func crowdIn(f *engine.Filter, now int64) (open []*engine.Entry) {
	for range 1000 {
		e := &engine.Entry{}
		if f.Enter("r", now, e) != nil {
			return open
		}
		open = append(open, e)
	}
	return open
}

func leave(entries []*engine.Entry, now int64) {
	for _, e := range entries {
		e.Finish(now, false)
	}
}

func TestIsolationIsOneCountForAllWorkersAndFilters(t *testing.T) {
	w := newProcess(3, isolate(atMost("i", 10)))
	var open []*engine.Entry
	for range 4 { // before the first tick, too
		for _, wk := range w.workers {
			for _, f := range []*engine.Filter{wk.http, wk.tcp} {
				e := &engine.Entry{}
				if f.Enter("r", w.Now(), e) == nil {
					open = append(open, e)
				}
			}
		}
		w.run(5 * tick)
	}
	if len(open) != 10 {
		t.Errorf("%d in flight, want 10", len(open))
	}
	w.run(10 * second) // long-lived
	if got := crowdIn(w.workers[0].http, w.Now()); len(got) != 0 {
		t.Errorf("after 10 s another %d entered", len(got))
	}
	leave(open[:4], w.Now())
	w.run(tick)
	if got := crowdIn(w.workers[1].tcp, w.Now()); len(got) != 4 {
		t.Errorf("%d of 4 places were taken again", len(got))
	}
}

func TestIsolationDeadWorkersShareIsBack(t *testing.T) {
	w := newProcess(2, isolate(atMost("i", 7)))
	w.run(tick)
	if got := crowdIn(w.workers[0].http, w.Now()); len(got) != 7 {
		t.Fatalf("%d of 7 entered", len(got))
	}
	w.workers[0].gone = true
	died, back := w.Now(), int64(-1)
	for w.Now() < died+3*second && back < 0 {
		if got := crowdIn(w.workers[1].http, w.Now()); len(got) == 7 {
			back = w.Now() - died
		} else {
			leave(got, w.Now())
		}
		w.run(tick)
	}
	if back < 0 || back > 2*second+tick {
		t.Errorf("all 7 were back %d ms after the death", back/millisecond)
	}
}

// A process that was stopped keeps the bound, whether a request, a tick or a new VM comes first.
func TestIsolationOfAProcessThatWasStopped(t *testing.T) {
	for _, first := range []string{"request", "tick", "new VM"} {
		w := newProcess(3, isolate(atMost("i", 40)))
		w.run(5 * second)
		var open []*engine.Entry
		for i, wk := range w.workers {
			for range 13 + i/2 { // 13 + 13 + 14
				e := &engine.Entry{}
				if wk.http.Enter("r", w.Now(), e) != nil {
					t.Fatal("refused")
				}
				open = append(open, e)
			}
		}
		w.run(second)
		w.Advance(2500 * millisecond)
		asks := w.workers[1]
		switch first {
		case "tick":
			asks.Tick(w.Now())
		case "new VM":
			asks = w.join(isolate(atMost("i", 40)))
		}
		for range 200 { // in which only one worker runs
			if got := len(crowdIn(asks.http, w.Now())); got > 0 {
				t.Fatalf("%s first: after the stop another %d entered", first, got)
			}
			w.Advance(millisecond)
			if w.Now()%tick == 0 {
				asks.Tick(w.Now())
			}
		}
		w.run(5 * second)
		leave(open, w.Now())
		if got := len(crowdIn(asks.http, w.Now())); got != 40 {
			t.Errorf("%s first: %d of 40 entered in the end", first, got)
		}
	}
}

func TestIsolationRefusalGivesBackAndSaysWhy(t *testing.T) {
	w := newProcess(1, isolate(atMost("wide", 10), atMost("narrow", 2)))
	a := w.workers[0]
	open := crowdIn(a.http, w.Now())
	var e engine.Entry
	block := a.http.Enter("r", w.Now(), &e)
	if len(open) != 2 || block == nil || block.Reason != rule.IsolationFamily.Name || block.Rule != "narrow" || block.Seen != 2 ||
		block.Threshold != 2 || block.RetryAfterMs != -1 {
		t.Fatalf("%d entered, then %+v", len(open), block)
	}
	for range 20 {
		a.http.Enter("r", w.Now(), &e) // each takes from "wide" first
	}
	a.update(isolate(atMost("wide", 10)))
	if got := crowdIn(a.http, w.Now()); len(got) != 8 {
		t.Errorf("with 2 of 10 in flight %d entered", len(got))
	}
}

func TestIsolationShadowHasItsOwnCount(t *testing.T) {
	shadow := isolate(atMost("i", 2))
	shadow.Mode = config.Shadow
	w := newProcess(1, isolate(atMost("i", 2)))
	b := w.join(shadow)
	for range 5 {
		var e engine.Entry
		if b.http.Enter("r", w.Now(), &e) != nil {
			t.Error("shadow refused")
		}
	}
	if got := crowdIn(w.workers[0].http, w.Now()); len(got) != 2 {
		t.Errorf("after shadow decisions %d of 2 entered", len(got))
	}
	w.run(second)
	if got, _ := w.Metric("sentinel_shadow_blocked;resource=r;rule=i;kind=isolation"); got != 3 {
		t.Errorf("shadow would have refused %d, want 3", got)
	}
}

// Streams of a filter that drains are counted as long as they live, and nothing is kept after them.
func TestIsolationCountsDrainingStreams(t *testing.T) {
	w := newProcess(2, isolate(atMost("i", 3)))
	a := w.workers[0]
	open := crowdIn(a.http, w.Now())
	a.update(isolate(atMost("i", 3)))
	w.run(5 * second)
	if got := crowdIn(a.http, w.Now()); len(open) != 3 || len(got) != 0 {
		t.Errorf("%d, and after an update %d more", len(open), len(got))
	}
	leave(open, w.Now())
	a.update(&config.Config{})
	w.run(second)
	if got := crowdIn(w.workers[1].http, w.Now()); len(got) != 3 {
		t.Errorf("%d of 3 entered once the streams were gone", len(got))
	}
	if n := a.Records(); n != 0 {
		t.Errorf("%d records are left over", n)
	}
}

func TestIsolationByRegexCountsEachResource(t *testing.T) {
	c := isolate(rule.Isolation{Target: matching("i", "r|s.*"), Threshold: 3})
	c.Resources = []config.Resource{{Name: "r"}, {Name: "st"}, {Name: "tr"}}
	w := newProcess(1, c)
	f := w.workers[0].http
	var a, b, other engine.Entry
	if f.Enter("r", w.Now(), &a) != nil || f.Enter("st", w.Now(), &b) != nil || f.Enter("tr", w.Now(), &other) != nil {
		t.Fatal("refused")
	}
	if got := crowdIn(f, w.Now()); len(got) != 2 {
		t.Errorf("%d of 2 entered", len(got))
	}
	for i := range 3 {
		var e engine.Entry
		if ok := f.Enter("st", w.Now(), &e) == nil; ok != (i < 2) {
			t.Errorf("entry %d of another resource: %t", i+1, ok)
		}
	}
}

// Whole VMs, which claim their identities as they come and die, never have more in flight than the threshold.
func TestIsolationNeverAboveWithWholeVMs(t *testing.T) {
	seeds.Try(t, 15, func(t *testing.T, seed uint64) {
		sim := memhost.NewSim(seed, start)
		defer sim.Close()
		rng := sim.Rand
		threshold := 1 + rng.IntN(40)
		c := isolate(atMost("i", uint32(threshold)))
		inFlight := map[*memhost.Task]int{}
		entered, refused := 0, 0
		live := func(task *memhost.Task) {
			own := rand.New(rand.NewPCG(seed, uint64(len(inFlight))))
			inFlight[task] = 0
			vm := engine.New(task, "test")
			f := vm.NewFilter("sentinel_http", c, nil)
			var open []*engine.Entry
			for now := start; now < start+3*second; now = task.Now() {
				vm.Tick(now)
				for range 3 {
					e := &engine.Entry{}
					if f.Enter("r", now, e) != nil {
						refused++
						continue
					}
					open = append(open, e)
					entered++
					inFlight[task]++
					sum := 0
					for _, n := range inFlight {
						sum += n
					}
					if sum > threshold {
						t.Errorf("%d of %d in flight", sum, threshold)
					}
				}
				for len(open) > 0 && own.IntN(2) == 0 {
					inFlight[task]--
					open[0].Finish(now, false)
					open = open[1:]
				}
				task.Sleep(now + own.Int64N(2*tick))
			}
		}
		for range 1 + rng.IntN(12) {
			sim.Go(live)
		}
		for sim.Step() && !t.Failed() {
			if rng.IntN(100) == 0 {
				sim.Advance(rng.Int64N(millisecond / 4))
			}
			if all := sim.Live(); len(all) > 1 && rng.IntN(3000) == 0 {
				dead := all[rng.IntN(len(all))]
				sim.Kill(dead)
				inFlight[dead] = 0
			}
		}
		if entered < threshold || refused == 0 {
			t.Errorf("%d entered, %d were refused, threshold %d", entered, refused, threshold)
		}
	})
}
