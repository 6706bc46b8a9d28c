package istio

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"sentinel-envoy/internal/envoytest"
	"sentinel-envoy/internal/mesh/meshtest"
)

// stateful is the configuration of the HTTP plugin in TestStateOutlivesAConfiguration.
const stateful = `
  pluginConfig:
    isolationRules:
      - {id: slow-at-once, resource: /slow, threshold: 2}
    circuitBreakerRules:
      - id: broken
        resource: /status/500
        strategy: ErrorCount
        threshold: 2
        minRequestAmount: 2
        retryTimeoutMs: 3600000
        statIntervalMs: 60000
    failures: {status: [5xx]}
`

// What is in flight, and an open breaker, are still so after extension discovery has changed the configuration.
func TestStateOutlivesAConfiguration(t *testing.T) {
	p := startPlane(t)
	http, _, _ := strings.Cut(wasmPlugins(t, p.tcp), "\n---\n")
	before, _, _ := strings.Cut(http, "\n  pluginConfig:")
	p.apply(t, before+stateful)
	e := p.start(t, sidecar)
	for range 2 {
		get(t, p.load().HTTP, "/status/500")
	}
	p.answers(t, "/status/500", 429)
	for range 2 {
		p.hang(t, "/slow")
	}
	e.WaitSum(t, soon, 2, "sentinel_in_flight", "resource", "/slow")

	p.apply(t, before+stateful+"    flowRules:\n      - {id: new, resource: /new, threshold: 0}\n")
	p.answers(t, "/new", 429)
	for range 20 { // every worker has the new configuration, or will decide by the old one on the same counts
		if r := get(t, p.load().HTTP, "/slow"); r.Status != 429 {
			t.Errorf("a third request at once: status %d", r.Status)
		}
		if r := get(t, p.load().HTTP, "/status/500"); r.Status != 429 {
			t.Errorf("the breaker let one pass: status %d", r.Status)
		}
	}
	e.WaitSum(t, soon, 2, "sentinel_in_flight", "resource", "/slow")
}

// answers waits until a path has a status.
func (p *plane) answers(t *testing.T, path string, status int) {
	t.Helper()
	envoytest.Eventually(t, soon, fmt.Sprintf("%s answers %d", path, status), func() bool {
		return get(t, p.load().HTTP, path).Status == status
	})
}

// hang sends a request that is not answered before the test's end.
func (p *plane) hang(t *testing.T, path string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		c := envoytest.NewHTTPClient(false)
		c.Timeout = 0
		defer c.CloseIdleConnections()
		_, _ = envoytest.Do(ctx, c, http.MethodGet, "http://"+p.load().HTTP+path, "x-delay-ms", "3600000")
	}()
	t.Cleanup(func() { cancel(); <-done })
}

// An Envoy without Istio's agent downloads by itself. Where that fails, it lets nothing pass.
func TestDownloadFails(t *testing.T) {
	files := meshtest.ServeWasm(t)
	remote := meshtest.Resource(t, "envoy/istio/remote.yaml", noSum, meshtest.Sum(t))
	for _, c := range []struct {
		name   string
		remote string
		down   bool
	}{
		{"wrong sum", strings.Replace(remote, meshtest.Sum(t), noSum, 2), false},
		{"server down", remote, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			files.Down.Store(c.down)
			asked := files.Requests.Load()
			p := startPlane(t, c.remote, meshtest.Data(t, "download.yaml", "$FILE_SERVER", meshtest.Port(t, files.Addr)))
			e := p.start(t, sidecar)
			e.WaitLog(soon, "failed to load|Retry limit exceeded|fetch")
			if r := get(t, p.load().HTTP, "/"); r.Status != http.StatusServiceUnavailable {
				t.Errorf("status %d, want 503", r.Status)
			}
			if got, err := envoytest.Raw(t.Context(), p.load().TCP, nil, soon); err != nil || len(got) > 0 {
				t.Errorf("a connection got %q, %v", got, err)
			}
			if files.Requests.Load() == asked {
				t.Error("nobody asked the server")
			}
		})
	}
}
