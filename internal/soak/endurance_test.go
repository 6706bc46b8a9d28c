package soak

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sentinel-envoy/internal/envoytest"
	"sentinel-envoy/internal/plugintest"
	"sentinel-envoy/internal/seeds"
)

var (
	requests    = flag.Int64("soak.requests", 300_000, "HTTP requests of the endurance test")
	connections = flag.Int64("soak.connections", 60_000, "TCP connections of the endurance test")
)

const (
	// visitors is how many clients there are at once. Each has a connection of HTTP/1.1, one of HTTP/2 and, now and then,
	// one of TCP.
	visitors = 24
	// limit is the budget of requests and connections together, per second; many times as many ask.
	limit = 500
	// round is how many requests a visitor sends in a row: as many in HTTP/1.1 as in HTTP/2.
	round = 2 * batch
	// warmUp is the part of the run before memory has to be flat: until then tables fill, heaps grow to their size and
	// the compiler of Envoy's runtime is done.
	warmUp = 0.5
	// fullRun is how many requests and connections it takes to tell a leak of few bytes each.
	fullRun = 5_000_000
)

// enduranceHTTP has rules of all families on /limited, which the flow rule bounds; on /users a rule that clients fill
// with values of their own; an upstream that is full now and then, and at times fails; and a queue.
var enduranceHTTP = fmt.Sprintf(`{
	"resources": [{"name": "work", "match": {"path": {"prefix": "/status/"}}}],
	"systemRules": [
		{"id": "all-qps", "metricType": "InboundQPS", "triggerCount": 1000000},
		{"id": "all-inside", "metricType": "Concurrency", "triggerCount": 100000}],
	"flowRules": [
		{"id": "limited", "resource": "/limited", "threshold": %[1]d},
		{"id": "queue", "resource": "/queue", "threshold": 500, "controlBehavior": "Throttling", "maxQueueingTimeMs": 10}],
	"isolationRules": [
		{"id": "limited-inside", "resource": "/limited", "threshold": 1000},
		{"id": "work-inside", "resource": "work", "threshold": 6}],
	"hotspotRules": [
		{"id": "limited-user", "resource": "/limited", "metricType": "QPS", "threshold": 100000, "durationInSec": 1,
			"paramSource": "Header", "paramKey": "x-user"},
		{"id": "user", "resource": "/users", "metricType": "QPS", "threshold": 5, "durationInSec": 1,
			"paramSource": "Header", "paramKey": "x-user"},
		{"id": "user-inside", "resource": "/users", "metricType": "Concurrency", "threshold": 100,
			"paramSource": "Header", "paramKey": "x-user"}],
	"circuitBreakerRules": [
		{"id": "limited-breaker", "resource": "/limited", "strategy": "SlowRequestRatio", "maxAllowedRtMs": 60000, "threshold": 0.5,
			"statIntervalMs": 1000, "retryTimeoutMs": 1000, "minRequestAmount": 10},
		{"id": "work-breaker", "resource": "work", "strategy": "ErrorRatio", "threshold": 0.5,
			"statIntervalMs": 1000, "retryTimeoutMs": 300, "minRequestAmount": 10}]
}`, limit)

// The limit is one budget for /limited and for the connections to one of the TCP listeners.
var enduranceLimitedTCP = fmt.Sprintf(`{"resource_name": "tcp-limited",
	"flowRules": [{"id": "limited", "resource": "tcp-limited", "threshold": %d}]}`, limit)

const enduranceTCP = `{"resource_name": "tcp",
	"systemRules": [{"id": "tcp-qps", "metricType": "InboundQPS", "triggerCount": 1000000}],
	"flowRules": [{"id": "tcp-flow", "resource": "tcp", "threshold": 1000000}],
	"isolationRules": [{"id": "tcp-inside", "resource": "tcp", "threshold": 1000}],
	"hotspotRules": [{"id": "tcp-source", "resource": "tcp", "metricType": "QPS", "threshold": 100000, "durationInSec": 1,
		"paramSource": "SourceAddress"}],
	"circuitBreakerRules": [{"id": "tcp-breaker", "resource": "tcp", "strategy": "ErrorRatio", "threshold": 0.5,
		"statIntervalMs": 1000, "retryTimeoutMs": 1000, "minRequestAmount": 10}]}`

