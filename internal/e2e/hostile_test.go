package e2e

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"sentinel-envoy/internal/envoytest"
	"sentinel-envoy/internal/plugintest"
)

// mark is in everything that the hostile client sends, and must be in nothing that Envoy tells of us.
const mark = "qz7x"

// crafted are what the client puts into paths, headers, hosts, cookies and server names.
var crafted = []string{
	mark, mark + ";rule=x", mark + ";resource=a;rule=b;kind=flow;worker=7", mark + "%3Brule%3Dx%0a%00%zz%", mark + "." + mark + "..",
	mark + ":443", "[" + mark + "]", mark + `"\{}`, mark + "\xff\xfe\xc0\x80", mark + "\u2028\u202e\U0001f642", mark + "\tx",
	mark + "\x00", mark + "\x7f\x1b[31m", mark + "\nsentinel_passed 7", mark + "\r\nx-injected: " + mark, mark + " x", mark + "=1; c=2",
	strings.Repeat(mark+";rule=x,", 60<<10/13), // 60 KiB
}

const (
	// The rules of both HTTP listeners: each part of a request that a client chooses has a limit of its own.
	hostileRules = `
		"resource_name": "rest",
		"resources": [
			{"name": "by path", "match": {"path": {"regex": "(?s)/p.*"}}},
			{"name": "by host", "match": {"host": "*.example.com"}}],
		"hotspotRules": [
			{"id": "header", "resource": "rest", "metricType": 1, "threshold": 1, "durationInSec": 3600, "paramSource": "Header", "paramKey": "x", "paramsMaxCapacity": 64},
			{"id": "cookie", "resource": "rest", "metricType": 1, "threshold": 1, "durationInSec": 3600, "paramSource": "Cookie", "paramKey": "c", "paramsMaxCapacity": 64},
			{"id": "query", "resource": "rest", "threshold": 100, "paramSource": "Query", "paramKey": "q"},
			{"id": "segment", "resource": "by path", "metricType": 1, "threshold": 1, "durationInSec": 3600, "paramSource": "PathSegment", "paramsMaxCapacity": 64},
			{"id": "host", "resource": "by host", "metricType": 1, "threshold": 1, "durationInSec": 3600, "paramSource": "Host", "paramsMaxCapacity": 64}]`
	hostileTCP = `{"resource_name": "connections", %s
		"hotspotRules": [{"id": "sni", "resource": "connections", "metricType": 1, "threshold": 1, "durationInSec": 3600, "paramSource": "SNI", "paramsMaxCapacity": 64}],
		"flowRules": [{"id": %q, "resource": "connections", "threshold": 30, "statIntervalInMs": %d}]}`
	// quiet is after what silence of Envoy's there is no answer to come: it waits for more where crafted bytes made no end.
	quiet       = 500 * time.Millisecond
	hostileBody = "see https://example.com/limits\n"
)

// told is all that a refusal says where no body is configured.
var told = regexp.MustCompile(`^blocked by (hotspot|flow) rule (header|cookie|query|segment|host|sni|all|custom): \d+ of \d+ (in \d+ ms|in flight)` +
	`( for one (header x|cookie c|query parameter q|path segment|host|SNI))?(; last second \d+ passed, \d+ blocked)?\n$`)

