package envoytest_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"gopkg.in/yaml.v3"

	"sentinel-envoy/internal/envoytest"
)

const soon = 10 * time.Second

func TestHTTPAndTCPThroughEnvoy(t *testing.T) {
	web := envoytest.StartHTTPService(t)
	echo := envoytest.StartTCPService(t, "hello ")
	e := envoytest.Start(t, envoytest.Config{
		Concurrency: 3,
		Listeners: []envoytest.Listener{
			envoytest.HTTP{Upstream: web.Addr(), AccessLog: "%RESPONSE_CODE% %PROTOCOL% %PATH%"},
			envoytest.TCP{Upstream: echo.Addr()},
			envoytest.TCP{Name: "inspected", Upstream: echo.Addr(), TLSInspector: true, InspectFor: 50 * time.Millisecond},
		},
	})

	if r := e.Get("http", "/a/../status/503?x=1", "x-body-bytes", "5"); r.Status != 503 || r.Body != "xxxxx" {
		t.Errorf("GET = %d %q, want 503 xxxxx", r.Status, r.Body)
	}
	if r := e.Get2("http", "/"); r.Status != 200 || r.Proto != "HTTP/2.0" || web.Last().ProtoMajor != 2 {
		t.Errorf("HTTP/2 GET = %d by %s, at the upstream %s", r.Status, r.Proto, web.Last().Proto)
	}
	if n := web.Requests(); n != 2 {
		t.Errorf("the upstream saw %d requests, want 2", n)
	}
	if _, err := e.AccessLog("http").WaitFor(envoytest.Context(t, soon), `^503 HTTP/1.1 /status/503\?x=1$`); err != nil {
		t.Error(err)
	}

	c := e.Dial("tcp")
	if _, err := io.WriteString(c, "world"); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len("hello world"))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != "hello world" {
		t.Errorf("echo = %q, %v", got, err)
	}
	c.Close()
	envoytest.Eventually(t, soon, "the upstream's connection is closed", func() bool { return echo.Open() == 0 })
	if echo.Accepted() != 1 || echo.Bytes() != 5 {
		t.Errorf("echo saw %d connections, %d bytes", echo.Accepted(), echo.Bytes())
	}

	// The server speaks first, though the TLS inspector waits for the client's first bytes.
	greeting := make([]byte, len("hello "))
	if _, err := io.ReadFull(e.Dial("inspected"), greeting); err != nil || string(greeting) != "hello " {
		t.Errorf("greeting = %q, %v", greeting, err)
	}

	seeUsage(t, e)
	seeStats(t, e)
}

func seeUsage(t *testing.T, e *envoytest.Envoy) {
	t.Helper()
	if w, err := e.Workers(); err != nil || len(w) != 3 {
		t.Errorf("Workers = %v, %v, want 3", w, err)
	}
	if cpu, err := e.CPUTime(); err != nil || cpu <= 0 {
		t.Errorf("CPUTime = %v, %v", cpu, err)
	}
	if rss, err := e.RSS(); err != nil || rss < 1<<20 {
		t.Errorf("RSS = %v, %v", rss, err)
	}
	if m, err := e.Admin.Memory(t.Context()); err != nil || m["allocated"] <= 0 {
		t.Errorf("Memory = %v, %v", m, err)
	}
}

func seeStats(t *testing.T, e *envoytest.Envoy) {
	t.Helper()
	if n := e.Stats()["http.http.downstream_rq_total"]; n != 2 {
		t.Errorf("stats count %v requests, want 2", n)
	}
	found := false
	for _, s := range e.Prometheus() {
		if s.Name == "envoy_http_downstream_rq_xx" && s.Labels["envoy_response_code_class"] == "5" &&
			s.Labels["envoy_http_conn_manager_prefix"] == "http" {
			found = s.Value == 1
		}
	}
	if !found {
		t.Error("the Prometheus output does not count one 5xx")
	}
}

func TestGRPCThroughEnvoy(t *testing.T) {
	up := envoytest.StartGRPCService(t)
	e := envoytest.Start(t, envoytest.Config{Listeners: []envoytest.Listener{envoytest.HTTP{Upstream: up.Addr()}}})
	cc := e.GRPC("http")
	if err := envoytest.Call(t.Context(), cc, "/shop.Orders/List"); err != nil {
		t.Errorf("plain call: %v", err)
	}
	if err := envoytest.Call(t.Context(), cc, "/shop.Orders/List", "x-code", "5"); status.Code(err) != codes.NotFound {
		t.Errorf("call asking for NotFound: %v", err)
	}
	n, err := envoytest.Stream(t.Context(), cc, "/shop.Orders/Watch", "x-messages", "3", "x-code", "8")
	if n != 3 || status.Code(err) != codes.ResourceExhausted {
		t.Errorf("stream gave %d messages and %v, want 3 and ResourceExhausted", n, err)
	}
	if up.Calls() != 3 {
		t.Errorf("the upstream saw %d calls, want 3", up.Calls())
	}
}

