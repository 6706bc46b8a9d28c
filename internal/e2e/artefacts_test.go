package e2e

import (
	"testing"
	"time"

	"sentinel-envoy/internal/envoytest"
	"sentinel-envoy/internal/plugintest"
)

// TestArtefactsShareRecords has the artefacts of Go and of TinyGo side by side under one vm_id, as they are while one replaces
// the other: whoever of them decides, by HTTP and by TCP, finds the counts of all.
func TestArtefactsShareRecords(t *testing.T) {
	if !plugintest.Tiny() {
		t.Skip("needs both artefacts: make testtiny")
	}
	const threshold = 40
	web, tcp := envoytest.StartHTTPService(t), envoytest.StartTCPService(t, "hello\n")
	config := `{"resource_name": "some-test", ` + flowRules(flowRule("qps", "some-test", threshold))
	configs := map[string]string{"tcp": config + "}", "http": config + `, ` +
		hotspotRules(valueRule("user", "/user", threshold, `"paramSource": "Header", "paramKey": "x-user"`)) + `,
		"isolationRules": [{"id": "at-once", "resource": "` + held + `", "threshold": 2}],
		"circuitBreakerRules": [{"id": "broken", "resource": "/status/500", "strategy": "ErrorCount", "threshold": 2,
			"minRequestAmount": 2, "retryTimeoutMs": 3600000, "statIntervalMs": 3600000}], "failures": {"status": ["5xx"]}}`}
	var listeners []envoytest.Listener
	for name, file := range map[string]string{"go": plugintest.File(t, releaseOfGo), "tiny": plugintest.File(t, release)} {
		filter := func(kind string) []envoytest.Wasm {
			return []envoytest.Wasm{{File: file, RootID: "sentinel_" + kind, Config: configs[kind]}}
		}
		listeners = append(listeners, envoytest.TCP{Name: name + "-tcp", Upstream: tcp.Addr(), Wasm: filter("tcp")},
			envoytest.HTTP{Name: name, Upstream: web.Addr(), Timeout: time.Hour, Wasm: filter("http")})
	}
	e := start(t, envoytest.Config{Listeners: listeners})
	envoytest.Eventually(t, soon, "there are VMs of both", func() bool {
		return len(samples(e, "sentinel_rules_hash")) == 2*(workers+1)
	})

	requests, users, connections := map[string]int{}, map[string]int{}, map[string]int{}
	for range threshold {
		for _, name := range []string{"go", "tiny"} {
			requests[name] += tries(t, e, name, 1, "/")
			users[name] += tries(t, e, name, 1, "/user", "x-user", "alice")
			connections[name] += greeted(e, name+"-tcp")
		}
	}
	for what, passed := range map[string]map[string]int{"user": users, "artefact": {
		"go": requests["go"] + connections["go"], "tiny": requests["tiny"] + connections["tiny"]}} {
		if passed["go"]+passed["tiny"] != threshold || passed["go"] == 0 || passed["tiny"] == 0 {
			t.Errorf("%v passed of one %s, want %d in all, by both", passed, what, threshold)
		}
	}
	waitMetric(t, e, threshold, "sentinel_passed", "resource", "some-test")

	hold(t, e, plugintest.NewLane(t, e, "go"), plugintest.NewLane(t, e, "tiny"))
	waitMetric(t, e, 2, "sentinel_in_flight", "resource", held)
	for _, name := range []string{"go", "tiny"} {
		if tries(t, e, name, 1, held) != 0 {
			t.Errorf("%s lets in a third at once", name)
		}
		if status := e.Get(name, "/status/500").Status; status != 500 {
			t.Errorf("%s: status %d, want 500", name, status)
		}
	}
	for _, name := range []string{"go", "tiny"} {
		envoytest.Eventually(t, soon, "the breaker is open", func() bool { return e.Get(name, "/status/500").Status == 429 })
	}
	waitMetric(t, e, 0, "sentinel_faults")
	plugintest.NoVMDied(t, e)
}

// greeted is 1 where the service greets a new connection to a listener, and 0 where the connection is closed.
func greeted(e *envoytest.Envoy, listener string) int {
	c := e.Dial(listener)
	defer c.Close()
	n, _ := c.Read(make([]byte, 1))
	return n
}
