package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sentinel-envoy/internal/envoytest"
)

// arrivals is an upstream that knows when requests have arrived, by their path, and how much body they had.
type arrivals struct {
	addr  string
	mu    sync.Mutex
	times map[string][]time.Time
	bytes int64
}

func startArrivals(t *testing.T) *arrivals {
	t.Helper()
	a := &arrivals{times: map[string][]time.Time{}}
	a.addr = envoytest.StartServer(t, a)
	return a
}

// ServeHTTP implements http.Handler.
func (a *arrivals) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	now := time.Now()
	n, _ := io.Copy(io.Discard, r.Body)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.times[r.URL.Path] = append(a.times[r.URL.Path], now)
	a.bytes += n
	fmt.Fprint(w, "ok")
}

// since is how long after start requests to a path have arrived, in order.
func (a *arrivals) since(path string, start time.Time) (after []time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, at := range a.times[path] {
		after = append(after, at.Sub(start))
	}
	slices.Sort(after)
	return after
}

// body is how many bytes of bodies have arrived.
func (a *arrivals) body() int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.bytes
}

func (a *arrivals) count(path string) int { return len(a.since(path, time.Time{})) }

// crowd sends n requests at once, each on a connection of its own, and gives the statuses, 0 for one that was cut off.
func crowd(t *testing.T, ctx context.Context, n int, method, url string, body []byte) func() []int {
	t.Helper()
	statuses := make([]int, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			client := envoytest.NewHTTPClient(false)
			defer client.CloseIdleConnections()
			req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
			if err != nil {
				t.Error(err)
				return
			}
			if resp, err := client.Do(req); err == nil {
				statuses[i] = resp.StatusCode
				resp.Body.Close()
			}
		})
	}
	return func() []int { all.Wait(); return statuses }
}

func count(statuses []int, status int) (n int) {
	for _, s := range statuses {
		if s == status {
			n++
		}
	}
	return n
}

// checkSpaced checks that arrivals are spaced: none is early, however late the one before it was.
func checkSpaced(t *testing.T, after []time.Duration, interval time.Duration) {
	t.Helper()
	for i, at := range after {
		if at < time.Duration(i)*interval {
			t.Errorf("arrival %d of %d came after %v, before its turn: %v", i, len(after), at, after)
			return
		}
	}
	if len(after) == 0 {
		t.Error("nothing has arrived")
		return
	}
	var closest time.Duration = time.Hour
	for i := 1; i < len(after); i++ {
		closest = min(closest, after[i]-after[i-1])
	}
	t.Logf("%d arrivals in %v, the closest %v apart", len(after), after[len(after)-1], closest)
}

// TestThrottlingExample: what waits is spaced over all workers, in a queue of bounded length, costs no CPU meanwhile, and
// may leave.
func TestThrottlingExample(t *testing.T) {
	up := startArrivals(t)
	e := example(t, "throttling.yaml", up.addr)
	t.Run("HTTP", func(t *testing.T) { throttledHTTP(t, e.For(t), up) })
	t.Run("HTTPClientLeaves", func(t *testing.T) { throttledHTTPLeaves(t, e.For(t), up) })
	t.Run("HTTPBody", func(t *testing.T) { throttledHTTPBody(t, e.For(t), up) })
	t.Run("TCP", func(t *testing.T) { throttledTCP(t, e.For(t), up) })
	waitMetric(t, e, 0, "sentinel_faults")
}

