package engine_test

import (
	"testing"

	"sentinel-envoy/shared/config"
	"sentinel-envoy/shared/engine"
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
		{"flow rule", config.Config{Flow: []rule.Flow{limit("f", 10, 1000)}}, false},
		{"breaker of failures", config.Config{CircuitBreaker: []rule.CircuitBreaker{errorRatio}}, true},
		{"breaker of slow entries", config.Config{CircuitBreaker: []rule.CircuitBreaker{slow}}, false},
		{"failures are configured", config.Config{
			Flow: []rule.Flow{limit("f", 10, 1000)}, Failures: config.Failures{Told: true},
		}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newWorld(1, &c.cfg).workers[0].http
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
			e.Exit(start, false)
			if e.FailureCounts() {
				t.Error("counts after the end")
			}
		})
	}
}
