package e2e

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"sentinel-envoy/internal/envoytest"
	"sentinel-envoy/internal/plugintest"
)

// bed is an Envoy with the services behind it: gRPC below /grpc., nobody below /nobody/, HTTP everywhere else.
type bed struct {
	*envoytest.Envoy
	web  *envoytest.HTTPService
	grpc *envoytest.GRPCService
}

// in is the bed for a subtest.
func (b bed) in(t *testing.T) bed {
	b.Envoy = b.For(t)
	return b
}

// scene is a test with the listeners that it needs: their plugin configurations by name. One whose name begins with
// "raw" takes paths as they come.
type scene struct {
	name    string
	configs map[string]string
	see     func(t *testing.T, b bed)
}

// The scenes share one Envoy, since starting one takes seconds.
func TestHTTP(t *testing.T) {
	b := bed{web: envoytest.StartHTTPService(t), grpc: envoytest.StartGRPCService(t)}
	scenes := []scene{
		{"resources", map[string]string{"resources": resourcesConfig()}, seeResources},
		{"without rules", map[string]string{"none": "", "empty": "{}"}, seeNothing},
		{"block", map[string]string{"block": blockConfig}, seeBlock},
		{"never", map[string]string{"never": neverConfig}, seeNever},
		{"answer", map[string]string{"answer": answerConfig}, seeAnswer},
		{"exits", map[string]string{"exits": exitsConfig()}, seeExits},
		{"duration", map[string]string{"duration": durationConfig}, seeDuration},
		{"shadow", map[string]string{"shadow": shadowConfig("shadow"), "enforce": shadowConfig("enforce")}, seeShadow},
		{"binary paths", map[string]string{"raw": rawConfig}, seeBinaryPaths},
		{"strange", map[string]string{"strange": strangeConfig}, seeStrange},
		{"names of Envoy's", map[string]string{
			"cluster": namesConfig("cluster_name", b.web.Addr()), "vhost": namesConfig("virtual_host", "vhost"), "not me": namesConfig("virtual_host", "vhost"),
		}, seeEnvoysNames},
	}
	var listeners []envoytest.Listener
	for _, s := range scenes {
		for name, config := range s.configs {
			listeners = append(listeners, envoytest.HTTP{
				Name: name, Upstream: b.web.Addr(), MaxHeadersKB: 96, RawPaths: strings.HasPrefix(name, "raw"), Wasm: httpFilter(t, config),
				Routes: []envoytest.Route{
					{Prefix: "/grpc.", Upstream: b.grpc.Addr()},
					{Prefix: "/nobody/", Upstream: envoytest.Nobody(t)},
					{Prefix: "/hurry/", Timeout: 100 * time.Millisecond},
					{Prefix: "/"},
				},
			})
		}
	}
	e := start(t, envoytest.Config{Listeners: listeners})
	for _, s := range scenes {
		t.Run(s.name, func(t *testing.T) {
			b.Envoy = e
			s.see(t, b.in(t))
		})
	}
	t.Run("no faults", func(t *testing.T) {
		if n := e.For(t).Sum("sentinel_faults"); n != 0 {
			t.Errorf("sentinel_faults is %v after all that", n)
		}
		if lines := e.Log.All(`^[^[]`); len(lines) > 0 {
			t.Errorf("something writes to the log past Envoy's logger: %q", lines[0])
		}
	})
}

// versions are the HTTP versions that a client may speak.
var versions = map[string]bool{"HTTP/1.1": false, "HTTP/2.0": true}

// send sends a request on a connection of its own.
func send(t *testing.T, b bed, h2 bool, listener, method, path string, headers ...string) envoytest.Response {
	t.Helper()
	client := envoytest.NewHTTPClient(h2)
	defer client.CloseIdleConnections()
	r, err := envoytest.Do(t.Context(), client, method, b.URL(listener)+path, headers...)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	return r
}