// counts is what clients saw of a resource.
type counts struct {
	passed  float64
	failed  float64            // of what passed
	blocked float64            //
	by      map[string]float64 // what was blocked, by rule, where clients are told
}

// seen is what clients saw, by resource.
type seen map[string]*counts

func (s seen) of(resource string) *counts {
	if s[resource] == nil {
		s[resource] = &counts{by: map[string]float64{}}
	}
	return s[resource]
}

func (s seen) add(other seen) {
	for name, c := range other {
		mine := s.of(name)
		mine.passed += c.passed
		mine.failed += c.failed
		mine.blocked += c.blocked
		for rule, n := range c.by {
			mine.by[rule] += n
		}
	}
}

// endurance is a run.
type endurance struct {
	web, tcp, limitedTCP string
	seed                 uint64
	requests, conns      int64
	taken                atomic.Int64 // requests that visitors have taken on
	done                 atomic.Int64 // requests and connections that are over
}

// TestEndurance sends requests and opens connections, millions of each where asked to, on a configuration with all
// families of rules. Envoy's memory must not grow with them, the limit must be as exact at the end as at the start, and
// what clients saw must be what was counted.
func TestEndurance(t *testing.T) { seeds.Try(t, 1, endure) }

func endure(t *testing.T, seed uint64) {
	web, echo := envoytest.StartHTTPService(t), envoytest.StartTCPService(t, "")
	filter := func(root, config string) []envoytest.Wasm {
		return []envoytest.Wasm{{File: plugintest.File(t, release), RootID: root, Config: config}}
	}
	e := start(t, envoytest.Config{Listeners: []envoytest.Listener{
		envoytest.HTTP{Upstream: web.Addr(), Wasm: filter("sentinel_http", enduranceHTTP), Routes: []envoytest.Route{
			{Prefix: "/status/"}, {Prefix: "/", DirectStatus: 200, DirectBody: "ok"}}},
		envoytest.TCP{Name: "tcp", Upstream: echo.Addr(), Wasm: filter("sentinel_tcp", enduranceTCP)},
		envoytest.TCP{Name: "tcp-limited", Upstream: echo.Addr(), Wasm: filter("sentinel_tcp", enduranceLimitedTCP)},
	}})
	run := &endurance{web: e.Addr("http"), tcp: e.Addr("tcp"), limitedTCP: e.Addr("tcp-limited"),
		requests: *requests / round * round, conns: *connections, seed: seed}
	t.Logf("%d requests and %d connections", run.requests, run.conns)

	began := time.Now()
	saw, memory, decisions := run.watch(t, e)
	took := time.Since(began)
	run.seeCounts(t, e, saw)
	run.seeAccuracy(t, decisions)
	run.seeMemory(t, memory, took)
	waitMetric(t, e, 0, "sentinel_in_flight")
	waitMetric(t, e, 0, "sentinel_faults")
	plugintest.NoVMDied(t, e)
}

// memory is Envoy's, in KiB, over requests and connections, in millions.
type memory struct{ rss, allocated series }

// watch runs the visitors, and looks at Envoy meanwhile.
func (r *endurance) watch(t *testing.T, e *envoytest.Envoy) (seen, *memory, *audit) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error)
	saw := seen{}
	go func() { done <- r.visitAll(ctx, saw) }()

	var m memory
	decisions := newAudit(t, e)
	const looks = 120 // in the whole run, about
	all := r.requests + r.conns
	next, told := int64(0), time.Now()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			m.look(t, e, r.done.Load())
			settle(t, e, decisions, saw)
			return saw, &m, decisions
		case <-e.Ended():
			t.Fatal("Envoy has ended")
		case <-tick.C:
		}
		n := r.done.Load()
		if n < next {
			continue
		}
		next = n + all/looks
		m.look(t, e, n)
		decisions.read(t)
		if time.Since(told) > 20*time.Second {
			told = time.Now()
			first, last := decisions.span("limited")
			t.Logf("%3d %%: RSS %.0f MiB, %v", n*100/all, m.rss.y[len(m.rss.y)-1]/1024, decisions.judge("limited", limit, first, last))
		}
	}
}

