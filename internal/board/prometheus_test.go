package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"sentinel-envoy/internal/envoytest"
)

// tool is the path of a program of Prometheus, which a package of that name brings.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("no %s: install Prometheus (Debian's package prometheus has both programs)", name)
	}
	return path
}

// TestRules has promtool check the files that users take, and run the alerts over series that shall raise them, or not.
func TestRules(t *testing.T) {
	promtool := tool(t, "promtool")
	for _, args := range [][]string{{"check", "config", "prometheus.yaml"}, {"check", "rules", "rules.yaml"},
		{"test", "rules", "rules_test.yaml"}} {
		cmd := exec.CommandContext(t.Context(), promtool, args...)
		cmd.Dir = observability
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}

// everything has rules of all kinds that the board shows.
const everything = `{
	"flowRules": [
		{"id": "qps", "resource": "/orders", "threshold": 20},
		{"id": "paced", "resource": "/paced", "threshold": 20, "controlBehavior": "Throttling", "maxQueueingTimeMs": 400}],
	"circuitBreakerRules": [{"id": "sick", "resource": "/status/503", "strategy": "ErrorCount", "threshold": 2,
		"retryTimeoutMs": 1000, "statIntervalMs": 1000, "minRequestAmount": 1}],
	"hotspotRules": [{"id": "user", "resource": "/users", "metricType": "QPS", "paramSource": "Header", "paramKey": "x-user",
		"threshold": 5, "durationInSec": 1}]
}`

// load offers requests for all of these rules until ctx ends.
func load(ctx context.Context, e *envoytest.Envoy) {
	client := envoytest.NewHTTPClient(false)
	defer client.CloseIdleConnections()
	for ctx.Err() == nil {
		for _, path := range []string{"/orders", "/paced", "/status/503", "/users"} {
			_, _ = envoytest.Do(ctx, client, http.MethodGet, e.URL("http")+path) // refusals are wanted, and the end is no mistake
		}
		_, _ = envoytest.Do(ctx, client, http.MethodGet, e.URL("trial")+"/orders")
	}
}

// TestNoPanelWithoutData has a Prometheus, with the files that users take but for the intervals, scrape an Envoy under load,
// and asks it for each query of the board and each recorded series.
func TestNoPanelWithoutData(t *testing.T) {
	program := tool(t, "prometheus")
	wasm := "../../dist/sentinel.wasm"
	if _, err := os.Stat(wasm); err != nil {
		t.Skip("no dist/sentinel.wasm: make wasm")
	}
	service := envoytest.StartHTTPService(t)
	e := envoytest.Start(t, envoytest.Config{Listeners: []envoytest.Listener{
		envoytest.HTTP{Upstream: service.Addr(), Wasm: []envoytest.Wasm{{RootID: "sentinel_http", File: wasm, Config: everything}}},
		envoytest.HTTP{Name: "trial", Upstream: service.Addr(), Wasm: []envoytest.Wasm{{RootID: "sentinel_http", File: wasm,
			Config: `{"mode": "shadow", "flowRules": [{"id": "trial", "resource": "/orders", "threshold": 5}]}`}}},
	}})
	ctx, stop := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	defer clients.Wait()
	defer stop()
	for range 4 {
		clients.Go(func() { load(ctx, e) })
	}
	p := scrape(t, program, e.Admin.Addr())
	for _, r := range rows {
		for _, panel := range r.panels {
			for _, q := range panel.queries {
				p.see(panel.title, filled(q.expr))
			}
		}
	}
	for _, record := range []string{"sentinel:passed:rate1m", "sentinel:blocked:rate1m", "sentinel:blocked:share1m",
		"sentinel:rt_ms:mean1m", "sentinel:window:fill"} {
		p.see("recording rule", record)
	}
}

// server is a Prometheus.
type server struct {
	t    *testing.T
	addr string
}

// scrape runs one that scrapes an Envoy, by its admin page, until the test's end.
func scrape(t *testing.T, program, admin string) server {
	t.Helper()
	dir := t.TempDir()
	config := strings.NewReplacer("127.0.0.1:8001", admin, "15s", "1s").
		Replace(string(read(t, filepath.Join(observability, "prometheus.yaml"))))
	for name, text := range map[string]string{"prometheus.yaml": config,
		"rules.yaml": string(read(t, filepath.Join(observability, "rules.yaml")))} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	ports, err := envoytest.FreePorts(1)
	if err != nil {
		t.Fatal(err)
	}
	addr := fmt.Sprintf("127.0.0.1:%d", ports[0])
	cmd := exec.Command(program, "--config.file="+filepath.Join(dir, "prometheus.yaml"),
		"--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+addr)
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait() // interrupted as it is
		log.Close()
		if t.Failed() {
			t.Logf("Prometheus' log:\n%s", read(t, log.Name()))
		}
	})
	return server{t, addr}
}

// see waits until an expression has series, all of them with numbers.
func (s server) see(what, expr string) {
	s.t.Helper()
	var last string
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		values, answer := s.ask(expr)
		if last = answer; len(values) > 0 && !hasNaN(values) {
			return
		}
		select {
		case <-s.t.Context().Done():
			return
		case <-time.After(200 * time.Millisecond):
		}
	}
	s.t.Errorf("%s: no data within a minute for\n%s\n%s", what, expr, last)
}

func hasNaN(values []float64) bool {
	for _, v := range values {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return true
		}
	}
	return false
}

// ask is what an expression comes to now, and the whole answer.
func (s server) ask(expr string) (values []float64, answer string) {
	r, err := envoytest.Do(s.t.Context(), http.DefaultClient, http.MethodGet,
		"http://"+s.addr+"/api/v1/query?query="+url.QueryEscape(expr))
	if err != nil {
		return nil, err.Error() // it is starting
	}
	var body struct {
		Data struct {
			Result []struct{ Value [2]any }
		}
	}
	if err := json.Unmarshal([]byte(r.Body), &body); err != nil {
		return nil, err.Error()
	}
	for _, series := range body.Data.Result {
		text, _ := series.Value[1].(string)
		v, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return nil, err.Error()
		}
		values = append(values, v)
	}
	return values, string(r.Body)
}
