package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"sentinel-envoy/internal/envoytest"
	"sentinel-envoy/internal/plugintest"
)

// waitParked waits until so many filters have been parked in all VMs together.
func waitParked(t *testing.T, e *envoytest.Envoy, n int) {
	t.Helper()
	envoytest.Eventually(t, soon, fmt.Sprintf("%d filters are parked", n), func() bool {
		return len(e.Log.All(`parked sentinel_http`)) >= n
	})
}

// TestSupersededFilterWakes has a client keep its connection to a filter that was replaced: Envoy's default is to keep that
// filter for ten minutes. It is parked meanwhile, and its next request finds the limit where it was. Then the first
// configuration comes back, for which Envoy starts no plugin: it takes the old ones.
func TestSupersededFilterWakes(t *testing.T) {
	const threshold = 10
	web := envoytest.StartHTTPService(t)
	listener := func(n int) envoytest.Listener {
		return envoytest.HTTP{Upstream: web.Addr(), Wasm: httpFilter(t, fmt.Sprintf(`{"resource_name": "web", "block": {"body": "%d"}, `,
			n)+flowRules(flowRule(fmt.Sprint("rule-", n), "web", threshold))+`}`)}
	}
	const vms = 2
	e := start(t, envoytest.Config{Dynamic: true, Concurrency: vms - 1, LogLevel: "warning", Listeners: []envoytest.Listener{listener(0)},
		Components: map[string]string{"wasm": "debug"}})
	var old [7]*plugintest.Lane // with a request each in every stage: Envoy 1.36 ends a connection of a listener that drains after one
	for n := range old {
		old[n] = plugintest.NewLane(t, e, "http")
	}
	get := func(l *plugintest.Lane, passes bool) {
		t.Helper()
		want := map[bool]int{true: 200, false: 429}[passes]
		if status := l.Get(t, "/"); status != want {
			t.Errorf("status %d, want %d", status, want)
		}
	}
	for _, l := range old {
		get(l, true)
	}
	e.Update(listener(1))
	waitParked(t, e, vms)
	for n := range threshold {
		get(plugintest.NewLane(t, e, "http"), n < threshold)
	}
	get(plugintest.NewLane(t, e, "http"), false)
	for n, l := range old {
		get(l, len(old)+n < threshold)
	}
	waitMetric(t, e, 2*threshold, "sentinel_passed", "resource", "web")
	waitMetric(t, e, 5, "sentinel_blocked", "resource", "web")

	waitParked(t, e, vms+1) // again
	e.Update(listener(0))
	get(plugintest.NewLane(t, e, "http"), false)
	get(old[0], false)
	waitMetric(t, e, 7, "sentinel_blocked", "resource", "web")
	waitMetric(t, e, vms, "sentinel_workers")
	waitMetric(t, e, 0, "sentinel_faults")
	plugintest.NoVMDied(t, e)
}

