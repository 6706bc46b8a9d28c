package istio

import (
	"strings"
	"testing"

	"istio.io/istio/pkg/config/schema/gvk"

	"sentinel-envoy/internal/envoytest"
	"sentinel-envoy/internal/load"
	"sentinel-envoy/internal/mesh/meshtest"
	"sentinel-envoy/internal/plugintest"
)

// What users of other plugins have reported, tried with ours.

// A configuration that is refused leaves the one before, and the next one holds, without a restart (higress#1524).
func TestBadConfigurationIsNotTheLast(t *testing.T) {
	p := startPlane(t)
	plugins := wasmPlugins(t, p.tcp)
	p.apply(t, plugins)
	e := p.start(t, sidecar)
	proxy := meshtest.Of(e)
	l := plugintest.Offer(t, p.load().HTTP, load.Options{QPS: 300, Connections: 8})
	meshtest.Admits(t, proxy, "some-test-qps", 50)
	p.apply(t, strings.ReplaceAll(plugins, "threshold: 50", "threshold: -1"))
	e.WaitLog(soon, `flowRules\[0\].threshold: must be ≥ 0`)
	meshtest.Admits(t, proxy, "some-test-qps", 50)
	p.apply(t, strings.ReplaceAll(plugins, "threshold: 50", "threshold: 20"))
	meshtest.Admits(t, proxy, "some-test-qps", 20)
	if sum := l.Stop(t); sum.Failed != sum.Errors["interrupted"] {
		t.Errorf("%d requests failed (%v, %v)", sum.Failed, sum.Status, sum.Errors)
	}
	plugintest.NoVMDied(t, e)
}

// Plugins are deleted and applied again while load is on: no request fails, Envoy lives, and the limit holds (istio#35267,
// istio#33091).
func TestPluginsComeAndGoUnderLoad(t *testing.T) {
	p := startPlane(t)
	plugins := wasmPlugins(t, p.tcp)
	p.apply(t, plugins)
	e := p.start(t, sidecar)
	l := plugintest.Offer(t, p.load().HTTP, load.Options{QPS: 300, Connections: 8})
	for range 2 {
		meshtest.Admits(t, meshtest.Of(e), "some-test-qps", threshold)
		for _, name := range []string{"sentinel-http", "sentinel-tcp"} {
			if err := p.Store().Delete(gvk.WasmPlugin, name, "default", nil); err != nil {
				t.Fatal(err)
			}
		}
		envoytest.Eventually(t, soon, "nothing limits", func() bool {
			return plugintest.Offer(t, p.load().HTTP, load.Options{QPS: 400, Connections: 4, Requests: 200}).Wait(t).Passed == 200
		})
		p.apply(t, plugins)
	}
	meshtest.Admits(t, meshtest.Of(e), "some-test-qps", threshold)
	if sum := l.Stop(t); sum.Failed != sum.Errors["interrupted"] {
		t.Errorf("%d requests failed (%v, %v)", sum.Failed, sum.Status, sum.Errors)
	}
	plugintest.NoVMDied(t, e)
}

// A workload without the label has no filter, and is no worse off for it (istio#47814).
func TestOthersHaveNoFilter(t *testing.T) {
	p := startPlane(t)
	plugins := strings.ReplaceAll(wasmPlugins(t, p.tcp), "app: go-httpbin", "app: another")
	p.apply(t, plugins)
	e := p.start(t, sidecar)
	for range 3 { // also while resources of the other change
		if sum := plugintest.Offer(t, p.load().HTTP, load.Options{QPS: 400, Connections: 4, Requests: 200}).Wait(t); sum.Passed != 200 {
			t.Errorf("%d of 200 passed: %v %v", sum.Passed, sum.Status, sum.Errors)
		}
		p.apply(t, plugins)
	}
	if n := e.Stats()["wasm.envoy.wasm.runtime.v8.created"]; n != 0 {
		t.Errorf("%v VMs were made", n)
	}
}