// blockedBy is the rule that an answer names, "" where the request was let through.
func blockedBy(t *testing.T, r envoytest.Response) string {
	t.Helper()
	switch r.Status {
	case http.StatusOK:
		return ""
	case http.StatusTooManyRequests:
		m := regexp.MustCompile(`^blocked by flow rule (\S+): `).FindStringSubmatch(r.Body)
		if m == nil {
			t.Fatalf("the answer does not name a rule: %q", r.Body)
		}
		return m[1]
	}
	t.Fatalf("status %d", r.Status)
	return ""
}

// resourcesConfig blocks every resource by a rule that has the resource's name.
func resourcesConfig() string {
	var rules []string
	for _, name := range []string{"put", "subdomain", "host", "exact", "prefix", "regex", "headers", "both", "/orders"} {
		rules = append(rules, flowRule("rule-"+strings.TrimPrefix(name, "/"), name, 0))
	}
	return `{"resource_name": "rest", ` + flowRules(rules...) + `, "resources": [
		{"name": "put",       "match": {"method": ["PUT", "PATCH"]}},
		{"name": "subdomain", "match": {"host": "*.example.com"}},
		{"name": "host",      "match": {"host": "api.test"}},
		{"name": "exact",     "match": {"path": {"exact": "/exact"}}},
		{"name": "both",      "match": {"path": {"exact": "/both"}, "method": ["POST"]}},
		{"name": "prefix",    "match": {"path": {"prefix": "/pre/"}}},
		{"name": "regex",     "match": {"path": {"regex": "/items/[0-9]+"}}},
		{"name": "headers",   "match": {"headers": [{"name": "X-Tier", "exact": "gold"}, {"name": "x-trace", "present": true}]}}
	]}`
}

func seeResources(t *testing.T, b bed) {
	cases := []struct {
		method, path string
		headers      []string
		want         string
	}{
		{"GET", "/", nil, ""},
		{"PUT", "/", nil, "rule-put"},
		{"PATCH", "/exact", nil, "rule-put"}, // the first match wins
		{"GET", "/", []string{"host", "shop.Example.com"}, "rule-subdomain"},
		{"GET", "/", []string{"host", "shop.example.com:8080"}, "rule-subdomain"},
		{"GET", "/", []string{"host", "example.com"}, ""},
		{"GET", "/", []string{"host", "api.test"}, "rule-host"},
		{"GET", "/", []string{"host", "api.test.evil"}, ""},
		{"GET", "/exact", nil, "rule-exact"},
		{"GET", "/exact/", nil, ""},
		{"GET", "/both", nil, ""},
		{"POST", "/both", nil, "rule-both"},
		{"GET", "/pre/x", nil, "rule-prefix"},
		{"GET", "/pre", nil, ""},
		{"GET", "/items/42", nil, "rule-regex"},
		{"GET", "/items/42/x", nil, ""},
		{"GET", "/items/x", nil, ""},
		{"GET", "/", []string{"x-tier", "gold", "x-trace", ""}, "rule-headers"},
		{"GET", "/", []string{"x-tier", "gold"}, ""},
		{"GET", "/", []string{"x-tier", "silver", "x-trace", "1"}, ""},
		// A path that is itself a rule's resource, and ways around it.
		{"GET", "/orders", nil, "rule-orders"},
		{"GET", "/orders?x=1", nil, "rule-orders"},
		{"GET", "/orders?", nil, "rule-orders"},
		{"GET", "//orders", nil, "rule-orders"},
		{"GET", "/a/../orders", nil, "rule-orders"},
		{"GET", "/./orders", nil, "rule-orders"},
		{"GET", "/a/%2e%2e/orders", nil, "rule-orders"},
		{"GET", "/orders/7", nil, ""},
		{"GET", "/Orders", nil, ""},
	}
	passed := 0.0
	for version, h2 := range versions {
		for _, c := range cases {
			if c.want == "" {
				passed++
			}
			r := send(t, b, h2, "resources", c.method, c.path, c.headers...)
			if got := blockedBy(t, r); got != c.want || r.Proto != version {
				t.Errorf("%s %s %s %v is blocked by %q in %s, want %q", version, c.method, c.path, c.headers, got, r.Proto, c.want)
			}
		}
	}
	if r := send(t, b, false, "resources", "GET", "/a%2f..%2forders"); r.Status != http.StatusTemporaryRedirect ||
		r.Header.Get("location") != "/orders" {
		t.Errorf("escaped slashes give %d to %q, want a redirect to /orders", r.Status, r.Header.Get("location"))
	}
	waitMetric(t, b.Envoy, 2, "sentinel_blocked", "resource", "regex", "rule", "rule-regex")
	waitMetric(t, b.Envoy, passed, "sentinel_passed", "resource", "rest")
}