// look takes a sample after n requests and connections.
func (m *memory) look(t *testing.T, e *envoytest.Envoy, n int64) {
	t.Helper()
	rss, err := e.RSS()
	if err != nil {
		t.Fatal(err)
	}
	own, err := e.Admin.Memory(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	m.rss.add(float64(n)/1e6, float64(rss)/1024)
	m.allocated.add(float64(n)/1e6, float64(own["allocated"])/1024)
}

// settle waits until the audit has all that clients saw of the limit.
func settle(t *testing.T, e *envoytest.Envoy, a *audit, saw seen) {
	t.Helper()
	want := saw.of("/limited").passed + saw.of("tcp-limited").passed
	envoytest.Eventually(t, soon, "the audit has all decisions", func() bool {
		a.read(t)
		return float64(a.total("limited").admitted) >= want
	})
}

// visitAll runs the visitors until all requests and connections are over, and adds up what they saw.
func (r *endurance) visitAll(ctx context.Context, saw seen) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	var mu sync.Mutex
	for i := range visitors {
		wg.Go(func() {
			v := &visitor{run: r, saw: seen{}, rand: rand.New(rand.NewPCG(r.seed, uint64(i)))}
			v.one.addr, v.two.addr = r.web, r.web
			defer v.one.close()
			defer v.two.close()
			if err := v.visit(ctx); err != nil {
				cancel(fmt.Errorf("visitor %d: %w", i, err))
			}
			mu.Lock()
			defer mu.Unlock()
			saw.add(v.saw)
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

// visitor is one client.
type visitor struct {
	run  *endurance
	rand *rand.Rand
	one  http1
	two  http2Client
	saw  seen
}

// visit does rounds of requests and connections until the run has enough.
func (v *visitor) visit(ctx context.Context) error {
	for ctx.Err() == nil {
		at := v.run.taken.Add(round)
		if at > v.run.requests {
			return nil
		}
		if err := v.requests(); err != nil {
			return err
		}
		// The connections that fall to these requests.
		for n := v.run.share(at) - v.run.share(at-round); n > 0; n-- {
			if err := v.connect(); err != nil {
				return err
			}
		}
	}
	return nil
}

// share is how many connections there are to be by the time that so many requests have been taken on.
func (r *endurance) share(requests int64) int64 { return requests * r.conns / r.requests }

func (v *visitor) requests() error {
	for range batch {
		a := v.ask()
		got, err := v.one.get(a)
		if err != nil {
			return fmt.Errorf("HTTP/1.1 %s: %w", a.path, err)
		}
		if err := v.note(a, got); err != nil {
			return err
		}
	}
	var asks [batch]ask
	for i := range asks {
		asks[i] = v.ask()
	}
	got, err := v.two.get(&asks)
	if err != nil {
		return fmt.Errorf("HTTP/2 %v: %w", asks, err)
	}
	for i := range asks {
		if err := v.note(asks[i], got[i]); err != nil {
			return err
		}
	}
	return nil
}

// ask is the next request: of a hundred, 60 are for what is limited, 33 come from a user, mostly a new one, 5 need the
// upstream and 2 go into the queue.
func (v *visitor) ask() ask {
	switch n := v.rand.IntN(100); {
	case n < 60:
		return ask{path: "/limited", user: strconv.Itoa(v.rand.IntN(100))}
	case n < 90:
		return ask{path: "/users", user: strconv.FormatUint(v.rand.Uint64(), 36)}
	case n < 93:
		return ask{path: "/users", user: strconv.Itoa(v.rand.IntN(8))}
	case n < 98:
		return ask{path: v.run.work(), delay: strconv.Itoa(v.rand.IntN(4))}
	}
	return ask{path: "/queue"}
}

// work is the path of what the upstream does: in the second half of each twentieth of the run it fails.
func (r *endurance) work() string {
	if r.taken.Load()*40/r.requests%2 == 1 {
		return "/status/500"
	}
	return "/status/200"
}

// note counts an answer.
func (v *visitor) note(a ask, got answer) error {
	v.run.done.Add(1)
	name := a.path
	if name == "/status/200" || name == "/status/500" {
		name = "work"
	}
	c := v.saw.of(name)
	switch {
	case got.status == 429 && got.rule != "":
		c.blocked++
		c.by[got.rule]++
	case got.status == 200 || got.status == 500 && a.path == "/status/500":
		c.passed++
		if got.status == 500 {
			c.failed++
		}
	default:
		return fmt.Errorf("%s is answered with %d", a.path, got.status)
	}
	return nil
}

// connect opens a connection to one of the two listeners.
func (v *visitor) connect() error {
	name, addr := "tcp", v.run.tcp
	if v.rand.IntN(2) == 0 {
		name, addr = "tcp-limited", v.run.limitedTCP
	}
	passed, err := connect(addr, v.rand)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	v.run.done.Add(1)
	if c := v.saw.of(name); passed {
		c.passed++
	} else {
		c.blocked++
	}
	return nil
}

// seeCounts compares the metrics with what clients saw.
func (r *endurance) seeCounts(t *testing.T, e *envoytest.Envoy, saw seen) {
	t.Helper()
	for resource, c := range saw {
		waitMetric(t, e, c.passed, "sentinel_passed", "resource", resource)
		waitMetric(t, e, c.passed, "sentinel_completed", "resource", resource)
		waitMetric(t, e, c.failed, "sentinel_failed", "resource", resource)
		waitMetric(t, e, c.blocked, "sentinel_blocked", "resource", resource)
		for rule, n := range c.by {
			waitMetric(t, e, n, "sentinel_blocked", "resource", resource, "rule", rule)
		}
		t.Logf("%s: %.0f passed, of which %.0f failed, %.0f blocked %v", resource, c.passed, c.failed, c.blocked, maps.Clone(c.by))
	}
	for resource, rule := range map[string]string{"/limited": "limited", "/users": "user", "work": "work-breaker"} {
		if saw.of(resource).by[rule] == 0 {
			t.Errorf("%s blocked nothing: it was not at work", rule)
		}
	}
}

// seeAccuracy looks at the first and the last third, besides the whole.
func (r *endurance) seeAccuracy(t *testing.T, a *audit) {
	t.Helper()
	from, to := a.span("limited")
	third := (to - from) / 3
	a.judge("limited", limit, from, from+third).exact(t, "first third", 2)
	a.judge("limited", limit, to-third, to).exact(t, "last third", 2)
	whole := a.judge("limited", limit, from, to)
	whole.exact(t, "all", 6)
	report(t, "limit of %d/s, spent by HTTP/1.1, HTTP/2 and TCP: %v", limit, whole)
}

// seeMemory checks that memory is flat.
func (r *endurance) seeMemory(t *testing.T, m *memory, took time.Duration) {
	t.Helper()
	all := float64(r.requests+r.conns) / 1e6
	rss, allocated := m.rss.after(warmUp*all), m.allocated.after(warmUp*all)
	last := len(rss.y) - 1
	report(t, "%d requests and %d connections in %v: RSS %.1f MiB after %.0f %%, %.1f MiB at the end, %+.0f KiB per million; "+
		"allocated by Envoy itself %+.0f KiB per million", r.requests, r.conns, took.Round(time.Second),
		rss.y[0]/1024, 100*warmUp, rss.y[last]/1024, rss.slope(), allocated.slope())
	// A byte for each is 977 KiB per million. In a short run that cannot be told from a heap that grows once by a MiB.
	bound := 1000.0
	if float64(r.requests+r.conns) < fullRun {
		bound = 8 << 10 / all
	}
	if rss.slope() > bound {
		t.Errorf("RSS grows by %.0f KiB per million requests, more than %.0f", rss.slope(), bound)
	}
	if allocated.slope() > bound {
		t.Errorf("what Envoy allocates grows by %.0f KiB per million requests, more than %.0f", allocated.slope(), bound)
	}
}