// TestTwoVMConfigurations has two listeners whose filters are in VMs of their own, by their vm_config, with one vm_id: one
// set of workers, of which some have a source of figures, rules about them and resources, and others do not. Also while
// those that came first aggregate, all of it works.
func TestTwoVMConfigurations(t *testing.T) {
	web, machine := envoytest.StartHTTPService(t), startNode(t)
	machine.be(100, 0.1)
	source := machine.Listener.Addr().String()
	filter := func(vmConfig, config string) []envoytest.Wasm {
		w := httpFilter(t, config)
		w[0].VMConfig, w[0].VMConfigAsString = vmConfig, true
		return w
	}
	guarded := envoytest.HTTP{Name: "guarded", Upstream: web.Addr(), Timeout: time.Hour, Wasm: filter("{}", fmt.Sprintf(
		`{"resource_name": "orders", "resources": [{"name": "held", "match": {"path": {"exact": %q}}}],
		"system_source": {"cluster": %q, "interval_ms": 200},
		"systemRules": [{"id": "load", "metricType": "Load", "triggerCount": 4}], "flowRules": [
		{"id": "memory", "resource": "orders", "tokenCalculateStrategy": "MemoryAdaptive", "statIntervalInMs": %d,
			"lowMemUsageThreshold": 100000, "highMemUsageThreshold": 1,
			"memLowWaterMarkBytes": 2000000000, "memHighWaterMarkBytes": 6000000000}]}`, held, source, forever))}
	plain := envoytest.HTTP{Name: "plain", Upstream: web.Addr(), Wasm: filter("", `{"resource_name": "web"}`)}
	e := start(t, envoytest.Config{Dynamic: true, Listeners: []envoytest.Listener{plain}, Upstreams: []string{source}, LogLevel: "warning"})
	waitMetric(t, e, workers+1, "sentinel_workers") // the first aggregate
	e.Update(plain, guarded)
	envoytest.Eventually(t, soon, "there are VMs of both", func() bool {
		return len(samples(e, "sentinel_rules_hash")) == 2*(workers+1)
	})
	waitMetric(t, e, workers+1, "sentinel_workers") // of each

	status := func() int { return e.Get("guarded", "/").Status }
	envoytest.Eventually(t, soon, "a refusal at a load of 100 over 4", func() bool { return status() == 429 })
	for range 60 {
		if status() != 429 {
			t.Fatal("passed at a load of 100 over 4")
		}
	}
	if e.Get("plain", "/").Status != 200 {
		t.Error("the other listener, which has no rules, refuses")
	}
	machine.be(1, 0.1)
	envoytest.Eventually(t, soon, "requests pass at a load of 1", func() bool { return status() == 200 })
	machine.use(7_000_000_000)
	envoytest.Eventually(t, soon, "a refusal while memory is full", func() bool { return status() == 429 })
	machine.use(1_000_000_000)
	envoytest.Eventually(t, soon, "requests pass when memory is free", func() bool { return status() == 200 })
	seeHeld(t, e)

	machine.mu.Lock()
	asked := machine.asked
	machine.mu.Unlock()
	waitMetric(t, e, 0, "sentinel_system_source_stale")
	waitMetric(t, e, 0, "sentinel_faults")
	machine.Close()
	waitMetric(t, e, 1, "sentinel_system_source_stale")
	t.Logf("the source was asked %d times", asked)
	plugintest.NoVMDied(t, e)
}

// seeHeld checks that what is in flight in a resource is shown, whoever aggregates.
func seeHeld(t *testing.T, e *envoytest.Envoy) {
	t.Helper()
	release := hold(t, e, plugintest.NewLane(t, e, "guarded"), plugintest.NewLane(t, e, "guarded"))
	waitMetric(t, e, 2, "sentinel_in_flight", "resource", "held")
	release()
	waitMetric(t, e, 0, "sentinel_in_flight", "resource", "held")
}

// TestSameRootInSeveralListeners has two listeners whose filters have one root_id, one name and different configurations:
// Envoy does not tell that from an update. Each decides by its own, whenever its clients come.
func TestSameRootInSeveralListeners(t *testing.T) {
	web := envoytest.StartHTTPService(t)
	listener := func(name string, threshold int) envoytest.Listener {
		return envoytest.HTTP{Name: name, Upstream: web.Addr(), Wasm: httpFilter(t,
			fmt.Sprintf(`{"resource_name": %q, `, name)+flowRules(flowRule(name, name, threshold))+`}`)}
	}
	thresholds := map[string]int{"first": 3, "second": 5}
	e := start(t, envoytest.Config{LogLevel: "warning", Components: map[string]string{"wasm": "debug"},
		Listeners: []envoytest.Listener{listener("first", 3), listener("second", 5)}})
	for round := range 3 {
		waitParked(t, e, (workers+1)*(round+1)-round*workers) // at most one worker has been woken in a round
		for name, threshold := range thresholds {
			for n := range 2 {
				want := 429
				if round*2+n < threshold {
					want = 200
				}
				if status := e.Get(name, "/").Status; status != want {
					t.Errorf("round %d, request %d to %s: status %d, want %d", round, n, name, status, want)
				}
			}
		}
	}
	waitMetric(t, e, 0, "sentinel_faults")
}