// A filter without a configuration, or with an empty one, lets everything pass.
func seeNothing(t *testing.T, b bed) {
	for _, listener := range []string{"none", "empty"} {
		if r := b.Get(listener, "/"); r.Status != http.StatusOK {
			t.Errorf("%s: status %d", listener, r.Status)
		}
	}
}

var blockConfig = `{"resource_name": "limited", ` + flowRules(flowRule("two", "limited", 2)) + `}`

func seeBlock(t *testing.T, b bed) {
	before := b.web.Requests()
	for range 2 {
		if r := b.Get("block", "/"); r.Status != http.StatusOK {
			t.Fatalf("status %d within the threshold", r.Status)
		}
	}
	body := regexp.MustCompile(fmt.Sprintf(
		`^blocked by flow rule two: 2 of 2 in %d ms(; last second \d+ passed, ([1-9]\d*|0) blocked)?\n$`, forever))
	for version, h2 := range versions {
		r := send(t, b, h2, "block", "GET", "/")
		if r.Status != http.StatusTooManyRequests || r.Proto != version {
			t.Errorf("%s: status %d in %s, want 429", version, r.Status, r.Proto)
		}
		if !body.MatchString(r.Body) {
			t.Errorf("%s: body %q", version, r.Body)
		}
		retry, err := strconv.Atoi(r.Header.Get("retry-after"))
		if err != nil || retry < 1 || int64(retry) > forever/1000 {
			t.Errorf("%s: retry-after %q is not within the interval", version, r.Header.Get("retry-after"))
		}
		if got := r.Header.Get("x-envoy-ratelimited"); got != "true" {
			t.Errorf("%s: x-envoy-ratelimited %q", version, got)
		}
	}
	envoytest.Eventually(t, soon, "the body tells the rates", func() bool {
		m := body.FindStringSubmatch(b.Get("block", "/").Body)
		return len(m) == 3 && m[2] != "" && m[2] != "0"
	})
	err := envoytest.Call(t.Context(), b.GRPC("block"), "/grpc.Shop/List")
	if s := status.Convert(err); s.Code() != codes.ResourceExhausted || !strings.HasPrefix(s.Message(), "blocked by flow rule two: ") {
		t.Errorf("gRPC: %v", err)
	}
	if n := b.web.Requests() - before; n != 2 {
		t.Errorf("the service saw %d requests, want 2", n)
	}
	if n := b.grpc.Calls(); n != 0 {
		t.Errorf("the gRPC service saw %d calls of a blocked client", n)
	}
}

var neverConfig = `{"resource_name": "never", ` + flowRules(flowRule("never", "never", 0)) + `}`

// Where no wait helps, the answer names none.
func seeNever(t *testing.T, b bed) {
	r := b.Get("never", "/")
	if blockedBy(t, r) != "never" || len(r.Header["Retry-After"]) > 0 {
		t.Errorf("%d %q, retry-after %q", r.Status, r.Body, r.Header["Retry-After"])
	}
}

var answerConfig = `{"resource_name": "answered", ` + flowRules(flowRule("one", "answered", 1)) + `,
	"block": {"status": 503, "body": "{\"wait\": true}", "grpc_status": 14,
		"headers": {"content-type": "application/json", "Retry-After": "7", "x-why": "limit"}}}`