// TestHostileClient sends what a client can think of to the compiled filters. Nothing of it reaches a metric, a log or an
// answer; nothing grows with it; and a block message says what is configured, and no more.
func TestHostileClient(t *testing.T) {
	web, echo := envoytest.StartHTTPService(t), envoytest.StartTCPService(t, "hello\n")
	custom := `"block": {"status": 503, "body": ` + quoteJSON(hostileBody) + `, "headers": {"x-reason": "limit"}},`
	e := start(t, envoytest.Config{Listeners: []envoytest.Listener{
		envoytest.HTTP{Name: "plain", Upstream: web.Addr(), MaxHeadersKB: 96, RawPaths: true, AccessLog: accessLog,
			Wasm: httpFilter(t, `{`+hostileRules+`}`)},
		envoytest.HTTP{Name: "custom", Upstream: web.Addr(), MaxHeadersKB: 96, Wasm: httpFilter(t, `{`+custom+hostileRules+`}`)},
		envoytest.TCP{Name: "tcp", Upstream: echo.Addr(), TLSInspector: true, InspectFor: 50 * time.Millisecond,
			Wasm: tcpFilter(t, fmt.Sprintf(hostileTCP, `"block": {"tcp_message": true},`, "all", forever))},
		envoytest.TCP{Name: "custom-tcp", Upstream: echo.Addr(), TLSInspector: true, InspectFor: 50 * time.Millisecond,
			Wasm: tcpFilter(t, fmt.Sprintf(hostileTCP, `"block": {"tcp_message": true, "body": `+quoteJSON(hostileBody)+`},`, "custom", forever))},
	}})
	refusals := besiege(t, e)
	for _, who := range []string{"plain", "custom"} {
		if refusals[who] < 10 {
			t.Errorf("%s: only %d refusals: the test tries nothing", who, refusals[who])
		}
	}
	for _, listener := range []string{"tcp", "custom-tcp"} {
		envoytest.Eventually(t, soon, "a silent client of "+listener+" is refused", func() bool {
			text := first(e.Dial(listener))
			isHeard(t, listener, text)
			return text != "hello\n"
		})
	}
	envoytest.Eventually(t, soon, "the refusals are counted", func() bool { return e.Sum("sentinel_blocked") >= 30 })
	seeNothingOf(t, e)
	series, memory := len(e.Prometheus()), resident(t, e)
	besiege(t, e)
	besiege(t, e)
	seeNothingOf(t, e)
	if got := len(e.Prometheus()); got > series+64 { // Envoy's own, of what had not happened before
		t.Errorf("%d samples became %d", series, got)
	}
	if grown := resident(t, e) - memory; grown > 64<<20 {
		t.Errorf("memory has grown by %d MiB", grown>>20)
	}
	if n := e.Sum("sentinel_faults"); n != 0 {
		t.Errorf("%v faults", n)
	}
	plugintest.NoVMDied(t, e)
}

func quoteJSON(s string) string { return `"` + strings.ReplaceAll(s, "\n", `\n`) + `"` }

// besiege sends everything crafted, in every place, several times, and returns how many refusals there were by listener.
func besiege(t *testing.T, e *envoytest.Envoy) map[string]int {
	t.Helper()
	var mu sync.Mutex
	refusals := map[string]int{}
	jobs := make(chan func() (listener string, refused bool))
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for job := range jobs {
				if listener, refused := job(); refused {
					mu.Lock()
					refusals[listener]++
					mu.Unlock()
				}
			}
		})
	}
	for i, text := range crafted {
		for _, request := range requests(text) {
			for range 2 {
				jobs <- func() (string, bool) { return "plain", refusedPlainly(t, e.Addr("plain"), request) }
				jobs <- func() (string, bool) { return "custom", refusedAsConfigured(t, e.Addr("custom"), request) }
			}
		}
		for range 2 {
			for _, listener := range []string{"tcp", "custom-tcp"} {
				jobs <- func() (string, bool) { converse(t, e, listener, text, i%2 == 0); return listener, false }
			}
		}
	}
	close(jobs)
	wg.Wait()
	return refusals
}

// requests put text into each part of a request.
func requests(text string) []string {
	const end = "connection: close\r\n\r\n"
	return []string{
		"GET /p" + text + " HTTP/1.1\r\nhost: a\r\n" + end,
		"GET /" + text + "?q=" + text + " HTTP/1.1\r\nhost: a\r\n" + end,
		"GET / HTTP/1.1\r\nhost: a\r\nx: " + text + "\r\n" + end,
		"GET / HTTP/1.1\r\nhost: a\r\ncookie: c=" + text + "\r\n" + end,
		"GET / HTTP/1.1\r\nhost: " + text + ".example.com\r\n" + end,
		"GET / HTTP/1.1\r\nhost: a\r\n" + text + ": 1\r\nx-forwarded-for: " + text + "\r\nx: " + mark + "\r\n" + end,
		text + " / HTTP/1.1\r\nhost: a\r\n" + end,
	}
}

// exchange sends raw bytes and reads the answer, nil where there is none that is HTTP.
func exchange(t *testing.T, addr, request string) (*http.Response, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	raw, err := envoytest.Raw(ctx, addr, []byte(request), quiet)
	if err != nil {
		t.Error(err)
		return nil, ""
	}
	response, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(raw)), nil)
	if err != nil {
		return nil, ""
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error(err)
	}
	return response, string(body)
}

// isRefusal is whether an answer is one of ours, which has nothing of the request in it and no header but these.
func isRefusal(t *testing.T, response *http.Response, body string) bool {
	t.Helper()
	if response == nil || response.Header.Get("x-envoy-ratelimited") == "" {
		return false
	}
	for name, values := range response.Header {
		switch name {
		case "X-Envoy-Ratelimited", "Retry-After", "Content-Type", "Content-Length", "Date", "Server", "Connection", "X-Reason":
		default:
			t.Errorf("a refusal has the header %s: %q", name, values)
		}
		if strings.Contains(strings.Join(values, ""), mark) {
			t.Errorf("a refusal's header %s is %q", name, values)
		}
	}
	if strings.Contains(body, mark) {
		t.Errorf("a refusal says %q", body)
	}
	return true
}

