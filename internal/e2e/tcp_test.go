package e2e

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"sentinel-envoy/internal/envoytest"
)

// inspectFor is how long the TLS inspector waits for a client that says nothing, as in envoy/envoy.yaml.
const inspectFor = 50 * time.Millisecond

// TestTCPConnectionEnds ends connections in every way there is: each is in flight while it is open and not after, and
// only what the upstream did wrong counts as failed.
func TestTCPConnectionEnds(t *testing.T) {
	const refused = "refused"
	upstreams := map[string]*envoytest.TCPService{}
	cases := []struct {
		name   string
		end    func(client *net.TCPConn, upstream *envoytest.TCPService)
		failed float64
	}{
		{"client-fin", func(c *net.TCPConn, _ *envoytest.TCPService) { c.Close() }, 0},
		{"client-rst", func(c *net.TCPConn, _ *envoytest.TCPService) { reset(c) }, 0},
		{"upstream-fin", func(c *net.TCPConn, u *envoytest.TCPService) { u.CloseConns(false); drain(c); c.Close() }, 0},
		{"upstream-rst", func(c *net.TCPConn, u *envoytest.TCPService) { u.CloseConns(true); drain(c) }, 1},
		{refused, func(c *net.TCPConn, _ *envoytest.TCPService) { drain(c) }, 1},
	}
	var listeners []envoytest.Listener
	for _, c := range cases {
		addr := closedAddr(t)
		if c.name != refused {
			upstreams[c.name] = envoytest.StartTCPService(t, "hello\n")
			addr = upstreams[c.name].Addr()
		}
		listeners = append(listeners, envoytest.TCP{
			Name: c.name, Upstream: addr, Wasm: tcpFilter(t, `{"resource_name": "`+c.name+`"}`),
		})
	}
	e := start(t, envoytest.Config{Listeners: listeners})
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
			waitMetric(t, e, c.failed, "sentinel_failed", "resource", c.name)
		})
	}
	waitMetric(t, e, 0, "sentinel_faults")
}

// TestTCPConnectionsThatCloseAtOnce opens and drops connections without a word: none stays in flight.
func TestTCPConnectionsThatCloseAtOnce(t *testing.T) {
	const connections = 200
	up := envoytest.StartTCPService(t, "hello\n")
	e := start(t, envoytest.Config{Listeners: []envoytest.Listener{
		envoytest.TCP{Upstream: up.Addr(), Wasm: tcpFilter(t, `{"resource_name": "db"}`)},
	}})
	for i := range connections {
		if c := e.Dial("tcp"); i%2 == 0 {
			reset(c)
		} else {
			c.Close()
		}
	}
	// Envoy may see a reset before the filters have met the connection: then it was never in flight.
	envoytest.Eventually(t, soon, "all connections have ended", func() bool {
		stats := e.Stats()
		return listenerStat(stats, "downstream_cx_total") == connections && listenerStat(stats, "downstream_cx_active") == 0
	})
	envoytest.Eventually(t, soon, "what passed is completed", func() bool {
		passed := metric(e, "sentinel_passed", "resource", "db")
		return passed > 0 && passed == metric(e, "sentinel_completed", "resource", "db")
	})
	waitMetric(t, e, 0, "sentinel_in_flight", "resource", "db")
	waitMetric(t, e, 0, "sentinel_faults")
}

