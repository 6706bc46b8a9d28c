package e2e

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"sentinel-envoy/internal/envoytest"
	"sentinel-envoy/internal/load"
	"sentinel-envoy/internal/ratelimit"
)

// clusterFor is 0 in make test: these tests need Redis and a minute of two cores for themselves.
var clusterFor = flag.Duration("cluster", 0, "how long the tests of several Envoys put load on them; from 10 s on they also ask that "+
	"hardly anything is left; 0 skips them")

// startRateLimit runs envoyproxy/ratelimit with a Redis until the test's end. Where there is no Redis the test is skipped.
func startRateLimit(t *testing.T, rules string) *ratelimit.Service {
	t.Helper()
	if *clusterFor == 0 {
		t.Skip("make cluster runs it")
	}
	s, err := ratelimit.Start(t.Context(), t.TempDir(), rules)
	if errors.Is(err, ratelimit.ErrNoRedis) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

// clusterRules are the service's configuration for tests.
const clusterRules = `domain: sentinel
descriptors:
- {key: rule, value: orders, rate_limit: {unit: second, requests_per_unit: 300}}
- {key: rule, value: db, rate_limit: {unit: second, requests_per_unit: 60}}
- {key: rule, value: hourly, rate_limit: {unit: hour, requests_per_unit: 50}}
- {key: rule, value: free, rate_limit: {unlimited: true}}
- {key: rule, value: watched, shadow_mode: true, rate_limit: {unit: hour, requests_per_unit: 5}}
`

// clusterRule is a configuration with one rule in cluster mode. It waits longer for an answer than a busy machine makes it late.
func clusterRule(id string, threshold, intervalMs, size int, more string) string {
	return fmt.Sprintf(`{"resource_name": "r", "rate_limit_service": {"cluster": "rls", "timeout_ms": 2000},
		"flowRules": [{"id": %q, "resource": "r", "threshold": %d, "statIntervalInMs": %d, "clusterMode": true,
		"clusterConfig": {"thresholdType": 1, "clusterSize": %d}}]%s}`, id, threshold, intervalMs, size, more)
}

// admittedLine is what access logs of these tests say of a request or connection: when it came, how long it took, its status,
// and the bytes that the client got.
const admittedLine = "%START_TIME(%s.%6f)% %DURATION% %RESPONSE_CODE% %BYTES_SENT%"

// clusterEnvoy is an Envoy with one listener that is limited by the service.
func clusterEnvoy(t *testing.T, service *ratelimit.Service, l envoytest.Listener) *envoytest.Envoy {
	t.Helper()
	return start(t, envoytest.Config{Listeners: []envoytest.Listener{l}, Clusters: []map[string]any{service.Cluster("rls")}})
}

// TestClusterNeverOver puts twice the limit on two Envoys of 4 workers, most of it on one: together they admit the limit in each
// of the service's windows, and no more.
func TestClusterNeverOver(t *testing.T) {
	service := startRateLimit(t, clusterRules)
	tcp := envoytest.StartTCPService(t, "hello\n")
	for _, kind := range []struct {
		name   string
		limit  int
		load   load.Options
		listen func() envoytest.Listener
	}{
		{"HTTP", 300, load.Options{Connections: 16}, func() envoytest.Listener {
			return envoytest.HTTP{
				Routes: []envoytest.Route{{Prefix: "/", DirectStatus: 200}}, AccessLog: admittedLine, ExactBalance: true,
				Wasm: httpFilter(t, clusterRule("orders", 300, 1000, 2, "")),
			}
		}},
		{"TCP", 60, load.Options{Proto: load.TCP, Connections: 16}, func() envoytest.Listener {
			return envoytest.TCP{
				Upstream: tcp.Addr(), AccessLog: admittedLine, ExactBalance: true, Wasm: tcpFilter(t, clusterRule("db", 60, 1000, 2, "")),
			}
		}},
	} {
		t.Run(kind.name, func(t *testing.T) {
			name := strings.ToLower(kind.name)
			var envoys []*envoytest.Envoy
			for range 2 {
				envoys = append(envoys, clusterEnvoy(t, service, kind.listen()))
			}
			var wg sync.WaitGroup
			for i, e := range envoys {
				o := kind.load
				o.Port, o.Duration = envoytest.PortOf(t, e.Addr(name)), *clusterFor
				o.QPS = float64(kind.limit) * []float64{1.5, 0.5}[i]
				wg.Go(func() {
					if _, err := load.Run(t.Context(), o); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			checkWindows(t, envoys, name, kind.limit)
			for i, e := range envoys {
				t.Logf("Envoy %d: %v calls for %v requests", i+1, e.Sum("sentinel_cluster_calls"), e.Sum("sentinel_passed")+e.Sum("sentinel_blocked"))
				if state := e.Sum("sentinel_cluster_state"); state != 1 {
					t.Errorf("Envoy %d is in state %v", i+1, state)
				}
			}
		})
	}
}

// window is what was admitted in one second of the machine's clock, which is the service's. Of a request whose start and end lie in
// two seconds nobody can tell in which it was admitted.
type window struct{ sure, unsure int }

// checkWindows fails the test where all Envoys together have admitted more in a second than the limit or, in a long run, less than
// 98 % of it.
func checkWindows(t *testing.T, envoys []*envoytest.Envoy, listener string, limit int) {
	t.Helper()
	windows := map[int64]*window{}
	for _, e := range envoys {
		for _, m := range e.AccessLog(listener).All(`(?m)^(\S+) (\d+) (200|0) ([1-9]\d*|0)$`) {
			if m[3] == "0" && m[4] == "0" {
				continue // a connection that was closed
			}
			countWindow(t, windows, m[1], m[2])
		}
	}
	seconds := slices.Sorted(maps.Keys(windows))
	sum, most := 0, 0
	for _, s := range seconds {
		w := windows[s]
		t.Logf("second %d: %d admitted, and %d in it or the next; limit %d", s, w.sure, w.unsure, limit)
		if w.sure > limit {
			t.Errorf("admitted %d of %d in second %d", w.sure, limit, s)
		}
		sum, most = sum+w.sure+w.unsure, most+limit
	}
	if sum > most {
		t.Errorf("admitted %d of %d in %d seconds", sum, most, len(seconds))
	}
	least := 0.5
	if *clusterFor >= 10*time.Second {
		least = 0.98
	}
	middle := 0
	for _, s := range seconds[min(2, len(seconds)):max(len(seconds)-1, 0)] { // the first seconds are for the service's clock, and the last is no whole one
		middle += windows[s].sure + windows[s].unsure
	}
	if whole := max(len(seconds)-3, 0) * limit; float64(middle) < least*float64(whole) || whole == 0 {
		t.Errorf("admitted %d of %d in %d whole seconds", middle, whole, len(seconds)-3)
	}
}

func countWindow(t *testing.T, windows map[int64]*window, begin, took string) {
	t.Helper()
	at, err := strconv.ParseFloat(begin, 64)
	ms, err2 := strconv.ParseFloat(took, 64)
	if err = errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	s := int64(at)
	if windows[s] == nil {
		windows[s] = &window{}
	}
	if math.Floor(at+(ms+1)/1000) == math.Floor(at) {
		windows[s].sure++
	} else {
		windows[s].unsure++
	}
}

// statuses asks a listener n times and counts the answers.
func statuses(e *envoytest.Envoy, n int) map[int]int {
	got := map[int]int{}
	for range n {
		got[e.Get("http", "/").Status]++
	}
	return got
}

// httpLimited is a listener with a configuration.
func httpLimited(t *testing.T, config string) envoytest.HTTP {
	return envoytest.HTTP{Routes: []envoytest.Route{{Prefix: "/", DirectStatus: 200}}, Wasm: httpFilter(t, config)}
}

// TestClusterAsTheServiceSays: an hour is an hour, what is unlimited passes, and what is only watched too.
func TestClusterAsTheServiceSays(t *testing.T) {
	service := startRateLimit(t, clusterRules)
	for _, c := range []struct {
		rule string
		want map[int]int
	}{
		{"hourly", map[int]int{200: 50, 429: 30}},
		{"free", map[int]int{200: 80}},
		{"watched", map[int]int{200: 80}},
	} {
		t.Run(c.rule, func(t *testing.T) {
			e := clusterEnvoy(t, service, httpLimited(t, clusterRule(c.rule, 50, 3600_000, 1, "")))
			waitMetric(t, e, 1, "sentinel_cluster_state")
			got := statuses(e, 80)
			if !maps.Equal(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

// TestClusterFallsBack: whatever becomes of the service, within its time-out the rule's own part of the limit holds, exactly, and
// nobody waits for ever. Once the service is back so is the whole limit.
func TestClusterFallsBack(t *testing.T) {
	service := startRateLimit(t, clusterRules)
	config := clusterRule("hourly", 50, 3600_000, 5, "")
	for _, c := range []struct {
		name   string
		break_ func(t *testing.T)
		heal   func(t *testing.T) error
	}{
		{"server gone", func(*testing.T) { service.StopServer() }, func(t *testing.T) error { return service.Restart(t.Context()) }},
		{"server silent", func(t *testing.T) {
			if err := service.Pause(); err != nil {
				t.Fatal(err)
			}
		}, func(*testing.T) error { return service.Continue() }},
		{"Redis gone", func(*testing.T) { service.StopRedis() }, func(t *testing.T) error { return service.RestartRedis(t.Context()) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.break_(t)
			healed := false
			defer func() {
				if !healed {
					_ = c.heal(t)
				}
			}()
			e := clusterEnvoy(t, service, httpLimited(t, config))
			waitMetric(t, e, 2, "sentinel_cluster_state")
			if got, want := statuses(e, 30), map[int]int{200: 10, 429: 20}; !maps.Equal(got, want) {
				t.Errorf("got %v, want %v: threshold 50 for 5 Envoys", got, want)
			}
			calls := e.Sum("sentinel_cluster_calls")
			if err := c.heal(t); err != nil {
				t.Fatal(err)
			}
			healed = true
			waitMetric(t, e, 1, "sentinel_cluster_state")
			if got := statuses(e, 1); got[200] != 1 {
				t.Errorf("got %v once the service is back", got)
			}
			waitMetric(t, e, 2, "sentinel_cluster_changes")
			if n := len(e.Log.All(`rule hourly falls back`)); n != 1 {
				t.Errorf("%d messages", n)
			}
			t.Logf("%v calls while it failed", calls)
		})
	}
}

// TestClusterMissing: without the cluster, or with a service that says nonsense or knows no such rule, the failure mode decides where
// nothing is to fall back on.
func TestClusterMissing(t *testing.T) {
	e := start(t, envoytest.Config{Listeners: []envoytest.Listener{
		listening("local", httpLimited(t, clusterRule("a", 10, 3600_000, 2, ""))),
		listening("closed", httpLimited(t, passing(clusterRule("b", 10, 3600_000, 2, `, "failure_mode": "closed"`)))),
		listening("open", httpLimited(t, passing(clusterRule("c", 10, 3600_000, 2, "")))),
	}})
	for listener, want := range map[string]map[int]int{
		"local": {200: 5, 429: 15}, "closed": {503: 20}, "open": {200: 20},
	} {
		got := map[int]int{}
		for range 20 {
			got[e.Get(listener, "/").Status]++
		}
		if !maps.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", listener, got, want)
		}
	}
	waitMetric(t, e, 6, "sentinel_cluster_state")
}

func listening(name string, l envoytest.HTTP) envoytest.HTTP {
	l.Name = name
	return l
}

// passing lets the failure mode decide in a configuration of clusterRule's.
func passing(config string) string {
	return strings.Replace(config, `"thresholdType"`, `"fallbackToLocalWhenFail": false, "thresholdType"`, 1)
}
