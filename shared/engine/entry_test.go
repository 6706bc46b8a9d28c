package engine_test

import (
	"fmt"
	"testing"

	"sentinel-envoy/shared/config"
	"sentinel-envoy/shared/engine"
	"sentinel-envoy/shared/outcome"
	"sentinel-envoy/shared/rule"
)

// TestFailureCounts: whether an entry failed is asked for only where somebody looks at it.
func TestFailureCounts(t *testing.T) {
	slow := errorRatio
	slow.Strategy, slow.MaxAllowedRtMs = rule.SlowRequestRatio, 100
	for _, c := range []struct {
		name string
		cfg  config.Config
		want bool
	}{
		{"flow rule", config.Config{Rules: list([]rule.Flow{limit("f", 10, 1000)})}, false},
		{"breaker of failures", config.Config{Rules: list([]rule.CircuitBreaker{errorRatio})}, true},
		{"breaker of slow entries", config.Config{Rules: list([]rule.CircuitBreaker{slow})}, false},
		{"failures are configured", config.Config{
			Rules: list([]rule.Flow{limit("f", 10, 1000)}), Failures: outcome.Failures{Configured: true},
		}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newProcess(1, &c.cfg).workers[0].http
			var e engine.Entry
			if e.FailureCounts() {
				t.Error("counts before anything was entered")
			}
			if b := f.Enter("r", start, &e); b != nil {
				t.Fatal("refused")
			}
			if got := e.FailureCounts(); got != c.want {
				t.Errorf("FailureCounts() = %v, want %v", got, c.want)
			}
			e.Finish(start, false)
			if e.FailureCounts() {
				t.Error("counts after the end")
			}
		})
	}
}

// TestNewNamesAreSpreadOverTicks: a client that finds a thousand resources in one tick does not make the worker define all
// their metrics in the next, and none is forgotten.
func TestNewNamesAreSpreadOverTicks(t *testing.T) {
	const resources, perTick = 1000, 64
	c := &config.Config{}
	for i := range resources {
		r := limit(fmt.Sprint("f", i), 100, 1000)
		r.Resource = fmt.Sprint("/r/", i)
		c.Rules = append(c.Rules, &r)
	}
	w := newProcess(1, c)
	w.run(tick)
	known := w.MetricNames()
	var e engine.Entry
	for i := range resources {
		if b := w.workers[0].http.Enter(fmt.Sprint("/r/", i), w.Now(), &e); b != nil {
			t.Fatal("refused")
		}
		e.Finish(w.Now(), false)
	}
	for ticks := 0; ; ticks++ {
		w.run(tick)
		defined := w.MetricNames() - known
		if known += defined; defined > perTick+20 { // a few have no resource
			t.Fatalf("%d metrics were defined in one tick", defined)
		}
		if v, there := w.Metric(fmt.Sprint("sentinel_passed;resource=/r/", resources-1)); there && v != 1 {
			t.Fatalf("sentinel_passed is %d", v)
		}
		if defined == 0 && ticks > 100 {
			break
		}
		if ticks > 1000 {
			t.Fatal("there is no end of new metrics")
		}
	}
	for i := range resources {
		for _, name := range []string{"sentinel_passed", "sentinel_completed"} {
			if v, _ := w.Metric(fmt.Sprint(name, ";resource=/r/", i)); v != 1 {
				t.Errorf("%s of /r/%d is %d, want 1", name, i, v)
			}
		}
	}
}