// TestTCPBlockedBeforeTheUpstream: a blocked connection is closed, whether its client speaks or not, and the upstream
// never hears of it.
func TestTCPBlockedBeforeTheUpstream(t *testing.T) {
	up := envoytest.StartTCPService(t, "")
	e := start(t, envoytest.Config{Listeners: []envoytest.Listener{
		envoytest.TCP{Upstream: up.Addr(), AccessLog: accessLog, Wasm: tcpFilter(t,
			`{"resource_name": "db", `+flowRules(flowRule("db-total", "db", 2))+`}`)},
	}})
	var allowed [2]net.Conn
	for i := range allowed {
		allowed[i] = e.Dial("tcp")
		say(t, allowed[i], "ping")
		expect(t, allowed[i], "ping")
	}
	for _, words := range []string{"", "let me in", strings.Repeat("x", 1<<20)} {
		c := e.Dial("tcp")
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
	if n := e.Stats()["cluster."+up.Addr()+".upstream_cx_total"]; n != 2 {
		t.Errorf("Envoy opened %v connections to the upstream, want 2", n)
	}
	waitMetric(t, e, 3, "sentinel_blocked", "resource", "db", "rule", "db-total")
	waitMetric(t, e, 2, "sentinel_passed", "resource", "db")
	waitMetric(t, e, 2, "sentinel_in_flight", "resource", "db")

	for _, c := range allowed {
		c.Close()
	}
	envoytest.Eventually(t, soon, "the access log has all five connections", func() bool {
		log := e.AccessLog("tcp")
		return len(log.All(`^blocked_by=flow:db-total$`)) == 3 && len(log.All(`^blocked_by=-$`)) == 2
	})
}

// TestTCPBlockMessage: where the server speaks first, a blocked client can get a message in place of its first words. The
// server sees a connection and no byte of the client's.
func TestTCPBlockMessage(t *testing.T) {
	greeter := envoytest.StartTCPService(t, "hello\n")
	silent := envoytest.StartTCPService(t, "")
	listener := func(name string, up *envoytest.TCPService, block string) envoytest.Listener {
		return envoytest.TCP{Name: name, Upstream: up.Addr(), Wasm: tcpFilter(t, fmt.Sprintf(
			`{"resource_name": %q, "block": %s, %s}`, name, block, flowRules(flowRule(name, name, 0))))}
	}
	e := start(t, envoytest.Config{Listeners: []envoytest.Listener{
		listener("custom", greeter, `{"tcp_message": true, "body": "come back later\n"}`),
		listener("explained", greeter, `{"tcp_message": true}`),
		listener("off", greeter, `{"body": "unused"}`),
		listener("silent", silent, `{"tcp_message": true}`),
	}})
	t.Run("in place of the greeting", func(t *testing.T) {
		if got := drain(e.For(t).Dial("custom")); got != "come back later\n" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("says which rule", func(t *testing.T) {
		if got := drain(e.For(t).Dial("explained")); !strings.HasPrefix(got, "blocked by flow rule explained: 0 of 0 in ") {
			t.Errorf("got %q", got)
		}
	})
	t.Run("off by default", func(t *testing.T) {
		before := greeter.Accepted()
		if got := drain(e.For(t).Dial("off")); got != "" {
			t.Errorf("got %q", got)
		}
		if n := greeter.Accepted() - before; n != 0 {
			t.Errorf("the upstream saw %d connections", n)
		}
	})
	t.Run("client speaks first", func(t *testing.T) {
		for _, name := range []string{"custom", "silent"} {
			c := e.For(t).Dial(name)
			go func() { _, _ = io.WriteString(c, "let me in") }()
			if got := drain(c); got != "" && got != "come back later\n" { // whoever is first: the client or the greeting
				t.Errorf("%s: got %q", name, got)
			}
		}
	})
	t.Run("both silent", func(t *testing.T) {
		if got := drain(e.For(t).Dial("silent")); got != "" {
			t.Errorf("got %q", got)
		}
	})
	if greeter.Bytes()+silent.Bytes() != 0 {
		t.Errorf("the upstreams saw %d and %d bytes of blocked clients'", greeter.Bytes(), silent.Bytes())
	}
	for _, name := range []string{"custom", "explained", "off", "silent"} {
		waitMetric(t, e, 0, "sentinel_passed", "resource", name)
		waitMetric(t, e, 0, "sentinel_in_flight", "resource", name)
	}
	waitMetric(t, e, 6, "sentinel_blocked")
	waitMetric(t, e, 0, "sentinel_faults")
}

// TestTCPResources: SNI, source address and destination port say which resource a connection belongs to; the rest is
// resource_name's.
func TestTCPResources(t *testing.T) {
	up := envoytest.StartTCPService(t, "hello\n")
	listener := func(resources string) envoytest.Listener {
		return envoytest.TCP{Upstream: up.Addr(), TLSInspector: true, InspectFor: inspectFor, Wasm: tcpFilter(t,
			`{"resource_name": "rest", "resources": [`+resources+`]}`)}
	}
	e := start(t, envoytest.Config{Dynamic: true, Listeners: []envoytest.Listener{listener(
		`{"name": "db", "match": {"sni": "db.example.com"}},
		 {"name": "shops", "match": {"sni": "*.shop.example.com"}},
		 {"name": "near", "match": {"source_ip": "127.0.0.8/29"}}`)}})

	for i, c := range []struct{ sni, source, resource string }{
		{"db.example.com", "127.0.0.1", "db"},
		{"DB.Example.com", "127.0.0.9", "db"}, // first match wins
		{"a.shop.example.com", "127.0.0.1", "shops"},
		{"shop.example.com", "127.0.0.1", "rest"},
		{"", "127.0.0.9", "near"},
		{"", "127.0.0.16", "rest"},
		{"", "127.0.0.1", "rest"},
	} {
		before := metric(e, "sentinel_passed", "resource", c.resource)
		connect(t, e, c.sni, c.source)
		t.Logf("%d: SNI %q from %s", i, c.sni, c.source)
		waitMetric(t, e, before+1, "sentinel_passed", "resource", c.resource)
	}
	waitMetric(t, e, 7, "sentinel_passed")

	port := portOf(t, e.Addr("tcp"))
	e.Update(listener(fmt.Sprintf(
		`{"name": "other-port", "match": {"destination_port": %d}}, {"name": "this-port", "match": {"destination_port": %d}}`,
		port%65535+1, port)))
	envoytest.Eventually(t, soon, "connections to the port are its resource's", func() bool {
		connect(t, e, "", "127.0.0.1")
		return metric(e, "sentinel_passed", "resource", "this-port") > 0
	})
	waitMetric(t, e, 0, "sentinel_passed", "resource", "other-port")
}

// TestTCPShadow: a filter in shadow mode decides and counts, blocks nobody, and spends nothing of the rule's own budget.
func TestTCPShadow(t *testing.T) {
	up := envoytest.StartTCPService(t, "hello\n")
	config := func(mode string) string {
		return `{"resource_name": "db", "mode": "` + mode + `", ` + flowRules(flowRule("total", "db", 1)) + `}`
	}
	e := start(t, envoytest.Config{Listeners: []envoytest.Listener{
		envoytest.TCP{Name: "shadow", Upstream: up.Addr(), Wasm: tcpFilter(t, config("shadow"))},
		envoytest.TCP{Name: "enforce", Upstream: up.Addr(), Wasm: tcpFilter(t, config("enforce"))},
	}})
	for range 3 {
		expect(t, e.Dial("shadow"), "hello\n")
	}
	expect(t, e.Dial("enforce"), "hello\n")
	if got := drain(e.Dial("enforce")); got != "" {
		t.Errorf("a blocked client got %q", got)
	}
	waitMetric(t, e, 2, "sentinel_shadow_blocked", "resource", "db", "rule", "total")
	waitMetric(t, e, 1, "sentinel_blocked", "resource", "db", "rule", "total")
	waitMetric(t, e, 4, "sentinel_passed", "resource", "db")
}

// TestOneBudgetForTCPAndHTTP is guarantee 3: requests and connections, on whatever worker, spend one budget where their
// rules have one id.
func TestOneBudgetForTCPAndHTTP(t *testing.T) {
	const threshold = 40
	web := envoytest.StartHTTPService(t)
	up := envoytest.StartTCPService(t, "hello\n")
	e := start(t, envoytest.Config{Listeners: []envoytest.Listener{
		envoytest.HTTP{Upstream: web.Addr(), AccessLog: accessLog, Wasm: httpFilter(t,
			`{"resource_name": "rest", `+flowRules(flowRule("all", "rest", threshold))+`}`)},
		envoytest.TCP{Upstream: up.Addr(), Wasm: tcpFilter(t,
			`{"resource_name": "db", `+flowRules(flowRule("all", "db", threshold))+`}`)},
	}})
	requests, connections := 0, 0
	for range threshold {
		if e.Get("http", "/").Status == 200 {
			requests++
		}
		if drainFirst(e.Dial("tcp")) == "hello\n" {
			connections++
		}
	}
	if requests+connections != threshold || requests == 0 || connections == 0 {
		t.Errorf("%d requests and %d connections passed, want %d in all", requests, connections, threshold)
	}
	waitMetric(t, e, float64(requests), "sentinel_passed", "resource", "rest")
	waitMetric(t, e, float64(connections), "sentinel_passed", "resource", "db")
	waitMetric(t, e, threshold, "sentinel_blocked", "rule", "all")
	envoytest.Eventually(t, soon, "the access log names the rule of each blocked request", func() bool {
		log := e.AccessLog("http")
		return len(log.All(`^blocked_by=flow:all$`)) == threshold-requests && len(log.All(`^blocked_by=-$`)) == requests
	})
}

// accessLog is a format that says what blocked a stream.
const accessLog = "blocked_by=%FILTER_STATE(wasm.sentinel_blocked_by:PLAIN)%"

// connect opens a connection from a local address, with a TLS ClientHello for sni unless that is empty, and waits until
// the upstream has spoken.
func connect(t *testing.T, e *envoytest.Envoy, sni, source string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}}
	c, err := d.DialContext(ctx, "tcp", e.Addr("tcp"))
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

// drainFirst reads what comes first, and closes the connection.
func drainFirst(c net.Conn) string {
	defer c.Close()
	_ = c.SetReadDeadline(time.Now().Add(soon))
	got := make([]byte, 1024)
	n, _ := c.Read(got)
	return string(got[:n])
}

// reset closes a connection by an RST.
func reset(c *net.TCPConn) {
	_ = c.SetLinger(0)
	c.Close()
}

// closedAddr is a loopback address that nobody listens on.
func closedAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	return l.Addr().String()
}

func portOf(t *testing.T, addr string) int {
	t.Helper()
	_, text, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// listenerStat adds up a statistic of the listeners on loopback ports.
func listenerStat(stats map[string]float64, name string) float64 {
	var sum float64
	for n, v := range stats {
		if strings.HasPrefix(n, "listener.127.0.0.1_") && strings.HasSuffix(n, "."+name) && !strings.Contains(n, "worker_") {
			sum += v
		}
	}
	return sum
}
