package soak

import (
	"errors"
	"strconv"
	"testing"
	"time"

	"sentinel-envoy/internal/envoytest"
	"sentinel-envoy/internal/load"
	"sentinel-envoy/internal/plugintest"
)

const (
	restartThreshold = 200
	// overlap is how long the old process lives beside the new one.
	overlap = 8 * time.Second
)

// TestHotRestart lets one Envoy take over from another while clients go on sending. Two processes have two tables, and so
// two budgets: each alone is exact, and this measures by how much they are over together. That is once where Envoy
// lets clients keep their old connections for long, and once where it closes them after their next answer.
func TestHotRestart(t *testing.T) {
	t.Run("gradual", func(t *testing.T) {
		most, above := restart(t, "--drain-time-s", "3600")
		if most <= restartThreshold {
			t.Errorf("both together admitted %d at most in %d windows: they have not overlapped", most, above)
		}
	})
	t.Run("immediate", func(t *testing.T) {
		// What the clients' last requests on old connections take, and what the first ones on new ones add.
		const brief = 6
		if _, above := restart(t, "--drain-time-s", "1", "--drain-strategy", "immediate"); above > brief {
			t.Errorf("%d windows admitted more than one process would, want at most %d", above, brief)
		}
	})
}

// restart runs one Envoy and then another that takes over. It gives the most that both admitted in a window, and how many
// windows were above the threshold.
func restart(t *testing.T, drain ...string) (most, above int) {
	t.Helper()
	web := envoytest.StartHTTPService(t)
	config := func(port int, takesOver *envoytest.Process) envoytest.Config {
		return envoytest.Config{
			Concurrency: workers, LogLevel: "warning", Components: map[string]string{"wasm": "debug"}, Dir: t.TempDir(),
			HotRestart: true, TakesOver: takesOver,
			Args: append(drain, "--parent-shutdown-time-s", strconv.Itoa(int(overlap.Seconds()))),
			Listeners: []envoytest.Listener{envoytest.HTTP{Port: port, Upstream: web.Addr(), Wasm: []envoytest.Wasm{{
				File: plugintest.File(t, release), RootID: "sentinel_http",
				Config: filterConfig("web", plugintest.PerSecond("web-qps", "web", restartThreshold)),
			}}}},
		}
	}
	old := launch(t, config(0, nil))
	port := envoytest.PortOf(t, old.Addr("http"))
	before := newAudit(t, &envoytest.Envoy{Process: old})
	offered := load.Options{QPS: 3 * restartThreshold, Connections: 100}
	clients := []*plugintest.Offered{loadFully(t, old.Addr("http"), offered)}
	limits := func(a *audit, what string) {
		t.Helper()
		windows := a.refills(t, "web-qps")
		envoytest.Eventually(t, soon, what, func() bool { return a.refills(t, "web-qps") > windows+3 })
	}
	limits(before, "the old process limits")

	e := envoytest.Start(t, config(port, old))
	after := newAudit(t, e)
	clients = append(clients, loadFully(t, e.Addr("http"), offered))
	select {
	case <-old.Ended():
	case <-time.After(overlap + soon):
		t.Fatalf("the old process has not ended %v after the new one began", overlap+soon)
	}
	limits(after, "the new process limits alone")
	var passed, failed uint64
	for _, c := range clients {
		sum := c.Stop(t)
		passed, failed = passed+sum.Passed, failed+sum.Failed
	}

	before.read(t)
	after.read(t)
	first, second := before.all("web-qps", restartThreshold), after.all("web-qps", restartThreshold)
	first.exact(t, "the old process", 5)
	second.exact(t, "the new process", 5)
	both := together(before, after, "web-qps").all("web-qps", restartThreshold)
	if both.most > 2*restartThreshold {
		t.Errorf("both together admitted %d in a window, more than twice %d", both.most, restartThreshold)
	}
	waitDead(t, e, 0, workers+1)
	report(t, "old process %v; new process %v; both at most %.2f × the threshold, %d windows above it; %d passed, %.0f by the "+
		"new process's counter, which takes the old one's over; %d failed as the old process ended", first, second,
		float64(both.most)/restartThreshold, both.over, passed, e.Sum("sentinel_passed"), failed)
	return both.most, both.over
}

// launch runs an Envoy that may end by itself before the test does.
func launch(t *testing.T, cfg envoytest.Config) *envoytest.Process {
	t.Helper()
	p, err := envoytest.Launch(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		var ended *envoytest.ExitError
		if err := p.Stop(); err != nil && !errors.As(err, &ended) {
			t.Error(err)
		}
	})
	return p
}

// together is what two processes of one machine decided: they have one monotonic clock.
func together(a, b *audit, rule string) *audit {
	sum := map[int64]decided{}
	for _, one := range []*audit{a, b} {
		for bucket, d := range one.rules[rule] {
			sum[bucket] = decided{sum[bucket].admitted + d.admitted, sum[bucket].refused + d.refused}
		}
	}
	return &audit{rules: map[string]map[int64]decided{rule: sum}}
}
