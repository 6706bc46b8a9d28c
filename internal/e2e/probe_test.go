package e2e

import (
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sentinel-envoy/internal/envoytest"
)

// probing is a breaker with its service under load: the service is well again after three failures.
type probing struct {
	name    string
	retryMs int
	ask     []string // headers of the requests
}

var probings = []probing{
	{"takes-1500-ms", 1000, []string{"x-delay-ms", "1500"}},
	{"takes-3500-ms", 3000, []string{"x-delay-ms", "3500"}},
	{"streams", 1000, []string{"x-goes-on", "1"}},
}

// TestProbe: a breaker closes when its service is well, however long that takes to answer, and however long its answers
// last; and a service that hangs gets no more than its probes.
func TestProbe(t *testing.T) {
	services := map[string]*stage{}
	var listeners []envoytest.Listener
	add := func(name, rule string) {
		service, up := startStage(t)
		services[name] = service
		listeners = append(listeners, envoytest.HTTP{
			Name: name, Upstream: up, Timeout: 10 * time.Minute,
			Wasm: httpFilter(t, fmt.Sprintf(`{"resource_name": %q, %s}`, name, breakers(rule))),
		})
	}
	for _, p := range probings {
		add(p.name, errors3(p.name, p.retryMs))
	}
	const hangs = "hangs"
	add(hangs, fmt.Sprintf(`{"id": "hangs", "resource": "hangs", "strategy": "ErrorCount", "threshold": 3, "minRequestAmount": 1,
		"statIntervalMs": %d, "retryTimeoutMs": 500, "probeNum": 10}`, forever))
	e := start(t, envoytest.Config{Listeners: listeners})
	t.Run("all", func(t *testing.T) { // ends with the last of them
		for _, p := range probings {
			t.Run(p.name, func(t *testing.T) {
				t.Parallel()
				p.see(t, e.For(t), services[p.name])
			})
		}
		t.Run(hangs, func(t *testing.T) {
			t.Parallel()
			seeHanging(t, e.For(t), services[hangs])
		})
	})
	waitMetric(t, e, 0, "sentinel_faults")
}

// fails makes a breaker open, for all workers.
func fails(t *testing.T, e *envoytest.Envoy, name string, service *stage) {
	t.Helper()
	service.fail(true)
	envoytest.Eventually(t, soon, "it opens", func() bool {
		e.Get(name, "/")
		return e.Sum("sentinel_breaker_state", "rule", name) == open
	})
	allRefuse(t, func() bool { return e.Get(name, "/").Status != http.StatusInternalServerError })
	service.fail(false)
}

// allRefuse waits until all workers know that a breaker is open: many requests over connections of their own are refused.
func allRefuse(t *testing.T, refused func() bool) {
	t.Helper()
	envoytest.Eventually(t, soon, "all workers know it", func() bool {
		for range 10 * workers {
			if !refused() {
				return false
			}
		}
		return true
	})
}

// press asks until it is stopped, over several connections at once.
func press(t *testing.T, e *envoytest.Envoy, name string, headers ...string) (stop func()) {
	ctx := envoytest.Context(t, 2*soon)
	var stopped atomic.Bool
	var all sync.WaitGroup
	client := envoytest.NewHTTPClient(true)
	client.Timeout = 0
	for range 20 {
		all.Go(func() {
			for !stopped.Load() && ctx.Err() == nil {
				req, err := http.NewRequestWithContext(ctx, "GET", e.URL(name), nil)
				if err != nil {
					t.Error(err)
					return
				}
				for i := 0; i < len(headers); i += 2 {
					req.Header.Set(headers[i], headers[i+1])
				}
				if resp, err := client.Do(req); err == nil {
					go func() { // the body of a stream stays open
						buf := make([]byte, 64)
						for {
							if _, err := resp.Body.Read(buf); err != nil {
								resp.Body.Close()
								return
							}
						}
					}()
				}
				wait(ctx, 20*time.Millisecond)
			}
		})
	}
	return func() {
		stopped.Store(true)
		client.CloseIdleConnections()
		t.Cleanup(all.Wait)
	}
}

func (p probing) see(t *testing.T, e *envoytest.Envoy, service *stage) {
	fails(t, e, p.name, service)
	defer press(t, e, p.name, p.ask...)()
	waitMetric(t, e, closed, "sentinel_breaker_state", "rule", p.name)
}

