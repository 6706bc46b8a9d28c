package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"sentinel-envoy/internal/envoytest"
)

// stage is an upstream that does what a request asks for. It reads the body first.
//
//	x-delay-ms  how long it waits before it answers
//	x-goes-on   after the beginning of its answer it says nothing more, until the client leaves
//	x-lasts-ms  of a WebSocket: how long it stays open
//	x-grpc      of gRPC: the status in its trailers
//	x-status    of others: the HTTP status
type stage struct {
	mu      sync.Mutex
	now     int
	most    int
	failing bool
}

func startStage(t *testing.T) (s *stage, addr string) {
	t.Helper()
	s = &stage{}
	server, err := envoytest.Serve("127.0.0.1:0", s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	return s, server.Addr
}

// inFlight is how many requests it has, and the most it has had.
func (s *stage) inFlight() (now, most int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now, s.most
}

// fail makes it answer with 500, at once, to all that follow; or not any more.
func (s *stage) fail(failing bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failing = failing
}

func (s *stage) enter() (failing bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now++
	s.most = max(s.most, s.now)
	return s.failing
}

func (s *stage) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now--
}

// ServeHTTP implements http.Handler.
func (s *stage) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer s.leave()
	if s.enter() {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	millis := func(name string) time.Duration {
		n, _ := strconv.Atoi(r.Header.Get(name))
		return time.Duration(n) * time.Millisecond
	}
	if r.Header.Get("upgrade") == "" {
		_, _ = io.Copy(io.Discard, r.Body)
	}
	if !wait(r.Context(), millis("x-delay-ms")) {
		return
	}
	switch {
	case r.Header.Get("upgrade") != "":
		upgrade(w, millis("x-lasts-ms"))
		return
	case r.Header.Get("x-grpc") != "":
		w.Header().Set("content-type", "application/grpc")
		w.Header().Set(http.TrailerPrefix+"grpc-status", r.Header.Get("x-grpc"))
		_, _ = w.Write(make([]byte, 5)) // an empty message
	case r.Header.Get("x-status") != "":
		code, _ := strconv.Atoi(r.Header.Get("x-status"))
		w.WriteHeader(code)
	}
	if r.Header.Get("x-goes-on") != "" {
		_, _ = io.WriteString(w, "data: 1\n\n")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}
}

