package flow_test

import (
	"math/rand/v2"
	"testing"

	sentinelflow "github.com/alibaba/sentinel-golang/core/flow"
	"github.com/alibaba/sentinel-golang/core/system_metric"

	"sentinel-envoy/internal/seeds"
	"sentinel-envoy/shared/family/flow"
)

func TestMemoryIsSentinels(t *testing.T) {
	t.Cleanup(func() { system_metric.SetSystemMemoryUsage(system_metric.NotRetrievedMemoryValue) })
	seeds.Try(t, 1, func(t *testing.T, seed uint64) {
		rng := rand.New(rand.NewPCG(seed, 0))
		between := 0
		for range 100_000 {
			scale := int64(1) << (1 + rng.IntN(50))
			m := flow.Memory{High: 1 + rng.Int64N(1000), LowMark: 1 + rng.Int64N(scale)}
			m.Low, m.HighMark = m.High+1+rng.Int64N(10_000), m.LowMark+1+rng.Int64N(scale)
			used := []int64{0, m.LowMark, m.LowMark + 1, m.HighMark - 1, m.HighMark, rng.Int64N(2 * scale),
				m.LowMark + rng.Int64N(m.HighMark-m.LowMark)}[rng.IntN(7)]
			system_metric.SetSystemMemoryUsage(used)
			theirs := sentinelflow.NewMemoryAdaptiveTrafficShapingCalculator(nil, &sentinelflow.Rule{
				LowMemUsageThreshold: m.Low, HighMemUsageThreshold: m.High,
				MemLowWaterMarkBytes: m.LowMark, MemHighWaterMarkBytes: m.HighMark,
			}).CalculateAllowedTokens(1, 0)
			ours := m.Threshold(float64(used))
			if ours != theirs {
				t.Fatalf("seed %d: %+v with %d in use: %v, sentinel-golang has %v", seed, m, used, ours, theirs)
			}
			if ours > float64(m.High) && ours < float64(m.Low) {
				between++
			}
		}
		if between < 10_000 {
			t.Errorf("only %d thresholds between the two", between)
		}
	})
}

func TestMemoryUnknownIsTheSmallerThreshold(t *testing.T) {
	m := flow.Memory{Low: 20, High: 5, LowMark: 100, HighMark: 200}
	if got := m.Threshold(-1); got != 5 {
		t.Errorf("%v, want 5", got)
	}
}
