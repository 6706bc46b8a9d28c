package e2e

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"sentinel-envoy/internal/envoytest"
)

// inspectFor is how long the TLS inspector waits for a client that says nothing, as in envoy/envoy.yaml.
const inspectFor = 50 * time.Millisecond

// part is a test that shares its Envoy with others: the listeners it needs, and what it does with them.
type part struct {
	listeners []envoytest.Listener
	see       func(*testing.T, *envoytest.Envoy)
}

// TestTCP has all parts on one Envoy: each start compiles the module anew, for seconds.
func TestTCP(t *testing.T) {
	parts := []struct {
		name string
		part
	}{
		{"Ends", tcpEnds(t)},
		{"CloseAtOnce", tcpCloseAtOnce(t)},
		{"BlockedBeforeTheUpstream", tcpBlocked(t)},
		{"BlockMessage", tcpBlockMessage(t)},
		{"Shadow", tcpShadow(t)},
		{"OneBudgetWithHTTP", oneBudget(t)},
		{"Resources", tcpResources(t)}, // the last: it updates the listeners
	}
	var listeners []envoytest.Listener
	for _, p := range parts {
		listeners = append(listeners, p.listeners...)
	}
	e := start(t, envoytest.Config{Dynamic: true, Listeners: listeners})
	for _, p := range parts {
		t.Run(p.name, func(t *testing.T) { p.see(t, e.For(t)) })
	}
	waitMetric(t, e, 0, "sentinel_faults")
}

// tcpEnds ends connections in every way there is: each is in flight while it is open and not after, and only what the
// upstream did wrong counts as failed.
func tcpEnds(t *testing.T) (p part) {
	const refused, upstreamReset = "refused", "upstream-rst"
	upstreams := map[string]*envoytest.TCPService{}
	cases := []struct {
		name   string
		end    func(client *net.TCPConn, upstream *envoytest.TCPService)
		failed float64
	}{
		{"client-fin", func(c *net.TCPConn, _ *envoytest.TCPService) { c.Close() }, 0},
		{"client-rst", func(c *net.TCPConn, _ *envoytest.TCPService) { envoytest.Reset(c) }, 0},
		{"upstream-fin", func(c *net.TCPConn, u *envoytest.TCPService) { u.CloseConns(false); drain(c); c.Close() }, 0},
		{upstreamReset, func(c *net.TCPConn, u *envoytest.TCPService) { u.CloseConns(true); drain(c) }, 1},
		{refused, func(c *net.TCPConn, _ *envoytest.TCPService) { drain(c) }, 1},
	}
	for _, c := range cases {
		addr := envoytest.Nobody(t)
		if c.name != refused {
			upstreams[c.name] = envoytest.StartTCPService(t, "hello\n")
			addr = upstreams[c.name].Addr()
		}
		p.listeners = append(p.listeners, envoytest.TCP{
			Name: c.name, Upstream: addr, Wasm: tcpFilter(t, `{"resource_name": "`+c.name+`"}`),
		})
	}
	p.see = func(t *testing.T, e *envoytest.Envoy) {
		for _, c := range cases {
			t.Run(c.name, func(t *testing.T) {
				e := e.For(t)
				conn := e.Dial(c.name)
				if c.name != refused {
					expect(t, conn, "hello\n")
					waitMetric(t, e, 1, "sentinel_in_flight", "resource", c.name)
				}
				c.end(conn, upstreams[c.name])
				waitMetric(t, e, 1, "sentinel_completed", "resource", c.name)
				waitMetric(t, e, 0, "sentinel_in_flight", "resource", c.name)
				waitMetric(t, e, 1, "sentinel_passed", "resource", c.name)
				failed := c.failed
				if c.name == upstreamReset && olderThan(t, e, "1.38") {
					failed = 0
					t.Attr("failed", "Envoy does not tell the filter of it: it counts as completed, not as failed")
				}
				waitMetric(t, e, failed, "sentinel_failed", "resource", c.name)
			})
		}
	}
	return p
}

