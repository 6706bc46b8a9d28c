package engine_test

import (
	"testing"

	"sentinel-envoy/shared/config"
	"sentinel-envoy/shared/engine"
	"sentinel-envoy/shared/outcome"
	"sentinel-envoy/shared/rule"
)

// see compares metrics, by their names.
func see(t *testing.T, w *process, when string, want map[string]uint64) {
	t.Helper()
	for name, value := range want {
		if got, there := w.Metric(name); got != value || !there {
			t.Errorf("%s: %s is %d (there: %t), want %d", when, name, got, there, value)
		}
	}
}

const ofFlow = ";resource=r;rule=q;kind=flow"

// Three workers spend one budget of 100: what is left, and how many entries came near the limit, is of all of them. A window
// of an hour does not slide away meanwhile.
func TestFiguresOfABudgetAreTheProcesses(t *testing.T) {
	w := newProcess(3, cfg(limit("q", 100, 3_600_000)))
	w.run(second)
	admitted := uint64(0)
	for i := range 88 {
		admitted += uint64(admit(w.workers[i%3].http, 1, w.Now()))
	}
	if admitted != 88 {
		t.Fatalf("%d were admitted", admitted)
	}
	w.run(2 * second)
	see(t, w, "after 88 of 100", map[string]uint64{"sentinel_threshold" + ofFlow: 100, "sentinel_remaining" + ofFlow: 12,
		"sentinel_near_limit" + ofFlow: 8})
	for i := range 30 {
		admit(w.workers[i%3].tcp, 1, w.Now())
	}
	w.run(2 * second)
	see(t, w, "after all", map[string]uint64{"sentinel_remaining" + ofFlow: 0, "sentinel_near_limit" + ofFlow: 20,
		"sentinel_blocked" + ofFlow: 18})
}

// While requests pour in, near the limit is every fifth of those that are admitted; when they stop, the window empties.
func TestFiguresFollowTheWindow(t *testing.T) {
	w := newProcess(2, cfg(limit("q", 50, 500)))
	w.run(second)
	admitted := 0
	for range 10 {
		for range 25 {
			for _, wk := range w.workers {
				admitted += admit(wk.http, 5, w.Now())
			}
			w.run(tick)
		}
	}
	w.run(2 * second)
	see(t, w, "after the flood", map[string]uint64{"sentinel_threshold" + ofFlow: 50, "sentinel_remaining" + ofFlow: 50,
		"sentinel_near_limit" + ofFlow: uint64(admitted) / 5})
	if admitted < 500 {
		t.Errorf("only %d were admitted", admitted)
	}
	for _, wk := range w.workers {
		wk.update(cfg(rule.Flow{Target: rule.Target{ID: "other", Resource: "other"}, Threshold: 1, StatIntervalInMs: 1000}))
	}
	w.run(2 * second)
	see(t, w, "without the rule", map[string]uint64{"sentinel_threshold" + ofFlow: 0, "sentinel_remaining" + ofFlow: 0})
}

// A cold rule's threshold is a third of what it says, and rises while it is in use.
func TestThresholdIsTheOneInForce(t *testing.T) {
	warm := limit("q", 300, 1000)
	warm.TokenCalculateStrategy, warm.WarmUpPeriodSec, warm.WarmUpColdFactor = rule.WarmUp, 10, 3
	w := newProcess(2, cfg(warm))
	flood := func(seconds int64) uint64 {
		for range seconds * 50 {
			for _, wk := range w.workers {
				admit(wk.http, 10, w.Now())
			}
			w.run(tick)
		}
		got, _ := w.Metric("sentinel_threshold" + ofFlow)
		return got
	}
	if cold := flood(2); cold < 95 || cold > 115 {
		t.Errorf("the threshold of a cold rule is %d", cold)
	}
	if got := flood(20); got != 300 {
		t.Errorf("the threshold of a warm rule is %d", got)
	}
}

