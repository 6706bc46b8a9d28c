package e2e

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"sentinel-envoy/internal/envoytest"
	"sentinel-envoy/internal/plugintest"
)

// The phases of a breaker, as its gauge has them.
const closed, halfOpen, open = 0, 1, 2

// ailing is an upstream of HTTP and gRPC that falls ill and recovers on command, or goes away. It counts the requests it
// gets by their path.
type ailing struct {
	addr   string
	mu     sync.Mutex
	server *http.Server
	asked  map[string]int
	// status and grpc are what it answers with, after delay.
	status, grpc atomic.Int64
	delay        atomic.Int64
}

func startAiling(t *testing.T) *ailing {
	t.Helper()
	a := &ailing{addr: "127.0.0.1:0", asked: map[string]int{}}
	a.heal()
	a.arrive(t)
	t.Cleanup(a.leave)
	return a
}

func (a *ailing) heal() {
	a.status.Store(http.StatusOK)
	a.grpc.Store(int64(codes.OK))
	a.delay.Store(0)
}

// arrive makes it listen, at the address it had where it had one.
func (a *ailing) arrive(t *testing.T) {
	t.Helper()
	server, err := envoytest.Serve(a.addr, a)
	if err != nil {
		t.Fatal(err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.addr, a.server = server.Addr, server
}

// leave ends the service and its connections: new ones are refused.
func (a *ailing) leave() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.server.Close()
}

// requests is how many requests to a path have arrived.
func (a *ailing) requests(path string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.asked[path]
}

func (a *ailing) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	a.asked[r.URL.Path]++
	a.mu.Unlock()
	time.Sleep(time.Duration(a.delay.Load()))
	if !strings.HasPrefix(r.Header.Get("content-type"), "application/grpc") {
		w.WriteHeader(int(a.status.Load()))
		return
	}
	w.Header().Set("content-type", "application/grpc")
	w.Header().Set(http.TrailerPrefix+"grpc-status", fmt.Sprint(a.grpc.Load()))
	_, _ = w.Write(make([]byte, 5)) // an empty message
}

// patient is one resource with a breaker: how to ask it, and what makes its service ill.
type patient struct {
	rule, resource, path string
	probes               int
	ill                  func(a *ailing)
	// ask sends a request over the i-th connection, and reports whether the breaker refused it.
	ask func(t *testing.T, e *envoytest.Envoy, i int) (refused bool)
	// explains is part of the answer of a request that is refused; "" where the answer cannot say.
	explains string
}

// TestBreaker runs the example: each breaker opens when its service is ill, refuses on all workers, lets exactly its
// probes through, and closes when the service is well.
func TestBreaker(t *testing.T) {
	a := startAiling(t)
	e := example(t, "circuit-breaker.yaml", a.addr)
	lanes := lanesToAll(t, e)
	calls := make([]*grpc.ClientConn, len(lanes))
	for i := range calls {
		calls[i] = e.GRPC("http")
	}
	get := func(path string) func(*testing.T, *envoytest.Envoy, int) bool {
		return func(t *testing.T, e *envoytest.Envoy, i int) bool {
			r, err := lanes[i].Do(envoytest.Context(t, soon), path)
			if err != nil {
				t.Error(err)
			}
			return strings.HasPrefix(r.Body, "blocked by circuitBreaker rule ")
		}
	}
	for name, p := range map[string]patient{
		"SlowRequestRatio": {
			rule: "search-slow", resource: "/search", path: "/search", probes: 1, ask: get("/search"),
			ill: func(a *ailing) { a.delay.Store(int64(300 * time.Millisecond)) }, explains: " % of requests slower than 200 ms in 5000 ms, threshold 50 %",
		},
		"ErrorRatio": {
			rule: "orders-failures", resource: "/orders", path: "/orders", probes: 3, ask: get("/orders"),
			ill: func(a *ailing) { a.status.Store(500) }, explains: " % of requests failed in 5000 ms, threshold 50 %",
		},
		"ErrorCount": {
			rule: "reports-failures", resource: "/reports", path: "/reports", probes: 1, ask: get("/reports"),
			ill: func(a *ailing) { a.status.Store(408) }, explains: " of 5 failures in 5000 ms",
		},
		"GRPC": {
			rule: "cart-failures", resource: "cart", path: "/shop.Cart/List", probes: 1,
			ill: func(a *ailing) { a.grpc.Store(int64(codes.ResourceExhausted)) },
			ask: func(t *testing.T, _ *envoytest.Envoy, i int) bool {
				return status.Code(envoytest.Call(t.Context(), calls[i], "/shop.Cart/List")) == codes.Unavailable
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			defer a.heal()
			p.see(t, e.For(t), a, len(lanes))
		})
	}
	t.Run("Connections", func(t *testing.T) { seeConnections(t, e.For(t), a) })
	waitMetric(t, e, 0, "sentinel_faults")
}

// lanesToAll opens connections until each worker has one of the HTTP listener's.
func lanesToAll(t *testing.T, e *envoytest.Envoy) (lanes []*plugintest.Lane) {
	t.Helper()
	for len(lanes) < 32*workers {
		l := plugintest.NewLane(t, e, "http")
		if got := l.Get(t, "/"); got != http.StatusOK {
			t.Fatalf("status %d", got)
		}
		lanes = append(lanes, l)
		busy := 0
		for name, n := range e.Stats() {
			if strings.HasPrefix(name, "listener.") && strings.HasSuffix(name, ".downstream_cx_active") &&
				strings.Contains(name, ".worker_") && n > 0 {
				busy++
			}
		}
		if busy == workers {
			return lanes
		}
	}
	t.Fatalf("%d connections, and some worker has none", len(lanes))
	return nil
}