func seeAnswer(t *testing.T, b bed) {
	if r := b.Get("answer", "/"); r.Status != http.StatusOK {
		t.Fatalf("status %d within the threshold", r.Status)
	}
	want := http.Header{"Content-Type": {"application/json"}, "Retry-After": {"7"}, "X-Why": {"limit"},
		"X-Envoy-Ratelimited": {"true"}, "Content-Length": {"14"}}
	for version, h2 := range versions {
		r := send(t, b, h2, "answer", "GET", "/")
		if r.Status != 503 || r.Body != `{"wait": true}` {
			t.Errorf("%s: %d %q", version, r.Status, r.Body)
		}
		delete(r.Header, "Date")
		delete(r.Header, "Server")
		if !maps.EqualFunc(r.Header, want, func(a, b []string) bool { return strings.Join(a, "|") == strings.Join(b, "|") }) {
			t.Errorf("%s: headers\n%q, want\n%q", version, r.Header, want)
		}
	}
	err := envoytest.Call(t.Context(), b.GRPC("answer"), "/grpc.Shop/List")
	if s := status.Convert(err); s.Code() != codes.Unavailable || s.Message() != `{"wait": true}` {
		t.Errorf("gRPC: %v", err)
	}
}

// exits are ways in which a request ends. Each has a path of its own, which is its resource.
var exits = []struct {
	path   string
	failed float64
	do     func(t *testing.T, b bed, path string)
}{
	{"/status/200", 0, request(200)},
	{"/status/304", 0, request(304)},
	{"/status/404", 0, request(404)},
	{"/status/429", 0, request(429)},
	{"/status/500", 1, request(500)},
	{"/status/503", 1, request(503)},
	{"/nobody/listens", 1, request(503)},
	{"/hurry/up", 1, request(504, "x-delay-ms", "30000")},
	{"/reset/before", 1, request(503, "x-reset", "1")},
	{"/reset/amid", 1, broken(false)},
	{"/reset/amid/2", 1, broken(true)},
	{"/left/before", 0, abandoned(false)},
	{"/left/before/2", 0, abandoned(true)},
	{"/grpc.Shop/Fine", 0, call(codes.OK)},
	{"/grpc.Shop/NotFound", 0, call(codes.NotFound)},
	{"/grpc.Shop/Exhausted", 0, call(codes.ResourceExhausted)},
	{"/grpc.Shop/UnavailableAtOnce", 1, call(codes.Unavailable)},
	{"/grpc.Shop/InternalAtOnce", 1, call(codes.Internal)},
	{"/grpc.Shop/UnknownAtTheEnd", 1, call(codes.Unknown, "x-messages", "2")},
	{"/grpc.Shop/LossAtTheEnd", 1, call(codes.DataLoss, "x-messages", "1")},
	{"/grpc.Shop/LimitAtTheEnd", 0, call(codes.ResourceExhausted, "x-messages", "1")},
	{"/grpc.Shop/Left", 0, abandonedCall},
}

func exitsConfig() string {
	var rules []string
	for _, x := range exits {
		rules = append(rules, flowRule(x.path, x.path, 1000))
	}
	return `{"failures": {}, ` + flowRules(rules...) + `}` // without it nobody is asked how a request ended
}

func seeExits(t *testing.T, b bed) {
	for _, x := range exits {
		t.Run(x.path[1:], func(t *testing.T) {
			b := b.in(t)
			x.do(t, b, x.path)
			waitMetric(t, b.Envoy, 1, "sentinel_completed", "resource", x.path)
			waitMetric(t, b.Envoy, 0, "sentinel_in_flight", "resource", x.path)
			if got := b.Sum("sentinel_failed", "resource", x.path); got != x.failed {
				t.Errorf("sentinel_failed is %v, want %v", got, x.failed)
			}
		})
	}
}

// request is a request that is answered with that status.
func request(want int, headers ...string) func(*testing.T, bed, string) {
	return func(t *testing.T, b bed, path string) {
		if r := b.Get("exits", path, headers...); r.Status != want {
			t.Errorf("status %d, want %d", r.Status, want)
		}
	}
}

// broken is a request whose answer breaks off.
func broken(h2 bool) func(*testing.T, bed, string) {
	return func(t *testing.T, b bed, path string) {
		client := envoytest.NewHTTPClient(h2)
		defer client.CloseIdleConnections()
		r, err := envoytest.Do(t.Context(), client, "GET", b.URL("exits")+path, "x-reset", "1", "x-body-bytes", "1000")
		if err == nil || r.Status != 200 {
			t.Errorf("%d, %v; want 200 and an error", r.Status, err)
		}
	}
}

