package e2e

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"sentinel-envoy/internal/envoytest"
	"sentinel-envoy/internal/stall"
)

// spread runs an Envoy with one listener whose connections are spread evenly over the workers.
func spread(t testing.TB, upstream string, concurrency int, config string) *envoytest.Envoy {
	t.Helper()
	return start(t, envoytest.Config{Concurrency: concurrency, Listeners: []envoytest.Listener{envoytest.HTTP{
		Upstream: upstream, ExactBalance: true, Timeout: time.Hour, Wasm: httpFilter(t, config),
	}}})
}

// burst opens n requests at once on one HTTP/2 connection, on each path(i), and returns how many were let in. They last until
// end is called.
func burst(t testing.TB, e *envoytest.Envoy, n int, path func(i int) string) (letIn int, end func()) {
	t.Helper()
	client := envoytest.NewHTTPClient(true)
	client.Timeout = 0
	ctx, cancel := context.WithCancel(t.Context())
	end = func() { cancel(); client.CloseIdleConnections() }
	t.Cleanup(end)
	if _, err := envoytest.Do(ctx, client, "GET", e.URL("http")+path(0), "x-delay-ms", "0"); err != nil {
		t.Fatal(err) // all others find its connection
	}
	var in atomic.Int64
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			req, err := http.NewRequestWithContext(ctx, "GET", e.URL("http")+path(i), nil)
			if err != nil {
				t.Error(err)
				return
			}
			resp, err := client.Do(req)
			switch {
			case err != nil:
				t.Error(err)
			case resp.StatusCode == http.StatusOK:
				in.Add(1)
			case resp.StatusCode != http.StatusTooManyRequests:
				t.Errorf("status %d", resp.StatusCode)
			}
		})
	}
	wg.Wait()
	return int(in.Load()), end
}

// TestFairnessOfABurst: with nothing in flight one connection gets all of the threshold at once, just after all workers were busy.
func TestFairnessOfABurst(t *testing.T) {
	const threshold = 40
	web := startOccupied(t)
	e := spread(t, web.addr, workers,
		fmt.Sprintf(`{"resource_name": "orders", "isolationRules": [{"id": "i", "resource": "orders", "threshold": %d}]}`, threshold))
	for range 5 {
		var wg sync.WaitGroup
		for range 4 * workers {
			wg.Go(func() {
				client := envoytest.NewHTTPClient(false)
				defer client.CloseIdleConnections()
				for range 20 {
					if _, err := envoytest.Do(t.Context(), client, "GET", e.URL("http")+"/orders", "x-delay-ms", "1"); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		got, end := burst(t, e, 2*threshold, func(int) string { return "/orders/held" })
		if got != threshold {
			t.Errorf("of a burst on one connection %d were let in, want %d", got, threshold)
		}
		end()
		envoytest.Eventually(t, soon, "all have ended", func() bool { return web.has("orders") == 0 })
	}
	if got := web.most("orders"); got != threshold {
		t.Errorf("the upstream had up to %d at once, want %d", got, threshold)
	}
}

// TestFairnessOfManyValues: all workers have requests of all values in flight, far from the threshold, and none is refused.
func TestFairnessOfManyValues(t *testing.T) {
	const values = 96
	web := startOccupied(t)
	e := spread(t, web.addr, workers, `{"resource_name": "users", "hotspotRules": [{"id": "h", "resource": "users", "metricType": "Concurrency",
		"paramSource": "PathSegment", "paramIndex": 1, "threshold": 1000, "paramsMaxCapacity": 16}]}`)
	for range workers {
		got, end := burst(t, e, values, func(i int) string { return "/users/" + strconv.Itoa(i) })
		defer end()
		if got != values {
			t.Errorf("%d of %d were let in", got, values)
		}
	}
	waitMetric(t, e, 0, "sentinel_blocked", "rule", "h")
}

// TestFairnessOfWaiting: however many wait for one resource, those of another find places.
func TestFairnessOfWaiting(t *testing.T) {
	const clients = 50
	web := startOccupied(t)
	e := spread(t, web.addr, 1, `{"flowRules": [
		{"id": "bulk", "resource": "/bulk", "threshold": 1, "controlBehavior": "Throttling", "maxQueueingTimeMs": 3600000},
		{"id": "login", "resource": "/login", "threshold": 100, "controlBehavior": "Throttling", "maxQueueingTimeMs": 60000}]}`)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for range 8 {
		client := envoytest.NewHTTPClient(true)
		client.Timeout = 0
		defer client.CloseIdleConnections()
		for range 600 {
			go func() { _, _ = envoytest.Do(ctx, client, "GET", e.URL("http")+"/bulk", "x-delay-ms", "0") }()
		}
	}
	envoytest.Eventually(t, soon, "no more of \"bulk\" may wait", func() bool { return e.Sum("sentinel_queue_full") > 0 })
	var in atomic.Int64
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			client := envoytest.NewHTTPClient(false)
			defer client.CloseIdleConnections()
			r, err := envoytest.Do(t.Context(), client, "GET", e.URL("http")+"/login", "x-delay-ms", "0")
			if err != nil {
				t.Error(err)
			} else if r.Status == http.StatusOK {
				in.Add(1)
			}
		})
	}
	wg.Wait()
	if got := in.Load(); got != clients {
		t.Errorf("%d of %d logins were let in", got, clients)
	}
}

// TestFairnessOfAProcessThatWasStopped: under load, with a stop of 2.5 s again and again, the upstream never has more than the
// threshold.
func TestFairnessOfAProcessThatWasStopped(t *testing.T) { stall.Retry(t, stopped) }

func stopped(t testing.TB) {
	const threshold, clients, stop = 40, 80, 2500 * time.Millisecond
	web := startOccupied(t)
	e := spread(t, web.addr, workers,
		fmt.Sprintf(`{"resource_name": "orders", "isolationRules": [{"id": "i", "resource": "orders", "threshold": %d}]}`, threshold))
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	var refused atomic.Int64
	for i := range clients {
		wg.Go(func() {
			client := envoytest.NewHTTPClient(false)
			defer client.CloseIdleConnections()
			for ctx.Err() == nil {
				delay := strconv.Itoa(1000 + i*100) // most outlive a stop
				r, err := envoytest.Do(ctx, client, "GET", e.URL("http")+"/orders", "x-delay-ms", delay)
				if err == nil && r.Status != http.StatusOK {
					refused.Add(1)
					select {
					case <-ctx.Done():
					case <-time.After(20 * time.Millisecond):
					}
				}
			}
		})
	}
	full := func() bool { return web.has("orders") >= threshold }
	for range 4 {
		envoytest.Eventually(t, soon, "the threshold is reached", full)
		if err := syscall.Kill(e.PID(), syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		time.Sleep(stop)
		if err := syscall.Kill(e.PID(), syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		before := refused.Load()
		envoytest.Eventually(t, soon, "others have asked", func() bool { return refused.Load() > before+10*clients })
	}
	if got := web.most("orders"); got != threshold {
		t.Errorf("the upstream had up to %d at once, want %d", got, threshold)
	}
}