// wait waits, and reports whether the context has not ended meanwhile.
func wait(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// upgrade opens a WebSocket, and closes it after some time.
func upgrade(w http.ResponseWriter, lasts time.Duration) {
	c, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer c.Close()
	_, _ = buf.WriteString("HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n")
	_ = buf.Flush()
	time.Sleep(lasts)
}

// errors3 is a breaker that opens at three failures of a resource, for retryMs milliseconds.
func errors3(resource string, retryMs int) string {
	return fmt.Sprintf(`{"id": %q, "resource": %[1]q, "strategy": "ErrorCount", "threshold": 3, "minRequestAmount": 1,
		"statIntervalMs": %d, "retryTimeoutMs": %d}`, resource, forever, retryMs)
}

// slow3 is a breaker that opens when three requests of a resource, and all, took longer than 200 ms.
func slow3(resource string) string {
	return fmt.Sprintf(`{"id": %q, "resource": %[1]q, "strategy": "SlowRequestRatio", "threshold": 1, "minRequestAmount": 3,
		"maxAllowedRtMs": 200, "statIntervalMs": %d, "retryTimeoutMs": 30000}`, resource, forever)
}

func breakers(rules ...string) string {
	return `"circuitBreakerRules": [` + strings.Join(rules, ", ") + `]`
}

// object is a piece of Envoy's configuration.
type object = map[string]any

// rbac is Envoy's filter that refuses requests with a header x-deny.
var rbac = object{"name": "envoy.filters.http.rbac", "typed_config": object{
	"@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC",
	"rules": object{"action": "DENY", "policies": object{"denied": object{
		"principals":  []object{{"any": true}},
		"permissions": []object{{"header": object{"name": "x-deny", "present_match": true}}},
	}}},
}}

// grpcWeb is Envoy's filter that makes gRPC of gRPC-Web.
var grpcWeb = object{"name": "envoy.filters.http.grpc_web", "typed_config": object{
	"@type": "type.googleapis.com/envoy.extensions.filters.http.grpc_web.v3.GrpcWeb",
}}

// culprit is a way in which requests to a listener of the same name end, three times, and what a breaker makes of that.
type culprit struct {
	name    string
	rule    func(resource string) string // of the breaker; default errors3
	manager object                       // fields of the connection manager
	filters []object                     // behind ours
	path    string                       // default "/svc"
	more    string                       // of the configuration
	end     func(t *testing.T, e *envoytest.Envoy, x culprit)
	opens   bool
}

// each does something as often as it takes to open a breaker.
func each(do func(t *testing.T, e *envoytest.Envoy, x culprit)) func(*testing.T, *envoytest.Envoy, culprit) {
	return func(t *testing.T, e *envoytest.Envoy, x culprit) {
		for range 3 {
			do(t, e, x)
		}
	}
}

// together does the same at once.
func together(do func(t *testing.T, e *envoytest.Envoy, x culprit)) func(*testing.T, *envoytest.Envoy, culprit) {
	return func(t *testing.T, e *envoytest.Envoy, x culprit) {
		var all sync.WaitGroup
		for range 3 {
			all.Go(func() { do(t, e, x) })
		}
		all.Wait()
	}
}

// gets sends a request with headers, and wants a status, 0 for none.
func gets(want int, headers ...string) func(*testing.T, *envoytest.Envoy, culprit) {
	return func(t *testing.T, e *envoytest.Envoy, x culprit) {
		r, err := envoytest.Do(envoytest.Context(t, soon), http.DefaultClient, "GET", e.URL(x.name)+x.path, headers...)
		if r.Status != want {
			t.Errorf("%d, %v, want %d", r.Status, err, want)
		}
	}
}

// leaves sends a request, and leaves when it has waited in vain.
func leaves(after time.Duration, headers ...string) func(*testing.T, *envoytest.Envoy, culprit) {
	return func(t *testing.T, e *envoytest.Envoy, x culprit) {
		client := envoytest.NewHTTPClient(false)
		defer client.CloseIdleConnections()
		r, err := envoytest.Do(envoytest.Context(t, after), client, "GET", e.URL(x.name)+x.path, headers...)
		if err == nil {
			t.Errorf("it was answered by %d", r.Status)
		}
	}
}

// uploads sends headers and a part of the body, and wants a status.
func uploads(want string) func(*testing.T, *envoytest.Envoy, culprit) {
	return func(t *testing.T, e *envoytest.Envoy, x culprit) {
		c := e.Dial(x.name)
		say(t, c, "POST "+x.path+" HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nabc")
		if got := first(c); !strings.HasPrefix(got, "HTTP/1.1 "+want) {
			t.Errorf("%q, want status %s", got, want)
		}
	}
}

// lies sends an HTTP/2 request whose content-length is not that of its body.
func lies(t *testing.T, e *envoytest.Envoy, x culprit) {
	f := newFrames(t, e, x.name)
	defer f.conn.Close()
	f.request(t, "POST", x.path, false, "content-length", "10")
	if err := f.WriteData(1, true, []byte("abc")); err != nil {
		t.Error(err)
	}
	if got := f.answer(t); got != "PROTOCOL_ERROR" && got != "INTERNAL_ERROR" {
		t.Errorf("got %s", got)
	}
}

// deaf asks for more than all buffers hold, and reads none of it.
func deaf(t *testing.T, e *envoytest.Envoy, x culprit) {
	f := newFrames(t, e, x.name) // with the window of 64 KiB that HTTP/2 begins with, which never grows
	defer f.conn.Close()
	f.request(t, "GET", x.path, true, "x-body-bytes", "30000000")
	if got := f.answer(t); got != "200" {
		t.Errorf("got %s", got)
	}
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		if frame.Header().Type == 3 { // RST_STREAM
			return
		}
	}
}