// abandoned is a request whose client leaves before there is an answer.
func abandoned(h2 bool) func(*testing.T, bed, string) {
	return func(t *testing.T, b bed, path string) { abandon(t, b, h2, "exits", path) }
}

// abandon sends a request and leaves when the service has it.
func abandon(t *testing.T, b bed, h2 bool, listener, path string) {
	t.Helper()
	client := envoytest.NewHTTPClient(h2)
	defer client.CloseIdleConnections()
	envoytest.Eventually(t, soon, "the service has answered all others", func() bool { return b.web.InFlight() == 0 })
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() {
		_, err := envoytest.Do(ctx, client, "GET", b.URL(listener)+path, "x-delay-ms", "30000")
		done <- err
	}()
	envoytest.Eventually(t, soon, "the service has the request", func() bool { return b.web.InFlight() > 0 })
	cancel()
	if err := <-done; err == nil {
		t.Error("the request was answered")
	}
}

// call is a gRPC call that ends with that code.
func call(want codes.Code, md ...string) func(*testing.T, bed, string) {
	return func(t *testing.T, b bed, path string) {
		md := append([]string{"x-code", strconv.Itoa(int(want))}, md...)
		if _, err := envoytest.Stream(t.Context(), b.GRPC("exits"), path, md...); status.Code(err) != want {
			t.Errorf("%v, want %v", err, want)
		}
	}
}

// abandonedCall is a gRPC stream whose client leaves after some messages.
func abandonedCall(t *testing.T, b bed, path string) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	before := b.grpc.Calls()
	done := make(chan error, 1)
	go func() {
		_, err := envoytest.Stream(ctx, b.GRPC("exits"), path, "x-messages", "100000", "x-delay-ms", "5")
		done <- err
	}()
	envoytest.Eventually(t, soon, "the service has the call", func() bool { return b.grpc.Calls() > before })
	waitMetric(t, b.Envoy, 1, "sentinel_in_flight", "resource", path)
	cancel()
	if err := <-done; status.Code(err) != codes.Canceled {
		t.Errorf("%v, want Canceled", err)
	}
}

var durationConfig = `{"resource_name": "slow", ` + flowRules(flowRule("/grpc.Shop/Open", "/grpc.Shop/Open", 1000)) + `}`

func seeDuration(t *testing.T, b bed) {
	for range 2 {
		if r := b.Get("duration", "/", "x-delay-ms", "150"); r.Status != http.StatusOK {
			t.Fatalf("status %d", r.Status)
		}
	}
	waitMetric(t, b.Envoy, 2, "sentinel_completed", "resource", "slow")
	if ms := b.Sum("sentinel_rt_ms_sum", "resource", "slow"); ms < 300 || ms > soon.Seconds()*1000 {
		t.Errorf("sentinel_rt_ms_sum is %v for two requests of 150 ms and more", ms)
	}

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan struct{}, 2)
	client, cc := envoytest.NewHTTPClient(false), b.GRPC("duration")
	defer client.CloseIdleConnections()
	url := b.URL("duration")
	go func() {
		_, _ = envoytest.Do(ctx, client, "GET", url, "x-delay-ms", "60000")
		ended <- struct{}{}
	}()
	go func() {
		_, _ = envoytest.Stream(ctx, cc, "/grpc.Shop/Open", "x-delay-ms", "60000")
		ended <- struct{}{}
	}()
	waitMetric(t, b.Envoy, 1, "sentinel_in_flight", "resource", "slow")
	waitMetric(t, b.Envoy, 1, "sentinel_in_flight", "resource", "/grpc.Shop/Open")
	cancel()
	<-ended
	<-ended
	waitMetric(t, b.Envoy, 0, "sentinel_in_flight", "resource", "slow")
	waitMetric(t, b.Envoy, 0, "sentinel_in_flight", "resource", "/grpc.Shop/Open")
}

func shadowConfig(mode string) string {
	return fmt.Sprintf(`{"resource_name": "shadowed", "mode": %q, %s}`, mode, flowRules(flowRule("shadowed", "shadowed", 2)))
}