// tcpCloseAtOnce opens and drops connections without a word: none stays in flight.
func tcpCloseAtOnce(t *testing.T) part {
	const connections = 200
	up := envoytest.StartTCPService(t, "hello\n")
	return part{
		listeners: []envoytest.Listener{envoytest.TCP{
			Name: "hasty", Upstream: up.Addr(), Wasm: tcpFilter(t, `{"resource_name": "hasty"}`),
		}},
		see: func(t *testing.T, e *envoytest.Envoy) {
			for i := range connections {
				if c := e.Dial("hasty"); i%2 == 0 {
					envoytest.Reset(c)
				} else {
					c.Close()
				}
			}
			envoytest.Eventually(t, soon, "Envoy has seen all connections", func() bool {
				return e.Stats()["tcp.hasty.downstream_cx_total"] == connections
			})
			waitMetric(t, e, connections, "sentinel_passed", "resource", "hasty")
			waitMetric(t, e, connections, "sentinel_completed", "resource", "hasty")
			waitMetric(t, e, 0, "sentinel_in_flight", "resource", "hasty")
		},
	}
}

// tcpBlocked: a blocked connection is closed, whether its client speaks or not, and the upstream never hears of it.
func tcpBlocked(t *testing.T) part {
	up := envoytest.StartTCPService(t, "")
	return part{
		listeners: []envoytest.Listener{envoytest.TCP{
			Name: "full", Upstream: up.Addr(), AccessLog: accessLog,
			Wasm: tcpFilter(t, `{"resource_name": "full", `+flowRules(flowRule("full-total", "full", 2))+`}`),
		}},
		see: func(t *testing.T, e *envoytest.Envoy) {
			var allowed [2]net.Conn
			for i := range allowed {
				allowed[i] = e.Dial("full")
				say(t, allowed[i], "ping")
				expect(t, allowed[i], "ping")
			}
			for _, words := range []string{"", "let me in", strings.Repeat("x", 1<<20)} {
				c := e.Dial("full")
				go func() { _, _ = io.WriteString(c, words) }() // Envoy may close while we write
				if got := drain(c); got != "" {
					t.Errorf("a blocked client got %q", got)
				}
			}
			say(t, allowed[0], "pong")
			expect(t, allowed[0], "pong")
			if up.Accepted() != 2 || up.Bytes() != int64(len("pingpingpong")) {
				t.Errorf("the upstream saw %d connections and %d bytes", up.Accepted(), up.Bytes())
			}
			if n := e.Stats()["cluster."+strings.ReplaceAll(up.Addr(), ":", "_")+".upstream_cx_total"]; n != 2 {
				t.Errorf("Envoy opened %v connections to the upstream, want 2", n)
			}
			waitMetric(t, e, 3, "sentinel_blocked", "resource", "full", "rule", "full-total", "kind", "flow")
			waitMetric(t, e, 2, "sentinel_passed", "resource", "full")
			waitMetric(t, e, 2, "sentinel_in_flight", "resource", "full")

			for _, c := range allowed {
				c.Close()
			}
			envoytest.Eventually(t, soon, "the access log has all five connections", func() bool {
				log := e.AccessLog("full")
				return len(log.All(`^blocked_by=flow:full-total figure=2/2$`)) == 3 && len(log.All(`^blocked_by=- figure=-$`)) == 2
			})
		},
	}
}

// tcpBlockMessage: where the server speaks first, a blocked client can get a message in place of its first words. The
// server sees a connection and no byte of the client's.
func tcpBlockMessage(t *testing.T) part {
	greeter := envoytest.StartTCPService(t, "hello\n")
	silent := envoytest.StartTCPService(t, "")
	listener := func(name string, up *envoytest.TCPService, block string) envoytest.Listener {
		return envoytest.TCP{Name: name, Upstream: up.Addr(), Wasm: tcpFilter(t, fmt.Sprintf(
			`{"resource_name": %q, "block": %s, %s}`, name, block, flowRules(flowRule(name+"-rule", name, 0))))}
	}
	names := []string{"custom", "explained", "wordless", "silent"}
	return part{
		listeners: []envoytest.Listener{
			listener(names[0], greeter, `{"tcp_message": true, "body": "come back later\n"}`),
			listener(names[1], greeter, `{"tcp_message": true}`),
			listener(names[2], greeter, `{"body": "unused"}`),
			listener(names[3], silent, `{"tcp_message": true}`),
		},
		see: func(t *testing.T, e *envoytest.Envoy) {
			if got := drain(e.Dial("wordless")); got != "" || greeter.Accepted() != 0 {
				t.Errorf("without tcp_message: got %q, and the upstream saw %d connections", got, greeter.Accepted())
			}
			if got := drain(e.Dial("custom")); got != "come back later\n" {
				t.Errorf("a message of the configuration: got %q", got)
			}
			if got := drain(e.Dial("explained")); !strings.HasPrefix(got, "blocked by flow rule explained-rule: 0 of 0 in ") {
				t.Errorf("a message of ours: got %q", got)
			}
			if got := drain(e.Dial("silent")); got != "" {
				t.Errorf("client and server silent: got %q", got)
			}
			for _, name := range []string{"silent", "custom"} {
				c := e.Dial(name)
				go func() { _, _ = io.WriteString(c, "let me in") }()
				// With a server that speaks, too, either may be first.
				if got := drain(c); got != "" && (name == "silent" || got != "come back later\n") {
					t.Errorf("a client that speaks first, %s: got %q", name, got)
				}
			}
			if greeter.Bytes()+silent.Bytes() != 0 {
				t.Errorf("the upstreams saw %d and %d bytes of blocked clients'", greeter.Bytes(), silent.Bytes())
			}
			for _, name := range names {
				waitMetric(t, e, 0, "sentinel_passed", "resource", name)
				waitMetric(t, e, 0, "sentinel_in_flight", "resource", name)
			}
			waitMetric(t, e, 1, "sentinel_blocked", "resource", "wordless")
			waitMetric(t, e, 2, "sentinel_blocked", "resource", "custom")
			waitMetric(t, e, 1, "sentinel_blocked", "resource", "explained")
			waitMetric(t, e, 2, "sentinel_blocked", "resource", "silent")
		},
	}
}

