package istio

import (
	"strings"
	"testing"
	"time"

	"sentinel-envoy/internal/envoytest"
	"sentinel-envoy/internal/load"
	"sentinel-envoy/internal/mesh/meshtest"
	"sentinel-envoy/internal/plugintest"
)

// soon is how long things may take that take seconds on an idle machine.
const soon = 2 * time.Minute

const noImage = "oci://registry.example.com/sentinel:1.0.0"

// wasmPlugins are envoy/istio/wasmplugin.yaml with the artefact as a file: an Envoy without Istio's agent can pull no image.
// The ports of the TCP plugin are those given.
func wasmPlugins(t *testing.T, tcpPort string) string {
	t.Helper()
	return meshtest.Resource(t, "envoy/istio/wasmplugin.yaml", noImage, "file://"+meshtest.Wasm(t),
		"number: 9000", "number: "+tcpPort)
}

func TestWasmPluginsShareABudget(t *testing.T) {
	p := startPlane(t)
	p.apply(t, wasmPlugins(t, p.tcp))
	e := p.start(t, sidecar)
	b := meshtest.Measure(t, meshtest.Of(e), p.load(), "some-test-qps", threshold)
	b.IsOne(t, threshold)
	meshtest.Row("Istio, in process", "WasmPlugin", sidecar.name, b, threshold)
}

// Without ports, the network plugin also stands before the HTTP connection manager: a connection with one request is two
// entries.
func TestNetworkPluginCountsAnHTTPConnectionTwice(t *testing.T) {
	p := startPlane(t)
	const onlyTCP = "      ports:\n        - number: "
	for _, c := range []struct {
		name, plugins string
		entries       float64
	}{
		{"with ports", wasmPlugins(t, p.tcp), 1},
		{"without", strings.ReplaceAll(wasmPlugins(t, p.tcp), onlyTCP+p.tcp+"\n", ""), 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			p.apply(t, c.plugins)
			e := p.start(t, sidecar)
			if r := get(t, p.load().HTTP, "/"); r.Status != 200 {
				t.Fatalf("status %d", r.Status)
			}
			e.WaitSum(t, soon, c.entries, "sentinel_passed", "resource", "some-test")
		})
	}
}

// get is one request on a connection of its own.
func get(t *testing.T, addr, path string) envoytest.Response {
	t.Helper()
	c := envoytest.NewHTTPClient(false)
	defer c.CloseIdleConnections()
	r, err := envoytest.Do(t.Context(), c, "GET", "http://"+addr+path)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// A changed pluginConfig arrives by ECDS: connections stay open, and no window admits more than the larger threshold.
func TestPluginConfigChangesLive(t *testing.T) {
	p := startPlane(t)
	plugins := wasmPlugins(t, p.tcp)
	p.apply(t, plugins)
	e := p.start(t, sidecar)
	proxy := meshtest.Of(e)
	l := plugintest.Offer(t, p.load().HTTP, load.Options{QPS: 300, Connections: 8})
	meshtest.Admits(t, proxy, "some-test-qps", 50)
	p.apply(t, strings.ReplaceAll(plugins, "threshold: 50", "threshold: 120"))
	meshtest.Admits(t, proxy, "some-test-qps", 120)
	p.apply(t, strings.ReplaceAll(plugins, "threshold: 50", "threshold: 20"))
	meshtest.Admits(t, proxy, "some-test-qps", 20)
	sum := l.Stop(t)
	if n := sum.Failed - sum.Errors["interrupted"]; n != 0 || sum.Connections != 8 {
		t.Errorf("%d requests failed (%v, %v), %d connections were opened, want 0 and 8",
			n, sum.Status, sum.Errors, sum.Connections)
	}
	meshtest.Within(t, proxy, "some-test-qps", 0, 120)
}
