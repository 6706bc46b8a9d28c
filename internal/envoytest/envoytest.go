package envoytest

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strconv"
	"testing"
	"time"

	"google.golang.org/grpc"
)

// rawQuiet is how long Envoy.Raw waits for more.
const rawQuiet = 2 * time.Second

// Envoy is a Process in the hands of a test: what goes wrong fails the test at once. So call it from the test's own
// goroutine; load from other goroutines goes through Process, Do, Call and their like.
type Envoy struct {
	*Process
	tb           testing.TB
	http1, http2 *http.Client
}

// Start runs an Envoy until the test's end. The test fails if Envoy does not start, or ends before the test does; the
// log's tail is then shown, as it is when the test fails for another reason.
func Start(tb testing.TB, cfg Config) *Envoy {
	tb.Helper()
	if cfg.Dir == "" {
		cfg.Dir = tb.TempDir()
	}
	p, err := Launch(tb.Context(), cfg)
	if err != nil {
		tb.Fatal(err)
	}
	e := &Envoy{Process: p, tb: tb, http1: NewHTTPClient(false), http2: NewHTTPClient(true)}
	tb.Cleanup(e.finish)
	return e
}

// For gives the same Envoy to a subtest: what goes wrong then fails that.
func (e *Envoy) For(tb testing.TB) *Envoy {
	other := *e
	other.tb = tb
	return &other
}

func (e *Envoy) finish() {
	if err := e.Stop(); err != nil {
		e.tb.Error(err)
	} else if e.tb.Failed() {
		e.tb.Logf("Envoy's last lines:\n%s", e.Log.Tail(tailLines))
	}
}

// StartFails runs an Envoy that must not start, and gives its log. The test fails if Envoy starts.
func StartFails(tb testing.TB, cfg Config) string {
	tb.Helper()
	if cfg.Dir == "" {
		cfg.Dir = tb.TempDir()
	}
	p, err := Launch(tb.Context(), cfg)
	if err == nil {
		_ = p.Stop()
		tb.Fatalf("Envoy started, which it must not; its log:\n%s", p.Log.Tail(tailLines))
	}
	var exit *ExitError
	if !errors.As(err, &exit) {
		tb.Fatal(err)
	}
	return exit.Log
}

// Context gives a context of the test that ends after d.
func Context(tb testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(tb.Context(), d)
	tb.Cleanup(cancel)
	return ctx
}

// Eventually waits until cond gives true, and fails the test after d.
func Eventually(tb testing.TB, d time.Duration, what string, cond func() bool) {
	tb.Helper()
	ctx := Context(tb, d)
	for !cond() {
		if sleep(ctx, pollEvery) != nil {
			tb.Fatalf("not within %v: %s", d, what)
		}
	}
}

// Update is UpdateListeners, and fails the test where Envoy rejects them.
func (e *Envoy) Update(listeners ...Listener) {
	e.tb.Helper()
	if err := e.UpdateListeners(e.tb.Context(), listeners...); err != nil {
		e.tb.Fatal(err)
	}
}

// WaitLog waits up to d for a line of Envoy's log (since its Mark) that matches, and gives its submatches.
func (e *Envoy) WaitLog(d time.Duration, pattern string) []string {
	e.tb.Helper()
	m, err := e.Log.WaitFor(Context(e.tb, d), pattern)
	if err != nil {
		e.tb.Fatal(err)
	}
	return m
}

// Stats gives all counters and gauges by their names.
func (e *Envoy) Stats() map[string]float64 {
	e.tb.Helper()
	stats, err := e.Admin.Stats(e.tb.Context(), "")
	if err != nil {
		e.tb.Fatal(err)
	}
	return stats
}

// Prometheus gives the samples of /stats/prometheus.
func (e *Envoy) Prometheus() []Sample {
	e.tb.Helper()
	samples, err := e.Admin.Prometheus(e.tb.Context())
	if err != nil {
		e.tb.Fatal(err)
	}
	return samples
}

// Sum adds up the samples of a metric that have these labels, names and values in turn; 0 if there is none.
func (e *Envoy) Sum(name string, labels ...string) float64 {
	e.tb.Helper()
	return Sum(e.Prometheus(), name, labels...)
}