// tcpShadow: a filter in shadow mode decides and counts, blocks nobody, and spends nothing of the rule's own budget.
func tcpShadow(t *testing.T) part {
	up := envoytest.StartTCPService(t, "hello\n")
	listener := func(mode string) envoytest.Listener {
		return envoytest.TCP{Name: mode, Upstream: up.Addr(), Wasm: tcpFilter(t,
			`{"resource_name": "shady", "mode": "`+mode+`", `+flowRules(flowRule("shady-total", "shady", 1))+`}`)}
	}
	return part{
		listeners: []envoytest.Listener{listener("shadow"), listener("enforce")},
		see: func(t *testing.T, e *envoytest.Envoy) {
			for range 3 {
				expect(t, e.Dial("shadow"), "hello\n")
			}
			expect(t, e.Dial("enforce"), "hello\n")
			if got := drain(e.Dial("enforce")); got != "" {
				t.Errorf("a blocked client got %q", got)
			}
			waitMetric(t, e, 2, "sentinel_shadow_blocked", "resource", "shady", "rule", "shady-total")
			waitMetric(t, e, 1, "sentinel_blocked", "resource", "shady", "rule", "shady-total")
			waitMetric(t, e, 4, "sentinel_passed", "resource", "shady")
		},
	}
}

// oneBudget is guarantee 3: requests and connections, on whatever worker, spend one budget where their rules have one
// id.
func oneBudget(t *testing.T) part {
	const threshold = 40
	web := envoytest.StartHTTPService(t)
	up := envoytest.StartTCPService(t, "hello\n")
	return part{
		listeners: []envoytest.Listener{
			envoytest.HTTP{Name: "web", Upstream: web.Addr(), AccessLog: accessLog, Wasm: httpFilter(t,
				`{"resource_name": "web", `+flowRules(flowRule("both", "web", threshold))+`}`)},
			envoytest.TCP{Name: "db", Upstream: up.Addr(), Wasm: tcpFilter(t,
				`{"resource_name": "db", `+flowRules(flowRule("both", "db", threshold))+`}`)},
		},
		see: func(t *testing.T, e *envoytest.Envoy) {
			requests, connections := 0, 0
			for range threshold {
				if e.Get("web", "/").Status == 200 {
					requests++
				}
				if first(e.Dial("db")) == "hello\n" {
					connections++
				}
			}
			if requests+connections != threshold || requests == 0 || connections == 0 {
				t.Errorf("%d requests and %d connections passed, want %d in all", requests, connections, threshold)
			}
			waitMetric(t, e, float64(requests), "sentinel_passed", "resource", "web")
			waitMetric(t, e, float64(connections), "sentinel_passed", "resource", "db")
			waitMetric(t, e, threshold, "sentinel_blocked", "rule", "both")
			envoytest.Eventually(t, soon, "the access log names the rule of each blocked request", func() bool {
				log := e.AccessLog("web")
				return len(log.All(fmt.Sprintf(`^blocked_by=flow:both figure=%d/%[1]d$`, threshold))) == threshold-requests &&
					len(log.All(`^blocked_by=- figure=-$`)) == requests
			})
		},
	}
}