func seeShadow(t *testing.T, b bed) {
	for i := range 5 {
		if r := b.Get("shadow", "/"); r.Status != http.StatusOK {
			t.Errorf("request %d in shadow mode: %d", i, r.Status)
		}
	}
	waitMetric(t, b.Envoy, 3, "sentinel_shadow_blocked", "resource", "shadowed", "rule", "shadowed")
	waitMetric(t, b.Envoy, 5, "sentinel_passed", "resource", "shadowed")
	if n := b.Sum("sentinel_blocked", "resource", "shadowed"); n != 0 {
		t.Errorf("sentinel_blocked is %v in shadow mode", n)
	}
	// The enforced budget has not been touched.
	for i, want := range []string{"", "", "shadowed"} {
		if got := blockedBy(t, b.Get("enforce", "/")); got != want {
			t.Errorf("enforced request %d is blocked by %q, want %q", i, got, want)
		}
	}
	waitMetric(t, b.Envoy, 1, "sentinel_blocked", "resource", "shadowed", "rule", "shadowed")
	if n := b.Sum("sentinel_shadow_blocked", "resource", "shadowed"); n != 3 {
		t.Errorf("sentinel_shadow_blocked is %v after enforced requests, want 3", n)
	}
}

// statusLine sends a request line and gives the first line of the answer.
func statusLine(t *testing.T, b bed, listener, line string) string {
	t.Helper()
	c := b.Dial(listener)
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(soon)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, line+" HTTP/1.1\r\nhost: a\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	answer, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	return strings.TrimSpace(answer)
}

// frames is an HTTP/2 client that sends the frames it is told to, on one connection.
type frames struct {
	*http2.Framer
	conn  *net.TCPConn
	block bytes.Buffer
	hpack *hpack.Encoder
}

// newFrames opens a connection to a listener.
func newFrames(t *testing.T, e *envoytest.Envoy, listener string) *frames {
	t.Helper()
	c := e.Dial(listener)
	f := &frames{Framer: http2.NewFramer(c, bufio.NewReader(c)), conn: c}
	f.hpack = hpack.NewEncoder(&f.block)
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	_, err := io.WriteString(c, http2.ClientPreface)
	if err = errors.Join(err, c.SetDeadline(time.Now().Add(soon)), f.WriteSettings()); err != nil {
		t.Fatal(err)
	}
	return f
}

// request begins stream 1. more are names and values of headers, in turn; last says that there is no body.
func (f *frames) request(t *testing.T, method, path string, last bool, more ...string) {
	t.Helper()
	fields := append([]string{":method", method, ":scheme", "http", ":authority", "a", ":path", path}, more...)
	for i := 0; i < len(fields); i += 2 {
		if err := f.hpack.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]}); err != nil {
			t.Fatal(err)
		}
	}
	err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: f.block.Bytes(), EndStream: last, EndHeaders: true})
	if err != nil {
		t.Fatal(err)
	}
}

// answer is the status of stream 1, or the name of the error it was reset with.
func (f *frames) answer(t *testing.T) string {
	t.Helper()
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		switch frame := frame.(type) {
		case *http2.MetaHeadersFrame:
			return frame.PseudoValue("status")
		case *http2.RSTStreamFrame:
			return frame.ErrCode.String()
		}
	}
}

// status2 sends an HTTP/2 request for a path that Go's client would not send, and gives the status of the answer.
func status2(t *testing.T, b bed, listener, path string) (code string) {
	t.Helper()
	f := newFrames(t, b.Envoy, listener)
	defer f.conn.Close()
	f.request(t, "GET", path, true)
	return f.answer(t)
}

var rawConfig = `{"resource_name": "other", ` + flowRules(
	flowRule("nul", "/%00%ff", 0), flowRule("matched", "matched", 0)) + `, "resources": [
		{"name": "matched", "match": {"path": {"regex": "/(?s:.){2}matched"}}}]}`