func refusedPlainly(t *testing.T, addr, request string) bool {
	t.Helper()
	response, body := exchange(t, addr, request)
	if !isRefusal(t, response, body) {
		return false
	}
	if response.StatusCode != http.StatusTooManyRequests || !told.MatchString(body) {
		t.Errorf("refused by status %d and %q", response.StatusCode, body)
	}
	return true
}

func refusedAsConfigured(t *testing.T, addr, request string) bool {
	t.Helper()
	response, body := exchange(t, addr, request)
	if !isRefusal(t, response, body) {
		return false
	}
	if response.StatusCode != http.StatusServiceUnavailable || body != hostileBody || response.Header.Get("x-reason") != "limit" ||
		response.Header.Get("content-type") != "text/plain" {
		t.Errorf("refused by status %d, %v and %q", response.StatusCode, response.Header, body)
	}
	return true
}

// converse says something, as a server's name or without TLS.
func converse(t *testing.T, e *envoytest.Envoy, listener, text string, asName bool) {
	t.Helper()
	d := net.Dialer{Timeout: soon}
	c, err := d.DialContext(t.Context(), "tcp", e.Addr(listener))
	if err != nil {
		t.Error(err)
		return
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(soon))
	if asName {
		seen := &heard{Conn: c}
		_ = tls.Client(seen, &tls.Config{ServerName: text}).HandshakeContext(t.Context()) // the greeting is no ServerHello
		isHeard(t, listener, seen.text.String())
	} else if _, err := io.WriteString(c, text); err == nil {
		isHeard(t, listener, first(c))
	}
}

// isHeard checks what a client hears: the service, nothing, or what the listener is to say.
func isHeard(t *testing.T, listener, text string) {
	t.Helper()
	refused := listener == "tcp" && told.MatchString(text) || listener == "custom-tcp" && text == hostileBody
	if text != "" && !strings.HasPrefix(text, "hello\n") && !refused {
		t.Errorf("a client of %s hears %q", listener, text)
	}
}

// heard is a connection that remembers what was read from it.
type heard struct {
	net.Conn
	text bytes.Buffer
}

func (h *heard) Read(b []byte) (int, error) {
	n, err := h.Conn.Read(b)
	h.text.Write(b[:n])
	return n, err
}

// seeNothingOf looks for what the client has sent, and for labels that nobody has configured.
func seeNothingOf(t *testing.T, e *envoytest.Envoy) {
	t.Helper()
	configured := map[string]string{
		"resource": "rest|by path|by%20path|by host|by%20host|connections", "rule": "header|cookie|query|segment|host|sni|all|custom",
		"kind": "flow|hotspot",
	}
	for _, s := range e.Prometheus() {
		if strings.Contains(fmt.Sprint(s.Name, s.Labels), mark) {
			t.Errorf("the metric %s has the labels %q", s.Name, s.Labels)
		}
		if !strings.Contains(s.Name, "sentinel") {
			continue
		}
		for label, value := range s.Labels {
			allowed, ok := configured[label]
			if label == "worker" {
				allowed, ok = "0|1|2|3|4", true
			}
			if !ok || !strings.Contains("|"+allowed+"|", "|"+value+"|") {
				t.Errorf("%s has the label %s=%q", s.Name, label, value)
			}
		}
	}
	for _, page := range []string{"/stats", "/stats?usedonly"} {
		if text, err := e.Admin.Get(t.Context(), page); err != nil || strings.Contains(text, mark) {
			t.Errorf("%s tells what a client has sent, or not at all: %v", page, err)
		}
	}
	if lines := e.Log.All(`\[wasm\].*` + mark); len(lines) > 0 {
		t.Errorf("our log tells what a client has sent: %q", lines[0])
	}
	if lines := e.AccessLog("plain").All(mark); len(lines) > 0 {
		t.Errorf("the access log of what blocked tells what a client has sent: %q", lines[0])
	}
}

// resident is Envoy's memory in bytes, or 0 where it cannot be told.
func resident(t *testing.T, e *envoytest.Envoy) int64 {
	t.Helper()
	rss, err := e.RSS()
	if errors.Is(err, os.ErrNotExist) {
		return 0
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("resident: %.1f MiB", float64(rss)/(1<<20))
	return rss
}