// What shadow decisions spend is told by itself.
func TestFiguresOfShadow(t *testing.T) {
	c := cfg(limit("q", 10, 3_600_000))
	c.Mode = config.Shadow
	w := newProcess(1, c)
	admit(w.workers[0].http, 15, w.Now())
	w.run(second)
	see(t, w, "in shadow", map[string]uint64{"sentinel_shadow_threshold" + ofFlow: 10, "sentinel_shadow_remaining" + ofFlow: 0,
		"sentinel_shadow_near_limit" + ofFlow: 2})
	if _, there := w.Metric("sentinel_remaining" + ofFlow); there {
		t.Error("there is a figure of a rule that is not enforced")
	}
}

// What may be in flight is told as what is left of a window is: of all workers, until all have left and the rule is gone.
func TestFiguresOfWhatIsInFlight(t *testing.T) {
	w := newProcess(3, placesFor("q", "r"))
	const labels = ";resource=r;rule=q;kind=isolation"
	var entries []*engine.Entry
	for i := range 12 {
		if e, _, refused := enter(t, w.workers[i%3].http, "r", w.Now()); refused == nil {
			entries = append(entries, e)
		}
	}
	if len(entries) != 10 {
		t.Fatalf("%d were let in", len(entries))
	}
	w.run(2 * second)
	see(t, w, "ten of ten", map[string]uint64{"sentinel_threshold" + labels: 10, "sentinel_remaining" + labels: 0})
	for _, e := range entries[:6] {
		e.Exit(w.Now(), outcome.End{Outcome: outcome.Well})
	}
	w.run(2 * second)
	see(t, w, "after six have left", map[string]uint64{"sentinel_threshold" + labels: 10, "sentinel_remaining" + labels: 6})
	for _, e := range entries[6:] {
		e.Exit(w.Now(), outcome.End{Outcome: outcome.Well})
	}
	w.run(2 * second)
	see(t, w, "after all have left", map[string]uint64{"sentinel_threshold" + labels: 10, "sentinel_remaining" + labels: 10})
	for _, wk := range w.workers {
		wk.update(placesFor("other", "other"))
	}
	w.run(2 * second)
	see(t, w, "without the rule", map[string]uint64{"sentinel_threshold" + labels: 0, "sentinel_remaining" + labels: 0})
}

// One entry after the other waits 100 ms more: 0, 100, … 900.
func TestTimeOfWaiting(t *testing.T) {
	w := newProcess(1, cfg(throttled("q", 10, 5000)))
	for range 10 {
		_, until, blocked := enter(t, w.workers[0].http, "r", w.Now())
		if blocked != nil {
			t.Fatalf("refused: %v, to wait until %d", blocked, until)
		}
	}
	w.run(second)
	see(t, w, "after ten", map[string]uint64{"sentinel_waited" + ofFlow: 9, "sentinel_wait_ms_sum" + ofFlow: 4500})
}

// A breaker goes round twice. Each change counts once, whichever worker makes it.
func TestChangesOfABreaker(t *testing.T) {
	breaker := rule.CircuitBreaker{Target: rule.Target{ID: "b", Resource: "r"}, Strategy: rule.ErrorCount, Threshold: 1,
		StatIntervalMs: 1000, StatSlidingWindowBucketCount: 1, RetryTimeoutMs: 500, MinRequestAmount: 1}
	w := newProcess(3, &config.Config{Rules: list([]rule.CircuitBreaker{breaker})})
	end := func(failed bool) {
		for _, wk := range w.workers {
			var e engine.Entry
			if wk.http.Enter("r", w.Now(), &e) == nil {
				e.Finish(w.Now(), failed)
			}
		}
		w.run(2 * tick)
	}
	const of = "sentinel_breaker_changes;resource=r;rule=b"
	for range 2 {
		end(true) // opens
		w.run(second)
		end(true) // the probe fails
		w.run(second)
		end(false) // the probe is well
		end(false)
		w.run(2 * second)
	}
	see(t, w, "after two rounds", map[string]uint64{
		of + ";from=closed;to=open": 2, of + ";from=open;to=half-open": 4, of + ";from=half-open;to=open": 2,
		of + ";from=half-open;to=closed": 2,
	})
}

// placesFor is a configuration with an isolation rule of ten.
func placesFor(id, resource string) *config.Config {
	return &config.Config{Rules: []rule.Rule{&rule.Isolation{Target: rule.Target{ID: id, Resource: resource}, Threshold: 10}}}
}