func seeBinaryPaths(t *testing.T, b bed) {
	before := b.web.Requests()
	passed := 0.0
	// Envoy answers them itself in HTTP/1.1.
	for _, path := range []string{"/\xff\xfe", "/\u00fc", "*"} {
		if got := statusLine(t, b, "raw", "OPTIONS "+path); !strings.HasPrefix(got, "HTTP/1.1 4") {
			t.Errorf("HTTP/1.1 path %q gives %q", path, got)
		}
	}
	for path, want := range map[string]string{
		"/%00%ff":          "429",
		"/%00%ff?\xff":     "429",
		"/\xff\xfematched": "429",
		"/\xff\xfe":        "200",
		"/\u00fc":          "200",
		"/\x80?\x81":       "200",
		"/?":               "200",
	} {
		if got := status2(t, b, "raw", path); got != want {
			t.Errorf("HTTP/2 path %q gives %q, want %s", path, got, want)
		}
		if want == "200" {
			passed++
		}
	}
	waitMetric(t, b.Envoy, passed, "sentinel_completed", "resource", "other")
	if n := b.web.Requests() - before; float64(n) != passed {
		t.Errorf("the service saw %d requests, want %v", n, passed)
	}
}

var strangeConfig = `{"resource_name": "strange", ` + flowRules(flowRule("strange", "strange", 1000000), flowRule("big", "big", 1000)) + `,
	"resources": [{"name": "big", "match": {"headers": [{"name": "x-big", "regex": "(ab)+"}]}}]}`