func throttledHTTP(t *testing.T, e *envoytest.Envoy, up *arrivals) {
	const requests, interval, longest = 60, 100 * time.Millisecond, 2 * time.Second
	start := time.Now()
	cpu, err := e.CPUTime()
	if err != nil {
		t.Fatal(err)
	}
	wait := crowd(t, t.Context(), requests, "GET", e.URL("http")+"/mails", nil)
	// While they wait, all workers go on with everything else.
	free := 0
	for up.count("/mails") < 5 {
		if r := e.Get("http", "/free"); r.Status != 200 {
			t.Fatalf("another resource got %d", r.Status)
		}
		free++
	}
	statuses := wait()
	spent, err := e.CPUTime()
	if err != nil {
		t.Fatal(err)
	}
	elapsed := time.Since(start)
	let, refused := count(statuses, 200), count(statuses, 429)
	if let+refused != requests || let < int(longest/interval) {
		t.Errorf("statuses %v", statuses)
	}
	// The queue takes no more than it can let in in time.
	if most := int((elapsed + longest) / interval); let > most {
		t.Errorf("%d were let in in %v", let, elapsed)
	}
	checkSpaced(t, up.since("/mails", start), interval)
	if free == 0 {
		t.Error("no other request was answered while some waited")
	}
	if busy := spent - cpu; busy > elapsed*8/10 {
		t.Errorf("Envoy has used %v of CPU in %v, in which it mostly waited", busy, elapsed)
	}
	waitMetric(t, e, float64(let), "sentinel_passed", "resource", "mails")
	waitMetric(t, e, float64(refused), "sentinel_blocked", "rule", "mails-throttle")
	waitMetric(t, e, 0, "sentinel_in_flight", "resource", "mails")
}

// throttledHTTPLeaves: who leaves while it waits is not forwarded, and those behind go on.
func throttledHTTPLeaves(t *testing.T, e *envoytest.Envoy, up *arrivals) {
	ctx, leave := context.WithCancel(t.Context())
	before := e.Sum("sentinel_passed", "resource", "mails")
	wait := crowd(t, t.Context(), 5, "GET", e.URL("http")+"/mails/stay", nil)
	envoytest.Eventually(t, soon, "the first has gone on", func() bool { return up.count("/mails/stay") > 0 })
	gone := crowd(t, ctx, 5, "GET", e.URL("http")+"/mails/leave", nil)
	rest := crowd(t, t.Context(), 3, "GET", e.URL("http")+"/mails/stay", nil)
	envoytest.Eventually(t, soon, "some of them have gone on", func() bool { return up.count("/mails/stay") > 2 })
	leave()
	cut := count(gone(), 0)
	for _, s := range append(wait(), rest()...) {
		if s != 200 {
			t.Errorf("one that stayed got %d", s)
		}
	}
	left := up.count("/mails/leave")
	if cut == 0 || left+cut > 5+1 { // one may be cut off after it was forwarded
		t.Errorf("%d were cut off, %d have arrived", cut, left)
	}
	waitMetric(t, e, before+float64(8+left), "sentinel_passed", "resource", "mails")
	waitMetric(t, e, 0, "sentinel_in_flight", "resource", "mails")
}

// throttledHTTPBody: a body larger than Envoy's buffer arrives whole after the wait.
func throttledHTTPBody(t *testing.T, e *envoytest.Envoy, up *arrivals) {
	body := bytes.Repeat([]byte("x"), 4<<20)
	statuses := crowd(t, t.Context(), 4, "POST", e.URL("http")+"/mails/body", body)()
	if count(statuses, 200) != 4 || up.body() != int64(4*len(body)) {
		t.Errorf("statuses %v, and %d bytes arrived", statuses, up.body())
	}
}

func throttledTCP(t *testing.T, e *envoytest.Envoy, up *arrivals) {
	const connections, interval, longest = 40, 50 * time.Millisecond, time.Second
	start := time.Now()
	var all sync.WaitGroup
	var let, closed atomic.Int64
	for i := range connections {
		path := "/tcp"
		if i%8 == 7 {
			path = "/tcp-leaves"
		}
		all.Go(func() {
			conn, err := net.Dial("tcp", e.Addr("tcp"))
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			// It speaks while it waits: what it says must not be lost, nor go on before its turn.
			fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", path)
			if path == "/tcp-leaves" {
				for deadline := time.Now().Add(soon); up.count("/tcp") == 0 && time.Now().Before(deadline); {
					time.Sleep(time.Millisecond)
				}
				envoytest.Reset(conn.(*net.TCPConn)) // most of those who leave are waiting then
				return
			}
			answer, _ := io.ReadAll(conn)
			if strings.HasPrefix(string(answer), "HTTP/1.1 200") {
				let.Add(1)
			} else if len(answer) == 0 {
				closed.Add(1)
			} else {
				t.Errorf("got %q", answer)
			}
		})
	}
	all.Wait()
	if let.Load() < int64(longest/interval)-5 || let.Load()+closed.Load() != connections*7/8 {
		t.Errorf("%d were let in, %d closed", let.Load(), closed.Load())
	}
	both := append(up.since("/tcp", start), up.since("/tcp-leaves", start)...)
	slices.Sort(both)
	checkSpaced(t, both, interval)
	waitMetric(t, e, 0, "sentinel_in_flight", "resource", "connections")
}