// tcpResources: SNI, source address and destination port say which resource a connection belongs to; the rest is
// resource_name's.
func tcpResources(t *testing.T) part {
	up := envoytest.StartTCPService(t, "hello\n")
	listener := func(name string, patience time.Duration, resources string) envoytest.Listener {
		return envoytest.TCP{Name: name, Upstream: up.Addr(), TLSInspector: true, InspectFor: patience,
			Wasm: tcpFilter(t, `{"resource_name": "tcp-rest", "resources": [`+resources+`]}`)}
	}
	const resources = `{"name": "sni", "match": {"sni": "db.example.com"}},
		{"name": "sni-suffix", "match": {"sni": "*.shop.example.com"}},
		{"name": "near", "match": {"source_ip": "127.0.0.8/29"}}`
	cases := []struct{ sni, source, resource string }{
		{"db.example.com", "127.0.0.1", "sni"},
		{"DB.Example.com", "127.0.0.9", "sni"}, // first match wins
		{"a.shop.example.com", "127.0.0.1", "sni-suffix"},
		{"shop.example.com", "127.0.0.1", "tcp-rest"},
		{"", "127.0.0.9", "near"},
		{"", "127.0.0.16", "tcp-rest"},
		{"", "127.0.0.1", "tcp-rest"},
	}
	return part{
		// A ClientHello may be late on a busy machine, and the short patience is only for those who send none.
		listeners: []envoytest.Listener{listener("sorted", inspectFor, resources), listener("sorted-tls", soon, resources)},
		see: func(t *testing.T, e *envoytest.Envoy) {
			want := map[string]float64{}
			for _, c := range cases {
				want[c.resource]++
				name := "sorted"
				if c.sni != "" {
					name = "sorted-tls"
				}
				connect(t, e.Addr(name), c.sni, c.source)
				waitMetric(t, e, want[c.resource], "sentinel_passed", "resource", c.resource)
			}
			for resource, n := range want {
				waitMetric(t, e, n, "sentinel_passed", "resource", resource)
			}
			port := envoytest.PortOf(t, e.Addr("sorted"))
			e.Update(listener("sorted", inspectFor, fmt.Sprintf(`{"name": "other-port", "match": {"destination_port": %d}},
				{"name": "this-port", "match": {"destination_port": %d}}`, port%65535+1, port)))
			envoytest.Eventually(t, soon, "connections to the port are its resource's", func() bool {
				connect(t, e.Addr("sorted"), "", "127.0.0.1")
				return e.Sum("sentinel_passed", "resource", "this-port") > 0
			})
			waitMetric(t, e, 0, "sentinel_passed", "resource", "other-port")
		},
	}
}

// accessLog is a format that says what blocked a stream.
const accessLog = "blocked_by=%FILTER_STATE(wasm.sentinel_blocked_by:PLAIN)% figure=%FILTER_STATE(wasm.sentinel_blocked_figure:PLAIN)%"

// connect opens a connection from a local address, with a TLS ClientHello for sni unless that is empty, and waits until
// the upstream has spoken.
func connect(t *testing.T, addr, sni, source string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}}
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if sni != "" {
		// The upstream's greeting is no ServerHello.
		err := tls.Client(c, &tls.Config{ServerName: sni}).HandshakeContext(ctx)
		if record := new(tls.RecordHeaderError); !errors.As(err, record) {
			t.Fatalf("the handshake ends with %v", err)
		}
		return
	}
	expect(t, c, "hello\n")
}

// say writes to a connection.
func say(t *testing.T, c net.Conn, words string) {
	t.Helper()
	if _, err := io.WriteString(c, words); err != nil {
		t.Fatal(err)
	}
}

// expect reads exactly these words from a connection.
func expect(t *testing.T, c net.Conn, words string) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(soon))
	got := make([]byte, len(words))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != words {
		t.Fatalf("read %q, %v, want %q", got, err, words)
	}
}

// drain reads until the other side closes or resets the connection, or, which it says, does neither in time.
func drain(c net.Conn) string {
	_ = c.SetReadDeadline(time.Now().Add(soon))
	got, err := io.ReadAll(c)
	if err != nil && !errors.Is(err, syscall.ECONNRESET) {
		return fmt.Sprintf("%s(%v)", got, err)
	}
	return string(got)
}

// first reads what comes first, and closes the connection.
func first(c net.Conn) string {
	defer c.Close()
	_ = c.SetReadDeadline(time.Now().Add(soon))
	got := make([]byte, 1024)
	n, _ := c.Read(got)
	return string(got[:n])
}