// socket opens a WebSocket that the service closes after so many milliseconds.
func socket(lasts string) func(*testing.T, *envoytest.Envoy, culprit) {
	return func(t *testing.T, e *envoytest.Envoy, x culprit) {
		c := e.Dial(x.name)
		say(t, c, "GET "+x.path+" HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n"+
			"x-lasts-ms: "+lasts+"\r\n\r\n")
		if got := drain(c); !strings.HasPrefix(got, "HTTP/1.1 101") {
			t.Errorf("got %q", got)
		}
	}
}

// slowly uploads for 0.8 s.
func slowly(t *testing.T, e *envoytest.Envoy, x culprit) {
	body, writer := io.Pipe()
	go func() {
		for range 4 {
			time.Sleep(200 * time.Millisecond)
			_, _ = writer.Write(make([]byte, 1000))
		}
		writer.Close()
	}()
	req, err := http.NewRequestWithContext(envoytest.Context(t, soon), "POST", e.URL(x.name)+x.path, body)
	if err != nil {
		t.Error(err)
		return
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Error(err)
		return
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("status %d", resp.StatusCode)
	}
}

// web is a gRPC-Web call that the service ends with a status.
func web(grpc string) func(*testing.T, *envoytest.Envoy, culprit) {
	return func(t *testing.T, e *envoytest.Envoy, x culprit) {
		if got := callWeb(t, e, x.name, x.path, "x-grpc", grpc); got != grpc {
			t.Errorf("grpc-status %q, want %s", got, grpc)
		}
	}
}

// callWeb makes a gRPC-Web call with an empty message, and gives its status, from headers or body.
func callWeb(t *testing.T, e *envoytest.Envoy, listener, path string, headers ...string) (grpcStatus string) {
	t.Helper()
	message := bytes.NewReader(make([]byte, 5))
	req, err := http.NewRequestWithContext(envoytest.Context(t, soon), "POST", e.URL(listener)+path, message)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("content-type", "application/grpc-web")
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	client := envoytest.NewHTTPClient(true)
	defer client.CloseIdleConnections()
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	if _, after, ok := strings.Cut(string(body), "grpc-status:"); ok {
		after, _, _ = strings.Cut(after, "\r\n")
		return strings.TrimSpace(after)
	}
	return resp.Header.Get("grpc-status")
}

var culprits = []culprit{
	{name: "content-length-10-and-3-bytes", end: each(lies)},
	{name: "stalled-upload-idle", manager: object{"stream_idle_timeout": "0.3s"}, end: each(uploads("408"))},
	{name: "stalled-upload-request-timeout", manager: object{"request_timeout": "0.3s"}, end: each(uploads("408"))},
	{name: "deaf-client", manager: object{"stream_idle_timeout": "1s"}, path: "/big", end: each(deaf)},
	{name: "max-stream-duration", end: each(gets(504, "x-delay-ms", "10000")),
		manager: object{"common_http_protocol_options": object{"max_stream_duration": "0.3s"}}},
	{name: "no-route", path: "/none", end: each(gets(404))},
	{name: "denied", filters: []object{rbac}, more: `, "failures": {"status": ["4xx", "5xx"]}`,
		end: each(gets(403, "x-deny", "1"))},
	{name: "direct-response", path: "/direct", end: each(gets(503))},
	{name: "left", end: each(leaves(100*time.Millisecond, "x-delay-ms", "10000"))},
	{name: "left-amid-the-answer", end: each(leaves(100*time.Millisecond, "x-goes-on", "1"))},
	{name: "left-amid-an-upload", end: each(func(t *testing.T, e *envoytest.Envoy, x culprit) {
		c := e.Dial(x.name)
		say(t, c, "POST "+x.path+" HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nabc")
		envoytest.Reset(c)
	})},
	{name: "websocket", end: each(socket("10"))},
	{name: "websockets-that-last", rule: slow3, end: together(socket("2000"))},
	{name: "slow-uploads", rule: slow3, end: together(slowly)},
	{name: "denied-slowly", rule: slow3, filters: []object{rbac}, end: each(gets(403, "x-deny", "1"))},

	{name: "hangs", manager: object{"stream_idle_timeout": "0.3s"}, end: each(gets(504, "x-delay-ms", "10000")), opens: true},
	{name: "stops-amid-the-answer", manager: object{"stream_idle_timeout": "1s"}, opens: true,
		end: each(gets(200, "x-goes-on", "1"))},
	{name: "route-timeout", path: "/hurry", end: each(gets(504, "x-delay-ms", "10000")), opens: true},
	{name: "refused", path: "/nobody", end: each(gets(503)), opens: true},
	{name: "slow-service", rule: slow3, end: together(gets(200, "x-delay-ms", "300")), opens: true},
	{name: "left-after-maxAllowedRtMs", rule: slow3, opens: true,
		end: together(leaves(time.Second, "x-delay-ms", "10000"))},
	{name: "left-before-maxAllowedRtMs", rule: slow3, end: together(leaves(100*time.Millisecond, "x-delay-ms", "10000"))},
	{name: "abandoned", more: `, "failures": {"abandoned_after_ms": 100}`, opens: true,
		end: together(leaves(time.Second, "x-delay-ms", "10000"))},
	{name: "grpc-web", path: "/svc.Web/Call", end: each(web("14")), opens: true},
	{name: "grpc-web-fine", path: "/svc.Web/Call", end: each(web("0"))},
}

