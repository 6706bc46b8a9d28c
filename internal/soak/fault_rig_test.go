package soak

import (
	"fmt"
	"strings"
	"testing"

	"sentinel-envoy/internal/envoytest"
	"sentinel-envoy/internal/load"
	"sentinel-envoy/internal/plugintest"
)

// filterConfig is a configuration with flow rules.
func filterConfig(resource string, rules ...string) string {
	return fmt.Sprintf(`{"resource_name": %q, "flowRules": [%s]}`, resource, strings.Join(rules, ", "))
}

// busy connections keep the machine busy, each with its next request as soon as it has an answer.
const busy = 24

// loadFully offers as much as the machine can, where the options do not say less.
func loadFully(t testing.TB, addr string, o load.Options) *plugintest.Offered {
	t.Helper()
	if o.Connections == 0 {
		o.Connections = busy
	}
	return plugintest.Offer(t, addr, o)
}

// interrupted is how many requests the end of a load cut off: they may or may not have been decided.
func interrupted(sum load.Summary) uint64 { return sum.Errors["interrupted"] }

// seeNoneFailed fails the test where a request failed, other than by the end of the load.
func seeNoneFailed(t testing.TB, what string, sum load.Summary) {
	t.Helper()
	if sum.Failed > interrupted(sum) {
		t.Errorf("%s: %d of %d requests failed: %v %v, the last: %s", what, sum.Failed, sum.Sent, sum.Status, sum.Errors, sum.LastError)
	}
}

// seeSums waits until the counters of a resource, or of all, are what its clients saw.
func seeSums(t testing.TB, e *envoytest.Envoy, resource string, sums ...load.Summary) {
	t.Helper()
	var labels []string
	if resource != "" {
		labels = []string{"resource", resource}
	}
	var passed, blocked, unknown float64
	for _, sum := range sums {
		passed, blocked, unknown = passed+float64(sum.Passed), blocked+float64(sum.Blocked), unknown+float64(interrupted(sum))
	}
	waitMetric(t, e, 0, "sentinel_in_flight", labels...)
	var p, b, c float64
	envoytest.Eventually(t, soon, fmt.Sprintf("%q: %v passed and %v blocked, %v of them unknown", resource, passed, blocked, unknown),
		func() bool {
			p, b, c = e.Sum("sentinel_passed", labels...), e.Sum("sentinel_blocked", labels...), e.Sum("sentinel_completed", labels...)
			return p >= passed && b >= blocked && p+b <= passed+blocked+unknown && c == p
		})
}

// residentMB is Envoy's resident memory.
func residentMB(t testing.TB, e *envoytest.Envoy) int64 {
	t.Helper()
	rss, err := e.RSS()
	if err != nil {
		t.Fatal(err)
	}
	return rss >> 20
}

// dead is how many VMs have died. One that a busy machine holds up for two seconds, as making a VM anew does the main
// thread, is lost too, but returns.
func dead(e *envoytest.Envoy) float64 {
	return e.Sum("sentinel_workers_lost") - e.Sum("sentinel_workers_returned")
}

// waitDead waits until so many VMs have died, and so many live.
func waitDead(t testing.TB, e *envoytest.Envoy, died, live float64) {
	t.Helper()
	envoytest.Eventually(t, soon, fmt.Sprintf("the metrics tell that %v VMs have died and %v live", died, live), func() bool {
		return dead(e) == died && e.Sum("sentinel_workers") == live
	})
}

// waitRefusals waits until a rule refuses.
func waitRefusals(t testing.TB, e *envoytest.Envoy, rule string) {
	t.Helper()
	envoytest.Eventually(t, soon, rule+" refuses", func() bool { return e.Sum("sentinel_blocked", "rule", rule) > 0 })
}

// all judges all windows of a rule.
func (a *audit) all(rule string, threshold int) verdict {
	first, last := a.span(rule)
	return a.judge(rule, threshold, first, last+1)
}

// never fails the test where a window was over the threshold.
func (v verdict) never(t testing.TB, what string) {
	t.Helper()
	if v.over > 0 {
		t.Errorf("%s: %d of %d windows are over, the worst admitted %d", what, v.over, v.windows, v.most)
	}
}
