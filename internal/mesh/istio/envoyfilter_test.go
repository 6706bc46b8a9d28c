package istio

import (
	"strings"
	"testing"

	"sentinel-envoy/internal/mesh/meshtest"
)

const noSum = "0000000000000000000000000000000000000000000000000000000000000000"

// toGateway makes what is for the sidecar be for the gateway, as docs/istio.md says.
func toGateway(resource string) string {
	return strings.NewReplacer("SIDECAR_INBOUND", "GATEWAY", "app: go-httpbin", "istio: ingressgateway",
		"  name: sentinel\n", "  name: sentinel\n  namespace: istio-system\n").Replace(resource)
}

func TestEnvoyFilters(t *testing.T) {
	mounted := func(name string) []string {
		return []string{meshtest.Resource(t, name, meshtest.MountedWasm, meshtest.Wasm(t))}
	}
	files := meshtest.ServeWasm(t)
	remote := meshtest.Resource(t, "envoy/istio/remote.yaml", noSum, meshtest.Sum(t))
	download := meshtest.Data(t, "download.yaml", "$FILE_SERVER", meshtest.Port(t, files.Addr))
	for _, c := range []struct {
		way       string
		side      side
		resources []string
	}{
		{"EnvoyFilter, file", sidecar, mounted("envoy/istio/sidecar.yaml")},
		{"EnvoyFilter, file", gateway, mounted("envoy/istio/gateway.yaml")},
		{"EnvoyFilter, http_uri + sha256", sidecar, []string{remote, download}},
		{"EnvoyFilter, http_uri + sha256", gateway, []string{toGateway(remote), download}},
	} {
		t.Run(c.way+", "+c.side.name, func(t *testing.T) {
			p := startPlane(t, c.resources...)
			e := p.start(t, c.side)
			b := meshtest.Measure(t, meshtest.Of(e), p.load(), "some-test-qps", threshold)
			b.IsOne(t, threshold)
			meshtest.Row("Istio, in process", c.way, c.side.name, b, threshold)
			if n := e.Sum("sentinel_blocked", "resource", "some-test"); n == 0 {
				t.Error("no metric has the label of the resource")
			}
		})
	}
}