// listener is where its requests go. A culprit named after gRPC-Web has that filter before ours.
func (x culprit) listener(t *testing.T, up, big, gone string) envoytest.HTTP {
	rule := x.rule
	if rule == nil {
		rule = func(resource string) string { return errors3(resource, 30000) }
	}
	filter := httpFilter(t, fmt.Sprintf(`{"resource_name": %q, %s%s}`, x.name, breakers(rule(x.name)), x.more))
	h := envoytest.HTTP{
		Name: x.name, Upstream: up, Wasm: filter, Filters: x.filters, Timeout: 20 * time.Second,
		Manager: object{"upgrade_configs": []object{{"upgrade_type": "websocket"}}},
		Routes: []envoytest.Route{
			{Prefix: "/svc"}, {Prefix: "/big", Upstream: big}, {Prefix: "/direct", DirectStatus: 503},
			{Prefix: "/hurry", Timeout: 300 * time.Millisecond}, {Prefix: "/nobody", Upstream: gone},
		},
	}
	if strings.HasPrefix(x.name, "grpc-web") {
		h.FiltersBefore = []object{grpcWeb}
	}
	for key, value := range x.manager {
		h.Manager[key] = value
	}
	return h
}

// TestBlame ends requests and connections in every way that is somebody's: three of them open a breaker where they were
// the service's doing, and else nothing.
func TestBlame(t *testing.T) {
	_, up := startStage(t)
	big := envoytest.StartHTTPService(t)
	gone := envoytest.Nobody(t)
	listeners := []envoytest.Listener{tcpOf(t, "tcp-brief", object{"max_downstream_connection_duration": "0.3s"}, up)}
	for i, x := range culprits {
		if x.path == "" {
			culprits[i].path = "/svc"
		}
		listeners = append(listeners, culprits[i].listener(t, up, big.Addr(), gone))
	}
	e := start(t, envoytest.Config{Listeners: listeners, Concurrency: 2})
	t.Run("all", func(t *testing.T) { // ends with the last of them
		for _, x := range culprits {
			t.Run(x.name, func(t *testing.T) {
				t.Parallel()
				e := e.For(t)
				x.end(t, e, x)
				judge(t, e, x.name, x.opens)
			})
		}
		t.Run("tcp-brief", func(t *testing.T) {
			t.Parallel()
			e := e.For(t)
			for range 3 {
				drain(e.Dial("tcp-brief"))
			}
			judge(t, e, "tcp-brief", false)
		})
	})
	waitMetric(t, e, 0, "sentinel_faults")
}