// TestFilterDiscovery has the filter's configuration come by Envoy's extension discovery, and change: an unchanged rule keeps
// its window, one that is changed holds, and what was replaced is gone.
func TestFilterDiscovery(t *testing.T) {
	web := envoytest.StartHTTPService(t)
	dir := t.TempDir()
	file, version := filepath.Join(dir, "filter.json"), 0
	write := func(threshold int) {
		t.Helper()
		config := fmt.Sprintf(`{"resource_name": "web", "block": {"body": "%d"}, `, version) +
			flowRules(flowRule("kept", "web", 12), flowRule("changed", "web", threshold)) + `}`
		text := fmt.Sprintf(`{"version_info": "%d", "resources": [{"@type": "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
			"name": "sentinel", "typed_config": {"@type": %q, "config": {"name": "sentinel", "root_id": "sentinel_http",
				"vm_config": {"vm_id": "sentinel", "runtime": "envoy.wasm.runtime.v8", "code": {"local": {"filename": %q}}},
				"configuration": {"@type": "type.googleapis.com/google.protobuf.StringValue", "value": %q}}}}]}`,
			version, wasmType, plugintest.File(t, release), config)
		version++
		if err := os.WriteFile(file+".next", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".next", file); err != nil {
			t.Fatal(err)
		}
	}
	write(4)
	e := start(t, envoytest.Config{LogLevel: "warning", Components: map[string]string{"wasm": "debug"}, Listeners: []envoytest.Listener{
		envoytest.HTTP{Upstream: web.Addr(), Filters: []map[string]any{{"name": "sentinel", "config_discovery": map[string]any{
			"config_source": map[string]any{"path_config_source": map[string]any{"path": file}, "resource_api_version": "V3"},
			"type_urls":     []string{wasmType}}}}}}})
	l := plugintest.NewLane(t, e, "http")
	passes := func(n, of int) {
		t.Helper()
		got := 0
		for range of {
			if l.Get(t, "/") == 200 {
				got++
			}
		}
		if got != n {
			t.Errorf("%d of %d passed, want %d", got, of, n)
		}
	}
	passes(4, 6)
	for n, threshold := range []int{8, 8, 100} {
		hash := e.Sum("sentinel_rules_hash")
		write(threshold)
		if n != 1 {
			envoytest.Eventually(t, soon, "other rules", func() bool { return e.Sum("sentinel_rules_hash") != hash })
		}
		passes([]int{4, 0, 4}[n], 10)
	}
	waitMetric(t, e, 0, "sentinel_faults")
	waitMetric(t, e, workers+1, "sentinel_workers")
	plugintest.NoVMDied(t, e)
}

const wasmType = "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm"

// TestVMsLiveThroughManyUpdates updates so often that Envoy's table of timers grows several times: the one timer that a VM
// keeps goes from plugin to plugin, and never stops.
func TestVMsLiveThroughManyUpdates(t *testing.T) {
	const updates, vms = 40, 2
	web := envoytest.StartHTTPService(t)
	listener := func(n int) envoytest.Listener {
		return envoytest.HTTP{Upstream: web.Addr(), Wasm: httpFilter(t, fmt.Sprintf(`{"resource_name": "web", "block": {"body": "%d"}, `,
			n)+flowRules(flowRule("kept", "web", updates))+`}`)}
	}
	e := start(t, envoytest.Config{Dynamic: true, Concurrency: vms - 1, LogLevel: "warning", Listeners: []envoytest.Listener{listener(0)},
		Components: map[string]string{"wasm": "debug"}})
	for n := range updates {
		e.Update(listener(n + 1))
		if status := plugintest.NewLane(t, e, "http").Get(t, "/"); status != 200 {
			t.Fatalf("update %d: status %d", n, status)
		}
	}
	waitParked(t, e, vms*updates)
	if status := plugintest.NewLane(t, e, "http").Get(t, "/"); status != 429 {
		t.Errorf("one more than the threshold: status %d", status)
	}
	ticks := e.Sum("sentinel_ticks")
	envoytest.Eventually(t, soon, "all VMs tick", func() bool { return e.Sum("sentinel_ticks") > ticks+500 })
	waitMetric(t, e, vms, "sentinel_workers")
	waitMetric(t, e, 0, "sentinel_workers_lost")
	waitMetric(t, e, updates, "sentinel_passed", "resource", "web")
	waitMetric(t, e, 0, "sentinel_faults")
	plugintest.NoVMDied(t, e)
}