// WaitSum waits until the Sum of a metric is want, and fails the test after d.
func (e *Envoy) WaitSum(tb testing.TB, d time.Duration, want float64, name string, labels ...string) {
	tb.Helper()
	ctx := Context(tb, d)
	for got := e.Sum(name, labels...); got != want; got = e.Sum(name, labels...) {
		if sleep(ctx, pollEvery) != nil {
			tb.Fatalf("%s%v is %v after %v, want %v", name, labels, got, d, want)
		}
	}
}

// SetLogLevel sets the log level of a component such as "wasm", or of all of them where component is "".
func (e *Envoy) SetLogLevel(component, level string) {
	e.tb.Helper()
	if err := e.Admin.SetLogLevel(e.tb.Context(), component, level); err != nil {
		e.tb.Fatal(err)
	}
}

// Get sends an HTTP/1.1 GET to a listener, on a connection of its own. headers are names and values in turn.
func (e *Envoy) Get(listener, path string, headers ...string) Response {
	e.tb.Helper()
	return e.do(e.http1, listener, path, headers)
}

// Get2 is Get in HTTP/2.
func (e *Envoy) Get2(listener, path string, headers ...string) Response {
	e.tb.Helper()
	return e.do(e.http2, listener, path, headers)
}

func (e *Envoy) do(c *http.Client, listener, path string, headers []string) Response {
	e.tb.Helper()
	defer c.CloseIdleConnections() // a connection kept over an update would still meet the old filters
	r, err := Do(e.tb.Context(), c, http.MethodGet, e.URL(listener)+path, headers...)
	if err != nil {
		e.tb.Fatal(err)
	}
	return r
}

// URL gives http://host:port of a listener.
func (e *Envoy) URL(listener string) string {
	e.tb.Helper()
	return "http://" + e.mustAddr(listener)
}

// Dial opens a TCP connection to a listener, closed at the test's end.
func (e *Envoy) Dial(listener string) *net.TCPConn {
	e.tb.Helper()
	var d net.Dialer
	c, err := d.DialContext(e.tb.Context(), "tcp", e.mustAddr(listener))
	if err != nil {
		e.tb.Fatal(err)
	}
	e.tb.Cleanup(func() { c.Close() })
	return c.(*net.TCPConn)
}

// Raw sends bytes to a listener and gives what comes back until Envoy closes, or nothing has come for two seconds.
func (e *Envoy) Raw(listener, send string) string {
	e.tb.Helper()
	got, err := Raw(e.tb.Context(), e.mustAddr(listener), []byte(send), rawQuiet)
	if err != nil {
		e.tb.Fatal(err)
	}
	return string(got)
}

// GRPC gives a gRPC client of a listener, closed at the test's end.
func (e *Envoy) GRPC(listener string) *grpc.ClientConn {
	e.tb.Helper()
	cc, err := NewGRPCClient(e.mustAddr(listener))
	if err != nil {
		e.tb.Fatal(err)
	}
	e.tb.Cleanup(func() { cc.Close() })
	return cc
}

func (e *Envoy) mustAddr(listener string) string {
	e.tb.Helper()
	addr := e.Addr(listener)
	if addr == "" {
		e.tb.Fatalf("Envoy has no listener %q", listener)
	}
	return addr
}

// StartServer has a handler answer on a free loopback port (see Serve) until the test's end, and gives its host:port.
func StartServer(tb testing.TB, h http.Handler) (addr string) {
	tb.Helper()
	server, err := Serve(freePort, h)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { server.Close() })
	return server.Addr
}

// StartHTTPService runs an HTTPService until the test's end.
func StartHTTPService(tb testing.TB) *HTTPService {
	tb.Helper()
	return started(tb, NewHTTPService)
}

// StartGRPCService runs a GRPCService until the test's end.
func StartGRPCService(tb testing.TB) *GRPCService {
	tb.Helper()
	return started(tb, NewGRPCService)
}

// StartTCPService runs a TCPService with that greeting until the test's end.
func StartTCPService(tb testing.TB, greeting string) *TCPService {
	tb.Helper()
	return started(tb, func() (*TCPService, error) { return NewTCPService(greeting) })
}

func started[S interface{ Close() }](tb testing.TB, start func() (S, error)) S {
	tb.Helper()
	s, err := start()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(s.Close)
	return s
}

// PortOf is the port of an address, "host:port". The test fails where it has none.
func PortOf(tb testing.TB, addr string) int {
	tb.Helper()
	_, text, err := net.SplitHostPort(addr)
	if err != nil {
		tb.Fatal(err)
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		tb.Fatal(err)
	}
	return port
}