// transitions counts what the log says of a breaker since the test began.
func transitions(e *envoytest.Envoy, rule, change string) int {
	return len(e.Log.All(`circuit breaker ` + rule + ` of \S+: ` + change + `,`))
}

func (p patient) see(t *testing.T, e *envoytest.Envoy, a *ailing, lanes int) {
	for i := range lanes {
		if p.ask(t, e, i) {
			t.Fatal("refused while the service is well")
		}
	}
	p.ill(a)
	p.untilAll(t, e, lanes, true, "it has opened for all workers")
	if p.explains != "" {
		envoytest.Eventually(t, soon, "the answer is 503 with retry-after and "+p.explains, func() bool {
			r := e.Get("http", p.path)
			return r.Status == http.StatusServiceUnavailable && strings.Contains(r.Body, p.explains) && r.Header.Get("retry-after") != ""
		})
	}
	if got := e.Sum("sentinel_breaker_state", "resource", p.resource, "rule", p.rule); got != open && got != halfOpen {
		t.Errorf("the gauge is %v while it is open", got)
	}

	// As long as the service is ill, it gets the probes and nothing else.
	before, began := a.requests(p.path), transitions(e, p.rule, "open -> half-open")
	rounds := func() int { return transitions(e, p.rule, "open -> half-open") - began }
	askAll(t, e, lanes, p.ask, "the second probe", func() bool { return rounds() >= 2 })
	got, want := a.requests(p.path)-before, rounds()*p.probes
	if got > want || got < rounds() {
		t.Errorf("the service got %d requests in %d times half open, of %d probes each", got, rounds(), p.probes)
	}

	a.heal()
	p.untilAll(t, e, lanes, false, "it has closed for all workers")
	waitMetric(t, e, closed, "sentinel_breaker_state", "resource", p.resource, "rule", p.rule)
	if n := transitions(e, p.rule, "half-open -> closed"); n < 1 {
		t.Errorf("the log has %d lines about its closing", n)
	}
	if blocked := e.Sum("sentinel_blocked", "rule", p.rule); blocked == 0 {
		t.Error("no refusal was counted")
	}
}

// untilAll asks over all connections until all are refused, or none is.
func (p patient) untilAll(t *testing.T, e *envoytest.Envoy, lanes int, refused bool, what string) {
	t.Helper()
	var agreed atomic.Int64
	envoytest.Eventually(t, soon, what, func() bool {
		agreed.Store(0)
		var wg sync.WaitGroup
		for i := range lanes {
			wg.Go(func() {
				if p.ask(t, e, i) == refused {
					agreed.Add(1)
				}
			})
		}
		wg.Wait()
		return agreed.Load() == int64(lanes)
	})
}

// askAll asks over all connections at once until done, or for too long.
func askAll(t *testing.T, e *envoytest.Envoy, lanes int, ask func(*testing.T, *envoytest.Envoy, int) bool, what string, done func() bool) {
	t.Helper()
	var stop atomic.Bool
	var wg sync.WaitGroup
	for i := range lanes {
		wg.Go(func() {
			for !stop.Load() {
				ask(t, e, i)
				time.Sleep(time.Millisecond) // a bounded load
			}
		})
	}
	defer wg.Wait()
	defer stop.Store(true)
	envoytest.Eventually(t, soon, what, done)
}

// seeConnections takes the service away: connections that it refuses open the breaker, which lets exactly one try once it
// is back, and that closes it as soon as the service answers, however long the connection lasts.
func seeConnections(t *testing.T, e *envoytest.Envoy, a *ailing) {
	const rule = "connections-failures"
	state := func() float64 { return e.Sum("sentinel_breaker_state", "rule", rule) }
	const hello = "GET /tcp HTTP/1.1\r\nHost: a\r\n\r\n"
	c := e.Dial("tcp")
	say(t, c, hello)
	if got := first(c); !strings.HasPrefix(got, "HTTP/1.1 200") {
		t.Fatalf("got %q while the service is well", got)
	}
	a.leave()
	envoytest.Eventually(t, soon, "it has opened", func() bool {
		drain(e.Dial("tcp"))
		return state() == open
	})
	a.arrive(t)
	var before int
	var lasting net.Conn
	envoytest.Eventually(t, soon, "a connection is let through", func() bool {
		before = a.requests("/tcp")
		c := e.Dial("tcp")
		_, _ = c.Write([]byte(hello)) // it may be closed already
		_ = c.SetReadDeadline(time.Now().Add(soon))
		buf := make([]byte, 12)
		n, _ := c.Read(buf)
		lasting = c
		if string(buf[:n]) != "HTTP/1.1 200" {
			return false
		}
		// Until its next tick a worker may not have heard that the breaker has opened: what it lets in is no probe.
		if transitions(e, rule, "open -> half-open") == 0 {
			_ = c.Close()
			return false
		}
		return true
	})
	if got := a.requests("/tcp") - before; got != 1 {
		t.Errorf("the service got %d connections", got)
	}
	waitMetric(t, e, closed, "sentinel_breaker_state", "rule", rule)
	say(t, lasting, hello) // it is still open
	if got := e.Sum("sentinel_blocked", "rule", rule); got == 0 {
		t.Error("no connection was refused while it was open")
	}
	if transitions(e, rule, "closed -> open") == 0 || transitions(e, rule, "half-open -> closed") == 0 {
		t.Error("the log lacks a transition")
	}
}
