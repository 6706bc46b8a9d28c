package e2e

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"sentinel-envoy/internal/envoytest"
	"sentinel-envoy/internal/plugintest"
	"sentinel-envoy/internal/stall"
)

// silence is for how long what is held is watched: longer than a lease counts without being renewed.
const silence = 3 * time.Second

// occupied is an upstream that knows how many requests it has at once, by the first part of their path. It ends a request
// after x-delay-ms, or else when the client does; it takes WebSockets and gRPC streams.
type occupied struct {
	addr string
	mu   sync.Mutex
	now  map[string]int
	peak map[string]int
}

func startOccupied(t testing.TB) *occupied {
	t.Helper()
	o := &occupied{now: map[string]int{}, peak: map[string]int{}}
	o.addr = envoytest.StartServer(t, o)
	return o
}

func (o *occupied) add(name string, n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.now[name] += n
	o.peak[name] = max(o.peak[name], o.now[name])
}

// most is the largest number of requests that were there at once.
func (o *occupied) most(name string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.peak[name]
}

// begin waits until no request is there, and forgets how many were.
func (o *occupied) begin(t testing.TB, name string) {
	t.Helper()
	envoytest.Eventually(t, soon, "the upstream has nothing to do", func() bool { return o.has(name) == 0 })
	o.mu.Lock()
	defer o.mu.Unlock()
	o.peak[name] = 0
}

// has is the number of requests that are there.
func (o *occupied) has(name string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.now[name]
}

// ServeHTTP implements http.Handler.
func (o *occupied) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	if name == "shop.Orders" {
		name = "orders"
	}
	o.add(name, 1)
	defer o.add(name, -1)
	switch delay, err := time.ParseDuration(r.Header.Get("x-delay-ms") + "ms"); {
	case r.Header.Get("upgrade") == "websocket":
		talk(w)
	case err == nil:
		time.Sleep(delay)
	default:
		w.Header().Set("content-type", r.Header.Get("content-type"))
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}
}

