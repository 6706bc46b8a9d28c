package e2e

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"sentinel-envoy/internal/envoytest"
)

// asking sends n requests, the ith as request says, over a number of connections at once, and counts those that are let
// through by the first header's value. What is refused must be so by the rule.
func asking(t *testing.T, e *envoytest.Envoy, rule string, n int, request func(i int) (path string, headers []string)) map[string]int {
	t.Helper()
	var mu sync.Mutex
	passed := map[string]int{}
	next := make(chan int)
	var wg sync.WaitGroup
	for range 4 * workers {
		wg.Go(func() {
			client := envoytest.NewHTTPClient(false)
			defer client.CloseIdleConnections()
			for i := range next {
				path, headers := request(i)
				r, err := envoytest.Do(t.Context(), client, "GET", e.URL("http")+path, append(headers, "x-delay-ms", "0")...)
				if err != nil {
					t.Error(err)
					continue
				}
				mu.Lock()
				switch {
				case r.Status == http.StatusOK:
					key := path
					if len(headers) > 1 {
						key = headers[1]
					}
					passed[key]++
				case r.Status != http.StatusTooManyRequests || !strings.HasPrefix(r.Body, "blocked by hotspot rule "+rule+": "):
					t.Errorf("%s %v: status %d, %q", path, headers, r.Status, r.Body)
				}
				mu.Unlock()
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
	return passed
}

// envoy/examples/hotspot.yaml: each value has a limit of its own, over all workers.
func TestHotspot(t *testing.T) {
	upstream := startOccupied(t)
	e := example(t, "hotspot.yaml", upstream.addr, func(bootstrap []byte) []byte {
		// On a busy machine a minute may be over too soon.
		return bytes.ReplaceAll(bootstrap, []byte("durationInSec: 60"), []byte("durationInSec: 3600"))
	})
	for _, s := range []struct {
		name string
		see  func(t *testing.T, e *envoytest.Envoy)
	}{
		{"header", seeUsers},
		{"query parameter", seeTenants},
		{"in flight", seeExports},
		{"throttling", seePages},
		{"connections", seeSources},
	} {
		t.Run(s.name, func(t *testing.T) { s.see(t, e.For(t)) })
	}
	if n := e.Sum("sentinel_faults"); n != 0 {
		t.Errorf("%v faults", n)
	}
}

func seeUsers(t *testing.T, e *envoytest.Envoy) {
	users := []string{"alice", "bob", "carol", "gold"}
	as := func(i int) (string, []string) { return "/users?x=1", []string{"x-user", users[i%len(users)]} }
	for user, n := range asking(t, e, "per-user", 800, as) {
		want := 15
		if user == "gold" {
			want = 105
		}
		if n != want {
			t.Errorf("%s had %d requests let through, want %d", user, n, want)
		}
	}
	// A flood of other values.
	const many = 6000
	flood := func(i int) (string, []string) { return "/users", []string{"x-user", fmt.Sprint("cold ", i)} }
	cold := asking(t, e, "per-user", many, flood)
	if len(cold) != many {
		t.Errorf("%d of %d values were let through", len(cold), many)
	}
	if again := asking(t, e, "per-user", 400, as); len(again) != 0 {
		t.Errorf("after a flood of other values %v more were let through", again)
	}
	if got := asking(t, e, "", 50, func(int) (string, []string) { return "/users", nil }); got["/users"] != 50 {
		t.Errorf("without the header %v of 50 were let through", got)
	}
	// None of the others was forgotten: each has had one of its 15.
	for user, n := range asking(t, e, "per-user", 20*20, func(i int) (string, []string) { return flood(many / 20 * (i % 20)) }) {
		if n != 14 {
			t.Errorf("%s had %d more requests let through, want 14", user, n)
		}
	}
	if n := e.Sum("sentinel_hotspot_evicted"); n != 0 {
		t.Errorf("%v values were forgotten", n)
	}
}

func seeTenants(t *testing.T, e *envoytest.Envoy) {
	forms := []string{"/tenants?tenant=acme", "/tenants?a=b&tenant=acme&tenant=x", "/tenants?tenant=%61cme", "/tenants?tenant=initech"}
	got := asking(t, e, "per-tenant", 400, func(i int) (string, []string) { return forms[i%len(forms)], nil })
	if acme := got[forms[0]] + got[forms[1]] + got[forms[2]]; acme != 20 || got[forms[3]] != 20 {
		t.Errorf("%v were let through, want 20 of each tenant", got)
	}
}

func seeExports(t *testing.T, e *envoytest.Envoy) {
	export := func(forwarded string) (end func(), ok bool) {
		client := envoytest.NewHTTPClient(false)
		client.Timeout = 0
		req, err := http.NewRequestWithContext(t.Context(), "GET", e.URL("http")+"/exports", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("x-forwarded-for", forwarded)
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		end = func() { resp.Body.Close(); client.CloseIdleConnections() }
		t.Cleanup(end)
		return end, letIn(t, resp.StatusCode, 200, 429)
	}
	var ends []func()
	for i := range 12 { // what the client itself writes is not trusted
		end, ok := export(fmt.Sprintf("10.0.0.%d, 198.51.100.1", i))
		if ok {
			ends = append(ends, end)
		}
	}
	if len(ends) != 2 {
		t.Fatalf("%d at a time, want 2", len(ends))
	}
	if _, ok := export("198.51.100.2"); !ok {
		t.Error("another client is refused")
	}
	ends[0]()
	for deadline := time.Now().Add(soon); ; {
		if _, ok := export("198.51.100.1"); ok {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("what has ended still counts")
		}
	}
	if _, ok := export("198.51.100.1"); ok {
		t.Error("a third is let in")
	}
}

func seePages(t *testing.T, e *envoytest.Envoy) {
	began := time.Now()
	got := asking(t, e, "per-session", 10, func(i int) (string, []string) {
		return "/pages", []string{"cookie", fmt.Sprintf("a=b; session=s%d", i%2)}
	})
	for session, n := range got {
		if n != 5 {
			t.Errorf("%s: %d of 5 were let through", session, n)
		}
	}
	if took := time.Since(began); len(got) != 2 || took < 400*time.Millisecond {
		t.Errorf("%v took %v: five need at least 400 ms", got, took)
	}
}

func seeSources(t *testing.T, e *envoytest.Envoy) {
	for _, source := range []string{"127.0.0.1", "127.0.0.2"} {
		passed := 0
		for range 30 {
			dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}}
			conn, err := dialer.DialContext(t.Context(), "tcp", e.Addr("tcp"))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := conn.Write([]byte("GET /tcp HTTP/1.1\r\nhost: a\r\nx-delay-ms: 0\r\n\r\n")); err == nil {
				if _, err = http.ReadResponse(bufio.NewReader(conn), nil); err == nil {
					passed++
				}
			}
			conn.Close()
		}
		if passed != 10 {
			t.Errorf("%s: %d connections, want 10", source, passed)
		}
	}
}

// TestHotspotParameters has the parameters that the example has not: each value has a limit of its own, in whatever form
// it comes, and what has none is not limited.
func TestHotspotParameters(t *testing.T) {
	web, calls, up := envoytest.StartHTTPService(t), envoytest.StartGRPCService(t), envoytest.StartTCPService(t, "hello\n")
	// Nothing is refilled during the test.
	rule := func(id, resource, param string) string {
		return fmt.Sprintf(`{"id": %q, "resource": %q, "metricType": "QPS", "durationInSec": 3600, "threshold": %d, %s}`,
			id, resource, perValue, param)
	}
	byHTTP := `{"resources": [
			{"name": "shops", "match": {"path": {"prefix": "/shops"}}}, {"name": "files", "match": {"path": {"prefix": "/files/"}}}],
		"hotspotRules": [` + strings.Join([]string{
		rule("per-shop", "shops", `"paramSource": "PathSegment", "paramIndex": 1`),
		rule("per-file", "files", `"paramSource": "PathSegment", "paramIndex": -1`),
		rule("per-host", "/host", `"paramSource": "Host"`),
		rule("per-plan", "/plan", `"paramSource": "Property", "paramKey": "request.headers.x-plan"`),
		rule("per-caller", "/shop.Orders/List", `"paramSource": "Header", "paramKey": "x-caller"`),
	}, ", ") + `]}`
	byTCP := `{"resource_name": "db", "hotspotRules": [` + rule("per-name", "db", `"paramSource": "SNI"`) + `]}`
	e := start(t, envoytest.Config{Listeners: []envoytest.Listener{
		envoytest.HTTP{Upstream: web.Addr(), Wasm: httpFilter(t, byHTTP),
			Routes: []envoytest.Route{{Prefix: "/shop.", Upstream: calls.Addr()}, {Prefix: "/"}}},
		// A ClientHello may be late on a busy machine, and the short patience is only for those who send none.
		envoytest.TCP{Name: "named", Upstream: up.Addr(), TLSInspector: true, InspectFor: soon, Wasm: tcpFilter(t, byTCP)},
		envoytest.TCP{Name: "nameless", Upstream: up.Addr(), TLSInspector: true, InspectFor: inspectFor, Wasm: tcpFilter(t, byTCP)},
	}})
	path := func(p string) form { return form{path: p} }
	for _, c := range []struct {
		name, rule string
		values     [][]form // the forms of each value
		none       form     // has no value
	}{
		{"path segment", "per-shop", [][]form{
			{path("/shops/acme/items"), path("/shops/acme/orders?x=/y"), path("/shops/%61cme"), path("//shops//acme/"), path("/shops/x/../acme")},
			{path("/shops/initech/items")}}, path("/shops")},
		{"segment from the end", "per-file", [][]form{
			{path("/files/a/z"), path("/files/b/c/z"), path("/files/z?q")}, {path("/files/a")}}, form{}},
		{"host", "per-host", [][]form{
			{{"/host", "host", "a.example.com"}, {"/host", "host", "A.Example.com:8080"}, {"/host", "host", "a.example.com."}},
			{{"/host", "host", "b.example.com"}}}, form{}},
		{"property", "per-plan", [][]form{{{"/plan", "x-plan", "gold"}}, {{"/plan", "x-plan", "Gold"}}}, path("/plan")},
	} {
		t.Run(c.name, func(t *testing.T) { seeValues(t, e.For(t), c.rule, c.values, c.none) })
	}
	t.Run("gRPC", func(t *testing.T) { seeCallers(t, e.For(t)) })
	t.Run("SNI", func(t *testing.T) { seeNames(t, e.For(t)) })
	waitMetric(t, e, 0, "sentinel_faults")
}

// perValue is what each value is admitted in TestHotspotParameters.
const perValue = 12

// form is a request: a path, and a header unless its name is empty.
type form struct{ path, header, value string }

func (f form) request() (path string, headers []string) {
	if f.header == "" {
		return f.path, nil
	}
	return f.path, []string{f.header, f.value}
}

// seeValues spends each value's limit in all its forms in turn.
func seeValues(t *testing.T, e *envoytest.Envoy, rule string, values [][]form, none form) {
	for _, forms := range values {
		passed := 0
		for _, n := range asking(t, e, rule, 4*perValue, func(i int) (string, []string) { return forms[i%len(forms)].request() }) {
			passed += n
		}
		if passed != perValue {
			t.Errorf("%v: %d were let through, want %d", forms, passed, perValue)
		}
	}
	if none.path == "" {
		return
	}
	for _, n := range asking(t, e, "", 2*perValue, func(int) (string, []string) { return none.request() }) {
		if n != 2*perValue {
			t.Errorf("%v: %d of %d without a value were let through", none, n, 2*perValue)
		}
	}
	waitMetric(t, e, float64(len(values)*3*perValue), "sentinel_blocked", "rule", rule)
}

// seeCallers: a gRPC call that is refused ends with RESOURCE_EXHAUSTED.
func seeCallers(t *testing.T, e *envoytest.Envoy) {
	cc, err := envoytest.NewGRPCClient(e.Addr("http"))
	if err != nil {
		t.Fatal(err)
	}
	defer cc.Close()
	for _, md := range [][]string{{"x-caller", "alice"}, {"x-caller", "bob"}, nil} {
		passed := 0
		for range 2 * perValue {
			switch err := envoytest.Call(t.Context(), cc, "/shop.Orders/List", md...); status.Code(err) {
			case codes.OK:
				passed++
			case codes.ResourceExhausted:
				if message := status.Convert(err).Message(); !strings.HasPrefix(message, "blocked by hotspot rule per-caller: ") {
					t.Errorf("%v: %q", md, message)
				}
			default:
				t.Errorf("%v: %v", md, err)
			}
		}
		want := perValue
		if md == nil {
			want = 2 * perValue
		}
		if passed != want {
			t.Errorf("%v: %d calls were let through, want %d", md, passed, want)
		}
	}
}

// seeNames: a connection whose name has had its share is closed before the upstream speaks.
func seeNames(t *testing.T, e *envoytest.Envoy) {
	for _, forms := range [][]string{{"db.example.com", "DB.Example.COM"}, {"x.example.com"}} {
		passed := 0
		for i := range 2 * perValue {
			if greets(t, e.Addr("named"), forms[i%len(forms)]) {
				passed++
			}
		}
		if passed != perValue {
			t.Errorf("%v: %d connections, want %d", forms, passed, perValue)
		}
	}
	for range 2 * perValue {
		connect(t, e.Addr("nameless"), "", "127.0.0.1")
	}
}

// greets is whether the upstream speaks to a client that sends a ClientHello with that name.
func greets(t *testing.T, addr, sni string) bool {
	t.Helper()
	ctx := envoytest.Context(t, soon)
	c, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	// The upstream's greeting is no ServerHello.
	err = tls.Client(c, &tls.Config{ServerName: sni}).HandshakeContext(ctx)
	if err == nil || ctx.Err() != nil {
		t.Fatalf("the handshake ends with %v", err)
	}
	return errors.As(err, new(tls.RecordHeaderError))
}