func TestUpdateListeners(t *testing.T) {
	answer := func(status int) envoytest.Listener {
		return envoytest.HTTP{Routes: []envoytest.Route{{DirectStatus: status}}}
	}
	e := envoytest.Start(t, envoytest.Config{Dynamic: true, Listeners: []envoytest.Listener{answer(201)}})
	before := e.Addr("http")
	if r := e.Get("http", "/"); r.Status != 201 {
		t.Fatalf("status %d, want 201", r.Status)
	}
	e.Update(answer(202))
	if after := e.Addr("http"); after != before {
		t.Errorf("the listener moved from %s to %s", before, after)
	}
	envoytest.Eventually(t, soon, "new connections get the new route", func() bool {
		return e.Get("http", "/").Status == 202
	})
	err := e.UpdateListeners(t.Context(), envoytest.HTTP{Routes: []envoytest.Route{{DirectStatus: 20000}}})
	if err == nil || !strings.Contains(err.Error(), "DirectResponseActionValidationError.Status") {
		t.Errorf("a status of 20000 gives %v", err)
	}
	if r := e.Get("http", "/"); r.Status != 202 {
		t.Errorf("status %d after a rejected update, want 202", r.Status)
	}
}

func TestStartFails(t *testing.T) {
	log := envoytest.StartFails(t, envoytest.Config{
		Listeners: []envoytest.Listener{envoytest.HTTP{Codec: "HTTP9"}},
	})
	if !strings.Contains(log, "HTTP9") {
		t.Errorf("the log does not name the mistake:\n%s", log)
	}
}

func TestStopEndsTheProcess(t *testing.T) {
	p, err := envoytest.Launch(t.Context(), envoytest.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Stop(); err != nil {
		t.Error(err)
	}
	if err := syscall.Kill(p.PID(), 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("signalling the process gives %v, want ESRCH", err)
	}
}

func TestWaitForFailsWhenEnvoyEnds(t *testing.T) {
	p, err := envoytest.Launch(t.Context(), envoytest.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(p.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if m, err := p.Log.WaitFor(envoytest.Context(t, soon), "never logged"); err == nil || !strings.Contains(err.Error(), "ended") {
		t.Errorf("WaitFor = %v, %v", m, err)
	}
	var exit *envoytest.ExitError
	if err := p.Stop(); !errors.As(err, &exit) || !strings.Contains(exit.State, "killed") {
		t.Errorf("Stop = %v, want an ExitError that says killed", err)
	}
}

func TestStatsTagsAreTheBootstraps(t *testing.T) {
	text, err := os.ReadFile("../../envoy/envoy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var b struct {
		Stats struct {
			Tags []map[string]any `yaml:"stats_tags"`
		} `yaml:"stats_config"`
	}
	if err := yaml.Unmarshal(text, &b); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(b.Stats.Tags, envoytest.StatsTags) {
		t.Errorf("envoy/envoy.yaml has the tags\n%v\nand this package\n%v", b.Stats.Tags, envoytest.StatsTags)
	}
}

func TestHTTPServiceFaults(t *testing.T) {
	web := envoytest.StartHTTPService(t)
	e := envoytest.Start(t, envoytest.Config{Listeners: []envoytest.Listener{envoytest.HTTP{Upstream: web.Addr()}}})
	if r := e.Get("http", "/", "x-reset", "1"); r.Status != 503 {
		t.Errorf("a reset before the answer gives %d, want Envoy's 503", r.Status)
	}
	for _, http2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("http2=%v", http2), func(t *testing.T) {
			c := envoytest.NewHTTPClient(http2)
			defer c.CloseIdleConnections()
			r, err := envoytest.Do(t.Context(), c, "GET", e.URL("http"), "x-reset", "1", "x-body-bytes", "1000")
			if err == nil || r.Status != 200 || len(r.Body) != 500 {
				t.Errorf("a reset amid the body gives %d, %d bytes, %v; want 200, 500 and an error", r.Status, len(r.Body), err)
			}
		})
	}
	if raw := e.Raw("http", "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"); !strings.HasPrefix(raw, "HTTP/1.1 200 OK") {
		t.Errorf("raw request gives %q", raw)
	}
}