// tcpOf is a TCP listener with a breaker of the same name.
func tcpOf(t *testing.T, name string, proxy object, up string) envoytest.TCP {
	return envoytest.TCP{
		Name: name, Upstream: up, Proxy: proxy,
		Wasm: tcpFilter(t, fmt.Sprintf(`{"resource_name": %q, %s}`, name, breakers(errors3(name, 30000)))),
	}
}

// judge waits for what a breaker makes of three ends. Where a worker has exported them it has counted them, too.
func judge(t *testing.T, e *envoytest.Envoy, name string, opens bool) {
	t.Helper()
	waitMetric(t, e, 3, "sentinel_completed", "resource", name)
	state := func() float64 { return e.Sum("sentinel_breaker_state", "rule", name) }
	if opens {
		envoytest.Eventually(t, soon, "it opens", func() bool { return state() == open })
		return
	}
	if got := state(); got != closed {
		t.Errorf("the breaker's gauge is %v", got)
	}
	if got := e.Sum("sentinel_failed", "resource", name); got != 0 {
		t.Errorf("%v failures", got)
	}
}

// TestProbeThatSaysNothing: what ends a probe without a word of the service's leaves the breaker half open, and its place to
// the next.
func TestProbeThatSaysNothing(t *testing.T) {
	service, up := startStage(t)
	listener := func(name string) envoytest.Listener {
		return envoytest.HTTP{
			Name: name, Upstream: up, Filters: []object{rbac}, Routes: []envoytest.Route{{Prefix: "/svc"}},
			Wasm: httpFilter(t, fmt.Sprintf(`{"resource_name": %q, %s}`, name, breakers(errors3(name, 500)))),
		}
	}
	parts := []struct {
		name string
		end  func(*testing.T, *envoytest.Envoy, culprit)
		path string
	}{
		{"client-leaves", leaves(500*time.Millisecond, "x-delay-ms", "10000"), "/svc"},
		{"denied", gets(403, "x-deny", "1"), "/svc"},
		{"no-route", gets(404), "/none"},
	}
	var listeners []envoytest.Listener
	for _, p := range parts {
		listeners = append(listeners, listener(p.name))
	}
	e := start(t, envoytest.Config{Listeners: listeners, Concurrency: 1})
	for _, p := range parts {
		t.Run(p.name, func(t *testing.T) {
			e := e.For(t)
			service.fail(true)
			for range 3 {
				e.Get(p.name, "/svc")
			}
			service.fail(false)
			state := func() float64 { return e.Sum("sentinel_breaker_state", "rule", p.name) }
			envoytest.Eventually(t, soon, "it opens", func() bool { return state() == open })
			waitUntilProbe(t, e, p.name)
			for range 3 {
				p.end(t, e, culprit{name: p.name, path: p.path})
				if got := state(); got != halfOpen {
					t.Fatalf("the gauge is %v", got)
				}
			}
			if r := e.Get(p.name, "/svc"); r.Status != http.StatusOK {
				t.Errorf("the next is answered by %d %q", r.Status, r.Body)
			}
			waitMetric(t, e, closed, "sentinel_breaker_state", "rule", p.name)
		})
	}
}

// waitUntilProbe waits until a breaker lets probes in, with requests that another filter answers. A worker that has not heard yet
// that the breaker is open lets in others.
func waitUntilProbe(t *testing.T, e *envoytest.Envoy, listener string) {
	t.Helper()
	envoytest.Eventually(t, soon, "it lets a probe in", func() bool {
		return e.Get(listener, "/svc", "x-deny", "1").Status == http.StatusForbidden &&
			e.Sum("sentinel_breaker_state", "rule", listener) == halfOpen
	})
}