// seeHanging opens a breaker again and again: each time one of its probes fails, the others hang.
func seeHanging(t *testing.T, e *envoytest.Envoy, service *stage) {
	const name, probes = "hangs", 10
	fails(t, e, name, service)
	stop := press(t, e, name, "x-delay-ms", "600000")
	defer stop()
	envoytest.Eventually(t, soon, "its probes are under way", func() bool {
		now, _ := service.inFlight()
		return now >= probes
	})
	opened := len(e.Log.All(`circuit breaker hangs of hangs: open -> half-open,`))
	time.Sleep(5 * time.Second) // longer than any deadline that a probe might have
	if now, most := service.inFlight(); now > probes || most > probes {
		t.Errorf("%d are under way, and there were %d at once, of %d probes", now, most, probes)
	}
	if got := len(e.Log.All(`circuit breaker hangs of hangs: open -> half-open,`)); got != opened {
		t.Errorf("it was half open %d times more", got-opened)
	}
}

// TestBreakerOfTwoFilters: one id in two filters is one breaker, by which each decides as its own rule says, whichever was
// loaded last.
func TestBreakerOfTwoFilters(t *testing.T) {
	service, up := startStage(t)
	listener := func(name string, threshold, retryMs int) envoytest.Listener {
		rule := fmt.Sprintf(`{"id": "b", "resource": "r", "strategy": "ErrorCount", "threshold": %d, "minRequestAmount": 1,
			"statIntervalMs": %d, "retryTimeoutMs": %d}`, threshold, forever, retryMs)
		return envoytest.HTTP{Name: name, Upstream: up, Wasm: httpFilter(t, `{"resource_name": "r", `+breakers(rule)+`}`)}
	}
	e := start(t, envoytest.Config{Concurrency: 1, Listeners: []envoytest.Listener{
		listener("first", 1000, 30000), listener("strict", 5, 1000), listener("last", 1000, 30000),
	}})
	state := func() float64 { return e.Sum("sentinel_breaker_state", "rule", "b") }
	service.fail(true)
	for _, name := range []string{"first", "last"} {
		for range 5 {
			e.Get(name, "/")
		}
	}
	waitMetric(t, e, 10, "sentinel_completed", "resource", "r")
	if got := state(); got != closed {
		t.Fatalf("ten of 1000 failures: the gauge is %v", got)
	}
	e.Get("strict", "/")
	envoytest.Eventually(t, soon, "eleven of 5 failures open it", func() bool { return state() == open })
	service.fail(false)
	envoytest.Eventually(t, soon, "the strict one's probe closes it", func() bool {
		for _, name := range []string{"first", "last"} {
			if r := e.Get(name, "/"); state() == open && r.Status == http.StatusOK {
				t.Fatalf("%s lets a request in before its own retry timeout", name)
			}
		}
		return e.Get("strict", "/").Status == http.StatusOK
	})
	waitMetric(t, e, closed, "sentinel_breaker_state", "rule", "b")
	for _, name := range []string{"first", "last"} {
		envoytest.Eventually(t, soon, "all hear of it", func() bool { return e.Get(name, "/").Status == http.StatusOK })
	}
}

// TestOpenBreakerWhoseThresholdChanges: a rule without an id is the same breaker whatever its threshold becomes, and stays
// open.
func TestOpenBreakerWhoseThresholdChanges(t *testing.T) {
	service, up := startStage(t)
	listener := func(threshold int) envoytest.Listener {
		return envoytest.HTTP{Upstream: up, Wasm: httpFilter(t, `{"resource_name": "svc", `+breakers(fmt.Sprintf(`{"resource": "svc",
			"strategy": "ErrorCount", "threshold": %d, "minRequestAmount": 1, "statIntervalMs": %d,
			"retryTimeoutMs": 600000}`, threshold, forever))+`}`)}
	}
	e := start(t, envoytest.Config{Dynamic: true, Listeners: []envoytest.Listener{listener(3)}})
	service.fail(true)
	envoytest.Eventually(t, soon, "it opens", func() bool {
		e.Get("http", "/")
		return e.Sum("sentinel_breaker_state", "resource", "svc") == open
	})
	service.fail(false)
	before := agreedRules(t, e)
	e.Update(listener(100))
	envoytest.Eventually(t, soon, "all VMs have the new rules", func() bool { return agreedRules(t, e) != before })
	for range 4 * workers {
		if r := e.Get("http", "/"); r.Status != http.StatusTooManyRequests {
			t.Errorf("status %d from the breaker that is open", r.Status)
		}
	}
	waitMetric(t, e, open, "sentinel_breaker_state", "resource", "svc")
}