// TestThrottlingWhileTheConfigurationChanges: what waits under the old configuration goes on.
func TestThrottlingWhileTheConfigurationChanges(t *testing.T) {
	up := startArrivals(t)
	greeter := envoytest.StartTCPService(t, "hello\n")
	listeners := func(threshold int) []envoytest.Listener {
		rules := func(resource string) string {
			return fmt.Sprintf(`{"resource_name": %q, "flowRules": [{"id": %q, "resource": %q, "threshold": %d,
				"controlBehavior": "Throttling", "maxQueueingTimeMs": 60000}]}`, resource, resource, resource, threshold)
		}
		return []envoytest.Listener{
			envoytest.HTTP{Upstream: up.addr, Wasm: httpFilter(t, rules("a"))},
			envoytest.TCP{Upstream: greeter.Addr(), Wasm: tcpFilter(t, rules("b"))},
		}
	}
	e := start(t, envoytest.Config{Dynamic: true, Listeners: listeners(5)})
	wait := crowd(t, t.Context(), 12, "GET", e.URL("http")+"/", nil)
	var conns []net.Conn
	for range 8 { // the server speaks first: nothing comes from these clients
		conns = append(conns, e.Dial("tcp"))
	}
	envoytest.Eventually(t, soon, "the first has gone on", func() bool { return up.count("/") > 0 })
	e.Update(listeners(4)...)
	if statuses := wait(); count(statuses, 200) != 12 {
		t.Errorf("statuses %v", statuses)
	}
	for _, c := range conns {
		expect(t, c, "hello\n")
	}
	waitMetric(t, e, 0, "sentinel_faults")
}

// TestWarmUpExample: a cold resource gets a third of its threshold, a warm one all of it, over all workers.
func TestWarmUpExample(t *testing.T) {
	const threshold, seconds, cold = 100, 9, 3
	up := startArrivals(t)
	e := example(t, "warm-up.yaml", up.addr)
	start := time.Now()
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			client := envoytest.NewHTTPClient(false)
			for time.Since(start) < seconds*time.Second {
				if _, err := envoytest.Do(t.Context(), client, "GET", e.URL("http")+"/orders"); err != nil {
					t.Error(err)
					return
				}
				// A new connection now and then: another worker.
				if time.Since(start).Milliseconds()%8 == 0 {
					client.CloseIdleConnections()
				}
				time.Sleep(6 * time.Millisecond)
			}
			client.CloseIdleConnections()
		})
	}
	all.Wait()
	perSecond := make([]int, seconds)
	for _, at := range up.since("/orders", start) {
		if s := int(at / time.Second); s < seconds {
			perSecond[s]++
		}
	}
	t.Log("admitted per second: ", perSecond)
	// A second of ours begins anywhere in a window: it sees at most what two of them admit.
	if first := perSecond[0] + perSecond[1]; first < threshold/cold || first > 3*(threshold/cold+4) {
		t.Errorf("%d were admitted in the first two seconds", first)
	}
	last := perSecond[seconds-1] + perSecond[seconds-2] + perSecond[seconds-3]
	if last < 2*threshold || last > 4*threshold {
		t.Errorf("%d were admitted in the last three seconds", last)
	}
	waitMetric(t, e, 0, "sentinel_faults")
	t.Run("TCP", func(t *testing.T) { warmUpTCP(t, e.For(t)) })
}

func warmUpTCP(t *testing.T, e *envoytest.Envoy) {
	for range 60 {
		e.Dial("tcp").Close()
	}
	envoytest.Eventually(t, soon, "all are decided", func() bool {
		passed := e.Sum("sentinel_passed", "resource", "connections")
		return passed+e.Sum("sentinel_blocked", "rule", "connections-warm-up") == 60
	})
	if passed := e.Sum("sentinel_passed", "resource", "connections"); passed < 10 || passed > 3*11 {
		t.Errorf("%v of 60 connections at once were let in by a cold rule of 30 / 3", passed)
	}
}