// TestResponseTime: the average response time of a process has no share of the time that clients take, of connections, or
// of what waits in our own queue.
func TestResponseTime(t *testing.T) {
	_, up := startStage(t)
	const average = `"systemRules": [{"id": "average", "metricType": "AvgRT", "triggerCount": 200}]`
	paced := fmt.Sprintf(`{"resource_name": "paced", "flowRules": [{"id": "pace", "resource": "paced", "threshold": 5,
		"controlBehavior": "Throttling", "maxQueueingTimeMs": 5000}], %s}`,
		breakers(strings.Replace(slow3("paced"), `"maxAllowedRtMs": 200`, `"maxAllowedRtMs": 300`, 1)))
	e := start(t, envoytest.Config{Concurrency: 2, Listeners: []envoytest.Listener{
		envoytest.HTTP{Name: "http", Upstream: up, Wasm: httpFilter(t, `{"resource_name": "r", `+average+`}`)},
		envoytest.HTTP{Name: "paced", Upstream: up, Wasm: httpFilter(t, paced)},
		envoytest.TCP{Name: "tcp", Upstream: up, Wasm: tcpFilter(t, `{"resource_name": "c"}`)},
	}})
	admits := func(t *testing.T, e *envoytest.Envoy) {
		t.Helper()
		for end := time.Now().Add(1200 * time.Millisecond); time.Now().Before(end); {
			if r := e.Get("http", "/svc", "x-delay-ms", "50"); r.Status != http.StatusOK {
				t.Fatalf("%d %q", r.Status, r.Body)
			}
		}
	}
	t.Run("six uploads of 0.8 s", func(t *testing.T) {
		var all sync.WaitGroup
		for range 6 {
			all.Go(func() { slowly(t, e, culprit{name: "http", path: "/svc"}) })
		}
		all.Wait()
		admits(t, e.For(t))
	})
	t.Run("connections", func(t *testing.T) {
		e := e.For(t)
		var all []net.Conn
		for range 3 {
			c := e.Dial("tcp")
			say(t, c, "GET /svc HTTP/1.1\r\nhost: a\r\n\r\n")
			expect(t, c, "HTTP/1.1 200")
			all = append(all, c)
		}
		time.Sleep(time.Second) // so long they last
		for _, c := range all {
			c.Close()
		}
		admits(t, e)
	})
	t.Run("eight at five a second", func(t *testing.T) {
		e := e.For(t)
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() { gets(200, "x-delay-ms", "10")(t, e, culprit{name: "paced", path: "/svc"}) })
		}
		all.Wait()
		waitMetric(t, e, 8, "sentinel_completed", "resource", "paced")
		if got := e.Sum("sentinel_breaker_state", "rule", "paced"); got != closed {
			t.Errorf("the breaker's gauge is %v", got)
		}
	})
	t.Run("a slow service", func(t *testing.T) { // the rule does refuse for what is slow
		e := e.For(t)
		envoytest.Eventually(t, soon, "it refuses", func() bool {
			return e.Get("http", "/svc", "x-delay-ms", "500").Status == http.StatusTooManyRequests
		})
	})
	waitMetric(t, e, 0, "sentinel_faults")
}

// TestRefusedCalls: a refused call of gRPC, or of gRPC-Web, gets the configured status.
func TestRefusedCalls(t *testing.T) {
	_, up := startStage(t)
	filter := func(answer string) []envoytest.Wasm {
		return httpFilter(t, `{"resource_name": "r", "block": {`+answer+`}, `+flowRules(flowRule("none", "r", 0))+`}`)
	}
	e := start(t, envoytest.Config{Concurrency: 1, Listeners: []envoytest.Listener{
		envoytest.HTTP{Name: "8", Upstream: up, Wasm: filter(``), FiltersBefore: []object{grpcWeb}},
		envoytest.HTTP{
			Name: "14", Upstream: up, Wasm: filter(`"grpc_status": 14, "status": 503`), FiltersBefore: []object{grpcWeb},
		},
	}})
	for _, want := range []codes.Code{8, 14} {
		listener := fmt.Sprint(uint32(want))
		if got := callWeb(t, e, listener, "/svc.Web/Call"); got != listener {
			t.Errorf("gRPC-Web: %s, want %s", got, listener)
		}
		if err := envoytest.Call(t.Context(), e.GRPC(listener), "/svc.Native/Call"); status.Code(err) != want {
			t.Errorf("gRPC: %v, want %v", err, want)
		}
	}
}
