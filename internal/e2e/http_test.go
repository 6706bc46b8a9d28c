package e2e

import (
	"testing"

	"sentinel-envoy/internal/envoytest"
)

func TestHTTP(t *testing.T) {
	web := envoytest.StartHTTPService(t)
	e := start(t, envoytest.Config{Listeners: []envoytest.Listener{
		envoytest.HTTP{Upstream: web.Addr(), Wasm: httpFilter(t, `{"resource_name": "rest", `+flowRules(flowRule("r", "rest", 3))+`}`)},
	}})
	for range 5 {
		t.Log(e.Get("http", "/"))
	}
	waitMetric(t, e, 3, "sentinel_passed", "resource", "rest")
	for _, s := range e.Prometheus() {
		if len(s.Name) > 8 && s.Name[:8] == "sentinel" {
			t.Log(s)
		}
	}
	t.Log(e.Log.Tail(10))
}