// Whatever clients send, nothing leaks and nothing fails in us.
func seeStrange(t *testing.T, b bed) {
	t.Run("no path", func(t *testing.T) {
		b := b.in(t)
		// Envoy's own answer: no route is for CONNECT.
		if got := statusLine(t, b, "strange", "CONNECT example.com:443"); got != "HTTP/1.1 404 Not Found" {
			t.Errorf("CONNECT gives %q", got)
		}
		waitMetric(t, b.Envoy, 1, "sentinel_completed", "resource", "strange")
	})
	t.Run("big headers", func(t *testing.T) {
		b := b.in(t)
		for _, h2 := range versions {
			r := send(t, b, h2, "strange", "GET", "/", "x-big", strings.Repeat("ab", 32<<10))
			if r.Status != http.StatusOK {
				t.Errorf("64 KiB of header give %d", r.Status)
			}
		}
		waitMetric(t, b.Envoy, 2, "sentinel_passed", "resource", "big")
	})
	t.Run("clients that leave", func(t *testing.T) {
		b := b.in(t)
		for i := range 30 {
			c := b.Dial("strange")
			switch i % 3 { // at once, amid the headers, after the request
			case 1:
				_, _ = io.WriteString(c, "GET / HT")
			case 2:
				_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nhost: a\r\nx-delay-ms: 20\r\n\r\n")
			}
			_ = c.SetLinger(0)
			c.Close()
		}
		for _, h2 := range versions {
			for range 5 {
				abandon(t, b, h2, "strange", "/")
			}
		}
	})
	t.Run("pipelined", func(t *testing.T) {
		b := b.in(t)
		const n = 20
		raw := b.Raw("strange", strings.Repeat("GET / HTTP/1.1\r\nhost: a\r\n\r\n", n-1)+"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
		if got := strings.Count(raw, "HTTP/1.1 200 OK"); got != n {
			t.Errorf("%d pipelined requests have %d answers", n, got)
		}
	})
	waitMetric(t, b.Envoy, 0, "sentinel_in_flight", "resource", "strange")
	envoytest.Eventually(t, soon, "as many requests have ended as have passed", func() bool {
		passed := b.Sum("sentinel_passed", "resource", "strange")
		return passed > 30 && passed == b.Sum("sentinel_completed", "resource", "strange")
	})
	if n := b.Sum("sentinel_in_flight"); n != 0 {
		t.Errorf("%v requests are in flight in all resources", n)
	}
	if n := b.Sum("sentinel_failed", "resource", "strange"); n != 0 {
		t.Errorf("%v clients' departures count as failures", n)
	}
}

// A fault of ours follows the failure mode, is counted, and the VM goes on.
func TestFailureMode(t *testing.T) {
	plugintest.NeedsRecover(t)
	web := envoytest.StartHTTPService(t)
	listener := func(mode string) envoytest.Listener {
		return envoytest.HTTP{Name: mode, Upstream: web.Addr(), Wasm: []envoytest.Wasm{{
			File: plugintest.File(t, plugintest.Faulty), RootID: "sentinel_http",
			Config: fmt.Sprintf(`{"resource_name": "r", "failure_mode": %q, %s}`, mode, flowRules(flowRule("f-"+mode, "r", 2))),
		}}}
	}
	e := start(t, envoytest.Config{Listeners: []envoytest.Listener{listener("open"), listener("closed")}})
	const faults = 6
	for range faults {
		if r := e.Get("open", "/", "x-sentinel-fault", "panic"); r.Status != http.StatusOK {
			t.Errorf("failure mode open: %d", r.Status)
		}
		if r := e.Get("closed", "/", "x-sentinel-fault", "panic"); r.Status != http.StatusServiceUnavailable ||
			r.Body != "flow control is unavailable\n" {
			t.Errorf("failure mode closed: %d %q", r.Status, r.Body)
		}
	}
	if n := web.Requests(); n != faults {
		t.Errorf("the service saw %d requests, want %d", n, faults)
	}
	err := envoytest.Call(t.Context(), e.GRPC("closed"), "/grpc.Shop/List", "x-sentinel-fault", "panic")
	if status.Code(err) != codes.Unavailable {
		t.Errorf("failure mode closed, gRPC: %v", err)
	}
	waitMetric(t, e, 2*faults+1, "sentinel_faults")
	e.WaitLog(soon, `fault 1: deciding: panic: injected`)
	// All workers go on and decide as before.
	for _, mode := range []string{"open", "closed"} {
		for i, want := range []string{"", "", "f-" + mode, "f-" + mode} {
			if got := blockedBy(t, e.Get(mode, "/")); got != want {
				t.Errorf("%s: request %d is blocked by %q, want %q", mode, i, got, want)
			}
		}
	}
	waitMetric(t, e, 0, "sentinel_in_flight", "resource", "r")
	waitMetric(t, e, 4, "sentinel_completed", "resource", "r")
}

// namesConfig refuses what goes to what has a name in Envoy.
func namesConfig(from, name string) string {
	return `{"resource_name": "rest", "resource_from": "` + from + `", ` + flowRules(flowRule("named", name, 0)) + `}`
}

func seeEnvoysNames(t *testing.T, b bed) {
	for _, c := range []struct {
		listener, path string
		want           string
	}{{"cluster", "/", "named"}, {"vhost", "/", "named"}, {"vhost", "/x", "named"}, {"not me", "/", ""}} {
		if got := blockedBy(t, b.Get(c.listener, c.path)); got != c.want {
			t.Errorf("%s %s is blocked by %q, want %q", c.listener, c.path, got, c.want)
		}
	}
	if r := b.Get("cluster", "/nobody/"); r.Status != http.StatusServiceUnavailable {
		t.Errorf("what goes to another cluster gets %d", r.Status)
	}
}

// Where a route spreads its requests over several clusters, each counts as the cluster that was chosen for it.
func TestWeightedClustersNames(t *testing.T) {
	full, free := envoytest.StartHTTPService(t), envoytest.StartHTTPService(t)
	weighted := []object{{"name": full.Addr(), "weight": 1}, {"name": free.Addr(), "weight": 1}}
	e := start(t, envoytest.Config{Upstreams: []string{free.Addr()}, Listeners: []envoytest.Listener{envoytest.HTTP{
		Upstream: full.Addr(), Wasm: httpFilter(t, namesConfig("cluster_name", full.Addr())),
		Manager: object{"route_config": object{"virtual_hosts": []object{{"name": "all", "domains": []string{"*"}, "routes": []object{
			{"match": object{"prefix": "/"}, "route": object{"weighted_clusters": object{"clusters": weighted}}}}}}}}}}})
	refused := 0
	const asked = 200
	for range asked {
		if blockedBy(t, e.Get("http", "/")) == "named" {
			refused++
		}
	}
	if n := full.Requests(); n != 0 || refused == 0 || refused == asked || int(free.Requests()) != asked-refused {
		t.Errorf("%d refused, %d for the cluster that has no room, %d for the other, of %d", refused, n, free.Requests(), asked)
	}
}
