package quota_test

import (
	"testing"

	ratelimit "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"

	"sentinel-envoy/internal/seeds"
	"sentinel-envoy/shared/rls/rlstest"
)

// One call serves many requests, the more the higher the limit, and what has been found out about the load lasts.
func TestFewCalls(t *testing.T) {
	for _, c := range []struct {
		limit     uint32
		demand    float64 // as a multiple of the limit
		processes int
		spread    int
		most      float64 // calls for 1000 requests
	}{
		{300, 2, 1, evenly, 15}, {300, 2, 2, evenly, 35}, {300, 2, 2, onOne, 15}, {300, 0.5, 2, evenly, 75},
		{1000, 2, 3, evenly, 15}, {1000, 2, 8, evenly, 30}, {10_000, 2, 2, evenly, 1.5}, {10_000, 0.3, 2, evenly, 4},
	} {
		s := scenario{
			processes: c.processes, workers: 4, spread: c.spread, demand: c.demand * float64(c.limit), flight: 2 * millisecond,
			limit: rlstest.Limit{Hits: c.limit, Unit: ratelimit.RateLimitResponse_RateLimit_SECOND},
		}
		t.Run(s.String(), func(t *testing.T) {
			seeds.Sample(t, 2, func(t *testing.T, seed uint64) {
				const duration = 15 // seconds
				w := simulate(t, seed, s, duration*second)
				w.check(t)
				calls := float64(w.settled) / (s.demand * (duration - 5)) * 1000
				if t.Logf("%.1f calls for 1000 requests", calls); calls > c.most {
					t.Errorf("more than %.1f", c.most)
				}
			})
		})
	}
}