// talk accepts a WebSocket and listens until the client is gone.
func talk(w http.ResponseWriter) {
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	_, _ = buffered.WriteString("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
	_ = buffered.Flush()
	_, _ = io.Copy(io.Discard, conn)
}

// opener tries to open something that lasts until end is called; ok is whether it was let in.
type opener func(t testing.TB, e *envoytest.Envoy) (end func(), ok bool)

// openHTTP opens a request on a connection of its own.
func openHTTP(t testing.TB, e *envoytest.Envoy) (end func(), ok bool) {
	t.Helper()
	client := envoytest.NewHTTPClient(false)
	client.Timeout = 0
	ctx, cancel := context.WithCancel(t.Context())
	end = func() { cancel(); client.CloseIdleConnections() }
	t.Cleanup(end)
	req, err := http.NewRequestWithContext(ctx, "GET", e.URL("http")+"/orders/held", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != 200 {
		resp.Body.Close()
		end()
	}
	return end, letIn(t, resp.StatusCode, 200, 429)
}

// letIn is whether got is what is had when let in; it must be that or what is had when refused.
func letIn[T comparable](t testing.TB, got, let, refused T) bool {
	t.Helper()
	if got != let && got != refused {
		t.Fatalf("got %v, want %v or %v", got, let, refused)
	}
	return got == let
}

func openWebSocket(t testing.TB, e *envoytest.Envoy) (end func(), ok bool) {
	t.Helper()
	conn := e.Dial("http")
	end = func() { conn.Close() }
	_, err := conn.Write([]byte("GET /orders/socket HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n" +
		"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	return end, letIn(t, resp.StatusCode, 101, 429)
}

func openGRPC(t testing.TB, e *envoytest.Envoy) (end func(), ok bool) {
	t.Helper()
	client, err := envoytest.NewGRPCClient(e.Addr("http"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	end = func() { cancel(); client.Close() }
	t.Cleanup(end)
	stream, err := client.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, "/shop.Orders/Watch")
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.SendMsg(&emptypb.Empty{}); err != nil && err != io.EOF {
		t.Fatal(err)
	}
	// A refusal has no headers but those that are trailers, too.
	header, err := stream.Header()
	if err != nil || header == nil {
		letIn(t, status.Code(stream.RecvMsg(&emptypb.Empty{})), codes.ResourceExhausted, codes.ResourceExhausted)
		return end, false
	}
	return end, true
}

// openTCP opens a connection, and asks for what the upstream will not end.
func openTCP(t testing.TB, e *envoytest.Envoy) (end func(), ok bool) {
	t.Helper()
	conn := e.Dial("tcp")
	end = func() { conn.Close() }
	if _, err := conn.Write([]byte("GET /tcp HTTP/1.1\r\nhost: a\r\n\r\n")); err != nil {
		return end, false
	}
	_, err := http.ReadResponse(bufio.NewReader(conn), nil)
	return end, err == nil
}

// fill opens until n are let in.
func fill(t testing.TB, e *envoytest.Envoy, n int, open ...opener) (ends []func()) {
	t.Helper()
	for deadline := time.Now().Add(soon); len(ends) < n; {
		end, ok := open[len(ends)%len(open)](t, e)
		if ok {
			ends = append(ends, end)
			continue
		}
		end()
		if time.Now().After(deadline) {
			t.Fatalf("only %d of %d were let in", len(ends), n)
		}
	}
	return ends
}

// TestIsolation runs the example: what is in flight is within the threshold, and reaches it.
func TestIsolation(t *testing.T) {
	web := startOccupied(t)
	e := example(t, "isolation.yaml", web.addr)
	t.Run("SlowRequests", func(t *testing.T) {
		const clients, threshold = 24, 8
		var wg sync.WaitGroup
		var mu sync.Mutex
		answers := map[int]int{}
		for range clients { // a connection each, over all workers
			wg.Go(func() {
				client := envoytest.NewHTTPClient(false)
				defer client.CloseIdleConnections()
				for range 40 {
					r, err := envoytest.Do(t.Context(), client, "GET", e.URL("http")+"/orders", "x-delay-ms", "30")
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					answers[r.Status]++
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		t.Logf("answers: %v", answers)
		if got := web.most("orders"); got != threshold {
			t.Errorf("the upstream had up to %d requests at once, want %d", got, threshold)
		}
		if answers[200] == 0 || answers[429] == 0 || answers[200]+answers[429] != clients*40 {
			t.Errorf("answers: %v", answers)
		}
	})
	t.Run("LongStreams", func(t *testing.T) {
		stall.Retry(t, func(t testing.TB) { stay(t, e.For(t), web, "orders", 8, openHTTP, openWebSocket, openGRPC) })
	})
	t.Run("Connections", func(t *testing.T) {
		stall.Retry(t, func(t testing.TB) { stay(t, e.For(t), web, "tcp", 5, openTCP) })
	})
	waitMetric(t, e, 0, "sentinel_in_flight", "resource", "orders")
	waitMetric(t, e, 0, "sentinel_in_flight", "resource", "connections")
	waitMetric(t, e, 0, "sentinel_faults")
}

// stay fills up to the threshold, sees that nothing more is let in for as long as all stay, and that an end makes room
// for exactly one.
func stay(t testing.TB, e *envoytest.Envoy, web *occupied, name string, threshold int, open ...opener) {
	t.Helper()
	web.begin(t, name)
	ends := fill(t, e, threshold, open...)
	for i, deadline := 0, time.Now().Add(silence); time.Now().Before(deadline); i++ {
		end, ok := open[i%len(open)](t, e)
		if end(); ok {
			t.Fatalf("with %d held another was let in after %d attempts", threshold, i)
		}
	}
	for i := range open { // one of each kind
		ends[i]()
		// Envoy knows of the end before the upstream does, and would let the next one in while the upstream has both.
		envoytest.Eventually(t, soon, "the upstream has heard of the end", func() bool { return web.has(name) < threshold })
		ends[i] = fill(t, e, 1, open[len(open)-1-i])[0]
		end, ok := open[0](t, e)
		if end(); ok {
			t.Fatalf("one of %d has ended, and a second was let in", threshold)
		}
	}
	if got := web.most(name); got != threshold {
		t.Errorf("the upstream had up to %d at once, want %d", got, threshold)
	}
	for _, end := range ends {
		end()
	}
}

// TestIsolationWorkerDies traps the VM of a worker: what it had in flight is room for the others soon after, and nothing
// beyond. (The dead VM's requests are no longer counted, whether or not Envoy has ended them.)
func TestIsolationWorkerDies(t *testing.T) { stall.Retry(t, isolationWorkerDies) }

func isolationWorkerDies(t testing.TB) {
	const threshold, each = 2 * workers, 2
	web := startOccupied(t)
	config := `{"resource_name": "orders", "isolationRules": [{"id": "i", "resource": "orders", "threshold": 8}]}`
	e := start(t, envoytest.Config{Listeners: []envoytest.Listener{envoytest.HTTP{
		Upstream: web.addr, ExactBalance: true, Timeout: time.Hour,
		Wasm: []envoytest.Wasm{{File: plugintest.File(t, plugintest.Faulty), RootID: "sentinel_http", Config: config}},
	}}})
	fill(t, e, threshold, openHTTP) // connections are spread evenly: each worker has as many
	if r := e.Get("http", "/", "x-sentinel-fault", "trap"); r.Status != 503 {
		t.Fatalf("the trap gives %d", r.Status)
	}
	died := time.Now()
	for got := 0; got < each; {
		if openAnywhere(t, e) {
			got++
		} else if time.Since(died) > soon {
			t.Fatalf("%d of the dead worker's %d are back after %v", got, each, soon)
		}
	}
	t.Logf("all are back after %v", time.Since(died).Round(10*time.Millisecond))
	for deadline := time.Now().Add(silence); time.Now().Before(deadline); {
		if openAnywhere(t, e) {
			t.Fatal("more than the dead worker's share was let in")
		}
	}
}

// openAnywhere tries to open a request that is held; the dead worker answers 503.
func openAnywhere(t testing.TB, e *envoytest.Envoy) bool {
	t.Helper()
	client := envoytest.NewHTTPClient(false)
	client.Timeout = 0
	t.Cleanup(client.CloseIdleConnections)
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, "GET", e.URL("http")+"/orders/held", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cancel)
	if resp.StatusCode != 200 {
		cancel()
		client.CloseIdleConnections()
	}
	return resp.StatusCode == 200
}
