package e2e

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"sentinel-envoy/internal/envoytest"
	"sentinel-envoy/internal/load"
	"sentinel-envoy/internal/plugintest"
)

// liveLoad is over many kept connections, and more than the rules admit.
const (
	liveQPS         = 450
	liveConnections = 8
)

// live is load under which rules change: what was admitted in each second, by the client's clock.
type live struct {
	e       *envoytest.Envoy
	load    *plugintest.Offered
	mu      sync.Mutex
	seconds []uint64
}

func startLive(t *testing.T, e *envoytest.Envoy) *live {
	t.Helper()
	e.SetLogLevel("wasm", "debug")
	l := &live{e: e}
	l.load = plugintest.Offer(t, e.Addr("http"), load.Options{
		Path: "/orders", QPS: liveQPS, Connections: liveConnections, OnSecond: func(s load.Second) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.seconds = append(l.seconds, s.Passed)
		},
	})
	return l
}

// admits waits for some windows, one after the other, that admit so many and nearly as many.
func (l *live) admits(t *testing.T, threshold int) {
	t.Helper()
	const windows = 5
	from := audit(t, l.e, "orders-qps").newest() + 1
	envoytest.Eventually(t, soon, fmt.Sprintf("windows admit %d", threshold), func() bool {
		d := audit(t, l.e, "orders-qps")
		last := d.newest() - 2 // later ones are not whole, or some worker has not told of them yet
		for first := last - windows; first < last; first++ {
			if n := d.admitted[first] + d.admitted[first+1]; first < from || n > threshold || n < threshold*9/10 {
				return false
			}
		}
		return true
	})
}

// stop ends the load: no request may have failed, and no window have admitted more than the largest threshold.
func (l *live) stop(t *testing.T, largest int) load.Summary {
	t.Helper()
	sum := l.load.Stop(t)
	if n := sum.Failed - sum.Errors["interrupted"]; n != 0 {
		t.Errorf("%d requests failed: %v, %s", n, sum.Errors, sum.LastError)
	}
	audit(t, l.e, "orders-qps").within(t, largest)
	l.mu.Lock()
	defer l.mu.Unlock()
	t.Logf("admitted in each second: %d; connections opened: %d of %d", l.seconds, sum.Connections, liveConnections)
	return sum
}

// TestLiveRules changes the rules of envoy/examples/live.yaml as docs/live-changes.md says: by a rename of the file that ECDS
// reads, under load on connections that stay.
func TestLiveRules(t *testing.T) {
	name := filepath.Join(t.TempDir(), "rules.yaml")
	text, err := os.ReadFile(filepath.Join(root, "envoy/examples/live-rules.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	text = bytes.ReplaceAll(text, []byte("dist/sentinel.wasm"), []byte(plugintest.File(t, release)))
	write := func(threshold string) {
		t.Helper()
		next := bytes.ReplaceAll(text, []byte("threshold: 100"), []byte("threshold: "+threshold))
		if err := os.WriteFile(name+".new", next, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(name+".new", name); err != nil {
			t.Fatal(err)
		}
	}
	write("100")
	e := example(t, "live.yaml", envoytest.StartHTTPService(t).Addr(), func(bootstrap []byte) []byte {
		return bytes.ReplaceAll(bootstrap, []byte("envoy/examples/live-rules.yaml"), []byte(name))
	})
	l := startLive(t, e)
	l.admits(t, 100)
	write("200")
	l.admits(t, 200)
	e.Log.Mark()
	write("-1")
	e.WaitLog(soon, `\[critical\]\[wasm\].*flowRules\[0\]\.threshold: must be ≥ 0, got -1`)
	l.admits(t, 200)
	if n := e.Stats()["extension_config_discovery.http_filter.sentinel_http.config_fail"]; n != 1 {
		t.Errorf("Envoy has counted %v refused configurations, want 1", n)
	}
	write("50")
	l.admits(t, 50)
	if sum := l.stop(t, 200); sum.Connections != liveConnections {
		t.Errorf("%d connections were opened, want %d: Envoy closed some", sum.Connections, liveConnections)
	}
}

// TestListenerUpdate changes the rules by a new listener. Connections that are open keep the old one, and its rules, until they
// have drained.
func TestListenerUpdate(t *testing.T) {
	web := envoytest.StartHTTPService(t)
	listener := func(threshold int) envoytest.Listener {
		return envoytest.HTTP{Upstream: web.Addr(), Wasm: httpFilter(t, `{`+flowRules(plugintest.PerSecond("orders-qps", "/orders", threshold))+`}`)}
	}
	e := start(t, envoytest.Config{Dynamic: true, Listeners: []envoytest.Listener{listener(100)}})
	l := startLive(t, e)
	l.admits(t, 100)
	e.Update(listener(200))
	l.admits(t, 200)
	if sum := l.stop(t, 200); sum.Connections <= liveConnections {
		t.Errorf("only %d connections were opened: the old listener did not drain", sum.Connections)
	}
	if lines := e.Log.All(`critical`); len(lines) > 0 && strings.Contains(lines[0][0], "wasm") {
		t.Errorf("the log complains: %q", lines[0])
	}
}
