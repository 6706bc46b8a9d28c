package envoygateway

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"sentinel-envoy/internal/envoytest"
	"sentinel-envoy/internal/image/oci"
	"sentinel-envoy/internal/mesh/meshtest"
)

const noSum = "0000000000000000000000000000000000000000000000000000000000000000"

var (
	requests = meshtest.Offer{HTTP: "127.0.0.1:8080"}
	both     = meshtest.Offer{HTTP: requests.HTTP, TCP: "127.0.0.1:9090"}
)

// byHTTP is envoy/gateway/policy-http.yaml with a server of the test's.
func byHTTP(t *testing.T, files *meshtest.FileServer) string {
	t.Helper()
	return meshtest.Resource(t, "envoy/gateway/policy-http.yaml",
		noSum, meshtest.Sum(t), "http://wasm.example.com", "http://"+files.Addr)
}

// patch is envoy/gateway/patch.yaml, likewise.
func patch(t *testing.T, files *meshtest.FileServer) string {
	t.Helper()
	return meshtest.Resource(t, "envoy/gateway/patch.yaml",
		noSum, meshtest.Sum(t), "http://wasm.example.com", "http://"+files.Addr,
		"{address: wasm.example.com, port_value: 80}", "{address: 127.0.0.1, port_value: "+meshtest.Port(t, files.Addr)+"}")
}

// hasVMs waits until Envoy has the VMs of so many vm_ids: of each, one for every worker, the main thread's, and the one that
// they are copies of.
func (g *gateway) hasVMs(t *testing.T, ids int) {
	t.Helper()
	const active = "wasm.envoy.wasm.runtime.v8.active"
	g.Wait("Envoy has all VMs", func() bool {
		stats, err := g.proxy.Admin.Stats(t.Context(), active)
		return err == nil && int(stats[active]) == ids*(workers+2)
	})
}

func TestExtensionPolicy(t *testing.T) {
	files := meshtest.ServeWasm(t)
	policy := byHTTP(t, files)
	g := start(t, policy)
	g.hasVMs(t, 1)
	b := meshtest.Measure(t, g.proxy, requests, "some-test-qps", threshold)
	b.IsOne(t, threshold)
	meshtest.Row(plane, "EnvoyExtensionPolicy, HTTP + sha256", "gateway, HTTP only", b, threshold)

	g.apply(t, "", strings.Replace(policy, "threshold: 50", "threshold: 20", 1))
	g.Wait("the new limit is there", func() bool {
		dump, err := g.proxy.Admin.Get(t.Context(), "/config_dump")
		return err == nil && strings.Contains(dump, `\"threshold\":20`)
	})
	meshtest.Measure(t, g.proxy, requests, "some-test-qps", 20).IsOne(t, 20)
}

// A policy takes the image of either layout.
func TestExtensionPolicyByImage(t *testing.T) {
	for name, layout := range map[string]meshtest.Layout{"compat": oci.Compat, "artifact": oci.Artifact} {
		t.Run(name, func(t *testing.T) {
			g := start(t, meshtest.Resource(t, "envoy/gateway/policy-image.yaml",
				"registry.example.com/sentinel:1.0.0", meshtest.StartRegistry(t, false, layout)))
			g.hasVMs(t, 1)
			b := meshtest.Measure(t, g.proxy, requests, "some-test-qps", threshold)
			b.IsOne(t, threshold)
			meshtest.Row(plane, "EnvoyExtensionPolicy, image, "+name, "gateway, HTTP only", b, threshold)
		})
	}
}

// Each policy has a vm_id, so a budget, of its own; one patch makes them one.
func TestBudgets(t *testing.T) {
	for _, c := range []struct {
		name    string
		patch   func(string) string
		budgets int
	}{
		{"policy and TCP filter, vm_ids differ", func(p string) string {
			return strings.Replace(p, "value: sentinel\n", "value: other\n", 1)
		}, 2},
		{"policy and TCP filter, EnvoyPatchPolicy", func(p string) string { return p }, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			files := meshtest.ServeWasm(t)
			g := start(t, byHTTP(t, files), c.patch(patch(t, files)))
			g.hasVMs(t, c.budgets)
			b := meshtest.Measure(t, g.proxy, both, "some-test-qps", c.budgets*threshold)
			meshtest.Row(plane, c.name, "gateway", b, threshold)
			if want := c.budgets * threshold; b.Most > want || b.Most < want*9/10 {
				t.Errorf("a window admitted %d, want about %d", b.Most, want)
			}
		})
	}
}

// A policy whose download fails takes its route out of service.
func TestDownloadFails(t *testing.T) {
	for name, spoil := range map[string]func(*meshtest.FileServer, string) string{
		"server down": func(f *meshtest.FileServer, policy string) string { f.Down.Store(true); return policy },
		"wrong sum": func(_ *meshtest.FileServer, policy string) string {
			return strings.Replace(policy, meshtest.Sum(t), noSum, 1)
		},
	} {
		t.Run(name, func(t *testing.T) {
			files := meshtest.ServeWasm(t)
			start(t, spoil(files, byHTTP(t, files)))
			c := envoytest.NewHTTPClient(false)
			defer c.CloseIdleConnections()
			envoytest.Eventually(t, time.Minute, "the listener answers", func() bool { // the route's first answer is looked at
				r, err := envoytest.Do(t.Context(), c, http.MethodGet, "http://"+requests.HTTP+"/")
				if err == nil && r.Status != http.StatusInternalServerError {
					t.Errorf("status %d, want 500", r.Status)
				}
				return err == nil
			})
		})
	}
}
