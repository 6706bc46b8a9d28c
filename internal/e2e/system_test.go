package e2e

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"sentinel-envoy/internal/envoytest"
)

// node answers as node_exporter does.
type node struct {
	*httptest.Server
	mu          sync.Mutex
	load        float64
	busy        float64 // part of the CPU's time from now on
	idle, total float64
	inUse       int64 // bytes of memory
	asked       int
}

func startNode(t *testing.T) *node {
	n := &node{}
	n.Server = httptest.NewServer(n)
	t.Cleanup(n.Close)
	return n
}

func (n *node) be(load, busy float64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.load, n.busy = load, busy
}

// ServeHTTP implements http.Handler.
func (n *node) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if r.URL.Path != "/metrics" {
		w.WriteHeader(404)
		return
	}
	n.asked++
	n.total += 10
	n.idle += 10 * (1 - n.busy)
	fmt.Fprintf(w, "# TYPE node_load1 gauge\nnode_load1 %g\n", n.load)
	fmt.Fprintf(w, "node_cpu_seconds_total{cpu=\"0\",mode=\"idle\"} %g\nnode_cpu_seconds_total{cpu=\"0\",mode=\"user\"} %g\n",
		n.idle, n.total-n.idle)
	fmt.Fprintf(w, "node_memory_MemTotal_bytes 8e+09\nnode_memory_MemAvailable_bytes %d\n", 8_000_000_000-n.inUse)
}

func (n *node) use(bytes int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.inUse = bytes
}

// serve puts the node in the place of the example's.
func (n *node) serve(t *testing.T) func(bootstrap []byte) []byte {
	_, port, err := net.SplitHostPort(n.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return func(bootstrap []byte) []byte {
		return bytes.Replace(bootstrap, []byte("port_value: 9100"), []byte("port_value: "+port), 1)
	}
}

// TestSystem runs the example: each of its rules refuses when its figure is too high, and no longer than that.
func TestSystem(t *testing.T) {
	web, machine := startOccupied(t), startNode(t)
	e := example(t, "system.yaml", web.addr, machine.serve(t))
	s := &systemTest{e: e, web: web, machine: machine}
	for _, part := range []struct {
		name string
		see  func(*testing.T)
	}{
		{"Concurrency", s.concurrency}, {"InboundQPS", s.qps}, {"AvgRT", s.avgRT}, {"CPUUsage", s.cpu}, {"Load", s.loadWithBBR},
		{"SourceDies", s.sourceDies},
	} {
		t.Run(part.name, func(t *testing.T) {
			machine.be(1, 0.1)
			s.eventually(t, "")
			part.see(t)
		})
	}
}

type systemTest struct {
	e       *envoytest.Envoy
	web     *occupied
	machine *node
}

// verdict is the id of the rule that a quick request is refused for, empty where it passes.
func (s *systemTest) verdict(t *testing.T) string {
	t.Helper()
	r := s.e.For(t).Get("http", "/", "x-delay-ms", "1")
	switch r.Status {
	case 200:
		return ""
	case 429:
		_, after, ok := strings.Cut(r.Body, "blocked by system rule ")
		id, _, _ := strings.Cut(after, ":")
		if !ok {
			t.Fatalf("the answer is %q", r.Body)
		}
		return id
	}
	t.Fatalf("status %d: %s", r.Status, r.Body)
	return ""
}

// eventually waits until requests end with the verdict.
func (s *systemTest) eventually(t *testing.T, want string) {
	t.Helper()
	envoytest.Eventually(t, soon, "the verdict "+want, func() bool { return s.verdict(t) == want })
}

func (s *systemTest) concurrency(t *testing.T) {
	const inFlight = 12
	ends := fill(t, s.e.For(t), inFlight, openHTTP, openTCP)
	if got := s.verdict(t); got != "in-flight" {
		t.Errorf("with %d in flight the verdict is %q", inFlight, got)
	}
	ends[0]()
	fill(t, s.e.For(t), 1, openTCP)
	if got := s.verdict(t); got != "in-flight" {
		t.Errorf("with %d in flight again the verdict is %q", inFlight, got)
	}
	if got := s.web.most("tcp") + s.web.most("orders"); got > inFlight+1 { // one of them twice, one kind after the other
		t.Errorf("the upstream had up to %d at once", got)
	}
}

// refuses waits until a rule has refused something under load: clients that ask all the time, with that delay.
func (s *systemTest) refuses(t *testing.T, rule, delayMs string, clients int) {
	t.Helper()
	e := s.e.For(t)
	before := e.Sum("sentinel_blocked", "rule", rule)
	envoytest.Eventually(t, soon, "a refusal for "+rule, func() bool {
		var wg sync.WaitGroup
		for range clients {
			wg.Go(func() {
				client := envoytest.NewHTTPClient(false)
				defer client.CloseIdleConnections()
				for range 100 {
					if _, err := envoytest.Do(t.Context(), client, "GET", e.URL("http")+"/", "x-delay-ms", delayMs); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		return e.Sum("sentinel_blocked", "rule", rule) > before
	})
}

func (s *systemTest) qps(t *testing.T) { s.refuses(t, "qps", "0", 4) }

// avgRT has slow requests; the snapshot then says so, until it is a second old.
func (s *systemTest) avgRT(t *testing.T) {
	e := s.e.For(t)
	envoytest.Eventually(t, soon, "a refusal for response-time", func() bool {
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				client := envoytest.NewHTTPClient(false)
				defer client.CloseIdleConnections()
				if _, err := envoytest.Do(t.Context(), client, "GET", e.URL("http")+"/", "x-delay-ms", "1000"); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		for range 4 { // few, for each that passes lowers the average
			if s.verdict(t) == "response-time" {
				return true
			}
			time.Sleep(50 * time.Millisecond)
		}
		return false
	})
}

func (s *systemTest) cpu(t *testing.T) {
	s.machine.be(1, 0.95)
	s.eventually(t, "cpu")
	s.machine.be(1, 0.5)
	s.eventually(t, "")
}

// loadWithBBR has a high load: one request at a time passes all the same, many at once do not.
func (s *systemTest) loadWithBBR(t *testing.T) {
	s.machine.be(20, 0.1)
	s.refuses(t, "load", "50", 10)
	s.eventually(t, "")
}

// sourceDies keeps the figures that forbade everything: they are of use for three intervals.
func (s *systemTest) sourceDies(t *testing.T) {
	e := s.e.For(t)
	waitMetric(t, e, 0, "sentinel_system_source_stale")
	waitMetric(t, e, 0, "sentinel_faults")
	s.machine.be(1, 1)
	s.eventually(t, "cpu")
	s.machine.Close()
	s.eventually(t, "")
	waitMetric(t, e, 1, "sentinel_system_source_stale")
	if e.Sum("sentinel_faults") == 0 {
		t.Error("no answer was not counted as a fault")
	}
}
