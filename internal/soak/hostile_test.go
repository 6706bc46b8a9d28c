package soak

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"sentinel-envoy/internal/envoytest"
	"sentinel-envoy/internal/load"
	"sentinel-envoy/internal/plugintest"
)

const (
	// steadyLimit is the limit of the clients who mean no harm, per second; they ask for 2.5 times as much throughout.
	steadyLimit = 200
	// attackedLimit is that of what is attacked, and attackedSlots is how many requests may be in flight there.
	attackedLimit, attackedSlots = 500, 100
	// queueWait is how long a request in the queue waits at most, in milliseconds: for longer than the attack on it lasts.
	queueWait = 300_000
	// mostMemory is by how much an attack may leave Envoy larger, in MiB: heaps that have grown to the size of what was in
	// them at once, such as a MiB of headers in each worker.
	mostMemory = 100
	// tooSlow is after how long the listener "strict" and "tcp-strict" give up on clients that say nothing.
	tooSlow = time.Second
)

var hostileHTTP = fmt.Sprintf(`{
	"resource_name": "attacked",
	"failures": {"status": ["5xx"], "resets": true},
	"systemRules": [{"id": "inside", "metricType": "Concurrency", "triggerCount": 100000}],
	"flowRules": [
		{"id": "steady-qps", "resource": "/steady", "threshold": %d},
		{"id": "attacked-qps", "resource": "attacked", "threshold": %d},
		{"id": "queue", "resource": "/queue", "threshold": 2, "controlBehavior": "Throttling", "maxQueueingTimeMs": %d}],
	"isolationRules": [
		{"id": "attacked-slots", "resource": "attacked", "threshold": %d},
		{"id": "queue-slots", "resource": "/queue", "threshold": 100}],
	"hotspotRules": [
		{"id": "user", "resource": "attacked", "metricType": "QPS", "threshold": 100000, "durationInSec": 1,
			"paramSource": "Header", "paramKey": "x-user"},
		{"id": "user-slots", "resource": "attacked", "metricType": "Concurrency", "threshold": 1000,
			"paramSource": "Header", "paramKey": "x-user"}],
	"circuitBreakerRules": [{"id": "breaker", "resource": "attacked", "strategy": "SlowRequestRatio", "maxAllowedRtMs": 60000,
		"threshold": 0.9, "statIntervalMs": 1000, "retryTimeoutMs": 1000, "minRequestAmount": 10}]
}`, steadyLimit, attackedLimit, queueWait, attackedSlots)

const (
	tcpLimit, tcpSlots = 500, 60
)

var hostileTCP = fmt.Sprintf(`{"resource_name": "tcp",
	"flowRules": [{"id": "tcp-qps", "resource": "tcp", "threshold": %d}],
	"isolationRules": [{"id": "tcp-slots", "resource": "tcp", "threshold": %d}],
	"hotspotRules": [{"id": "source", "resource": "tcp", "metricType": "Concurrency", "threshold": 1000, "paramSource": "SourceAddress"}],
	"circuitBreakerRules": [{"id": "tcp-breaker", "resource": "tcp", "strategy": "SlowRequestRatio", "maxAllowedRtMs": 60000,
		"threshold": 0.9, "statIntervalMs": 1000, "retryTimeoutMs": 1000, "minRequestAmount": 10}]
}`, tcpLimit, tcpSlots)

var hostileQueueTCP = fmt.Sprintf(`{"resource_name": "tcp-queue",
	"flowRules": [{"id": "tcp-queue", "resource": "tcp-queue", "threshold": 5, "controlBehavior": "Throttling",
		"maxQueueingTimeMs": %d}]}`, queueWait)

// With a message for them, blocked connections stay open until the upstream speaks, which ours does not.
const hostileMessageTCP = `{"resource_name": "tcp-message", "block": {"tcp_message": true, "body": "go away"},
	"flowRules": [{"id": "tcp-message", "resource": "tcp-message", "threshold": 0}]}`

// siege is an Envoy under attack, with a service behind it and clients who mean no harm.
type siege struct {
	*envoytest.Envoy
	t       *testing.T
	decided *audit
	service string // host:port
	speaker *speaker
	echo    string // name of the cluster of the echo service, in statistics
}

// TestHostile lets clients do what they should not, on one Envoy, while others keep to the rules. After each attack, the
// limits hold exactly as before, nothing is left in flight, and no VM has died.
func TestHostile(t *testing.T) {
	echo := envoytest.StartTCPService(t, "")
	s := &siege{t: t, service: envoytest.StartServer(t, http.HandlerFunc(serve)), speaker: startSpeaker(t),
		echo: strings.ReplaceAll(echo.Addr(), ":", "_")}
	wasmFilter := func(root, config string) []envoytest.Wasm {
		return []envoytest.Wasm{{File: plugintest.File(t, release), RootID: root, Config: config}}
	}
	listener := func(name string, manager map[string]any) envoytest.HTTP {
		return envoytest.HTTP{Name: name, Upstream: s.service, Timeout: time.Hour, Wasm: wasmFilter("sentinel_http", hostileHTTP),
			Manager: manager, Routes: []envoytest.Route{
				{Prefix: "/steady", DirectStatus: 200}, {Prefix: "/plain", DirectStatus: 200}, {Prefix: "/"}}}
	}
	limitTime := strconv.FormatFloat(tooSlow.Seconds(), 'f', -1, 64) + "s"
	tcp := func(name, upstream, config string, proxy map[string]any) envoytest.TCP {
		return envoytest.TCP{Name: name, Upstream: upstream, Wasm: wasmFilter("sentinel_tcp", config), Proxy: proxy}
	}
	s.Envoy = start(t, envoytest.Config{Listeners: []envoytest.Listener{
		listener("http", nil),
		listener("steady", nil),
		listener("strict", map[string]any{"stream_idle_timeout": limitTime, "request_headers_timeout": limitTime}),
		listener("big", map[string]any{
			"max_request_headers_kb":       2048,
			"common_http_protocol_options": map[string]any{"max_headers_count": 20000},
		}),
		tcp("tcp", echo.Addr(), hostileTCP, nil),
		tcp("tcp-speaker", s.speaker.addr, hostileTCP, nil),
		tcp("tcp-strict", echo.Addr(), hostileTCP, map[string]any{"idle_timeout": limitTime}),
		tcp("tcp-queue", echo.Addr(), hostileQueueTCP, nil),
		tcp("tcp-message", echo.Addr(), hostileMessageTCP, nil),
	}})
	s.decided = newAudit(t, s.Envoy)
	defer s.keepSteady()()
	before := s.rss()

	for _, attack := range []struct {
		name string
		do   func(*siege) string // gives what was done
	}{
		{"connection storm, TCP", stormTCP},
		{"connection storm, HTTP", stormHTTP},
		{"slow headers", slowHeaders},
		{"slow bodies", slowBodies},
		{"slow readers", slowReaders},
		{"resets, HTTP 1.1", resets1},
		{"resets, HTTP 2", resets2},
		{"resets, TCP", resetsTCP},
		{"resets by the upstream", resetsUpstream},
		{"1 MiB of headers", bigHeaders},
		{"rapid reset", rapidReset},
		{"half-open TCP", halfOpen},
		{"clients that vanish", vanish},
		{"blocked clients that wait for a message", messages},
	} {
		t.Run(attack.name, func(t *testing.T) {
			s := *s // for this subtest
			s.t, s.Envoy = t, s.For(t)
			grown := s.stand(attack.do)
			// What Envoy buffers for slow readers is the operator's to bound.
			if grown > mostMemory && attack.name != "slow readers" {
				t.Errorf("Envoy is left with %d MiB more", grown)
			}
		})
	}
	s.decided.read(t)
	from, to := s.decided.span("steady-qps")
	whole := s.decided.judge("steady-qps", steadyLimit, from, to-2)
	whole.exact(t, "others' limit", 20)
	report(t, "others' limit through all attacks: %v; RSS %d MiB before them, %d after", whole, before, s.rss())
}

// rss is Envoy's, in MiB.
func (s *siege) rss() int64 {
	s.t.Helper()
	bytes, err := s.RSS()
	if err != nil {
		s.t.Fatal(err)
	}
	return bytes >> 20
}

// keepSteady offers what clients who mean no harm ask for.
func (s *siege) keepSteady() (stop func()) {
	ctx, cancel := context.WithCancel(s.t.Context())
	var wg sync.WaitGroup
	var sum load.Summary
	var err error
	port := envoytest.PortOf(s.t, s.Addr("steady"))
	wg.Go(func() {
		sum, err = load.Run(ctx, load.Options{Port: port, Path: "/steady", QPS: 2.5 * steadyLimit, Connections: 8, Duration: 20 * time.Minute})
	})
	return func() {
		cancel()
		wg.Wait()
		failed := sum.Failed - sum.Errors["interrupted"]
		if err != nil || failed > 0 {
			s.t.Errorf("of the clients who mean no harm, %d of %d failed: %s, %v", failed, sum.Sent, sum.LastError, err)
		}
	}
}

// stand lets an attack happen, and sees that all is well after it. It gives by how much Envoy has grown, in MiB.
func (s *siege) stand(attack func(*siege) string) (grown int64) {
	s.t.Helper()
	for _, resource := range attackedResources { // the budgets are free of what came before
		waitMetric(s.t, s.Envoy, 0, "sentinel_pass_qps", "resource", resource)
	}
	s.decided.read(s.t)
	_, from := s.decided.span("steady-qps")
	faults, began := s.Sum("sentinel_faults"), time.Now()
	before := s.rss()
	figures := attack(s)
	took := time.Since(began)
	grown = s.rss() - before
	s.leaveNothing()
	s.haveRoom()
	s.limitExactly()
	s.decided.read(s.t)
	_, to := s.decided.span("steady-qps")
	steady := s.decided.judge("steady-qps", steadyLimit, from, to-2)
	steady.exact(s.t, "others' limit", 2)
	for rule, threshold := range map[string]int{"attacked-qps": attackedLimit, "tcp-qps": tcpLimit} {
		if v := s.decided.judge(rule, threshold, from, to); v.over > 0 {
			s.t.Errorf("%s: %v", rule, v)
		}
	}
	if now := s.Sum("sentinel_faults"); now != faults {
		s.t.Errorf("sentinel_faults rose from %v to %v; %v", faults, now, s.Log.All(`fault \d+: .*`))
	}
	plugintest.NoVMDied(s.t, s.Envoy)
	report(s.t, "%s, in %.1f s; RSS %+d MiB; others' limit meanwhile: %v", figures, took.Seconds(), grown, steady)
	return grown
}

// attackedResources are those that attacks are on.
var attackedResources = []string{"attacked", "/queue", "tcp", "tcp-queue"}

// leaveNothing sees that nothing is in flight, that all that passed has ended, and that of each connection it was asked
// once whether it may enter. Workers report every 20 ms: it must stay so for a while.
func (s *siege) leaveNothing() {
	s.t.Helper()
	const still = time.Second // counters lag by half of that
	var state, last string
	since := time.Now()
	defer func() {
		if s.t.Failed() {
			s.t.Log(state)
		}
	}()
	envoytest.Eventually(s.t, soon, "nothing is in flight, and all that passed has ended", func() bool {
		var over bool
		if state, over = s.account(); !over || state != last {
			last, since = state, time.Now()
		}
		return time.Since(since) > still
	})
}

// account tells how attackers stand, and whether all that they began is over.
func (s *siege) account() (state string, over bool) {
	s.t.Helper()
	all, envoy := s.Prometheus(), s.Stats()
	over = true
	for _, r := range attackedResources {
		sum := func(name string) float64 { return envoytest.Sum(all, name, "resource", r) }
		inFlight, passed := sum("sentinel_in_flight"), sum("sentinel_passed")
		completed, blocked := sum("sentinel_completed"), sum("sentinel_blocked")
		over = over && inFlight == 0 && passed == completed
		state += fmt.Sprintf("%s: %v in flight, %v passed, %v completed, %v blocked; ", r, inFlight, passed, completed, blocked)
		if r != "tcp" {
			continue
		}
		opened := 0.0
		for _, listener := range []string{"tcp", "tcp-speaker", "tcp-strict"} {
			opened += envoy["tcp."+listener+".downstream_cx_total"]
		}
		over = over && opened == passed+blocked
		state += fmt.Sprintf("%v connections; ", opened)
	}
	for _, listener := range []string{"http", "strict", "big"} {
		active := envoy["http."+listener+".downstream_rq_active"]
		over = over && active == 0
		state += fmt.Sprintf("%s: %v active; ", listener, active)
	}
	return state, over
}

// haveRoom sees that exactly as many requests and connections can be held as the isolation rules say: nothing that the
// attack held is still counted, and nothing was given back twice.
func (s *siege) haveRoom() {
	s.t.Helper()
	ctx, cancel := context.WithCancel(s.t.Context())
	client := envoytest.NewHTTPClient(true)
	client.Timeout = 0
	defer client.CloseIdleConnections()
	defer cancel()
	refusals := func(rule string) float64 { return s.Sum("sentinel_blocked", "rule", rule) }

	before := refusals("attacked-slots")
	held := 0
	envoytest.Eventually(s.t, soon, "all slots are taken", func() bool {
		for held < attackedSlots && s.hold(ctx, client) {
			held++
		}
		return held == attackedSlots
	})
	if n := refusals("attacked-slots") - before; n != 0 {
		s.t.Errorf("%v requests were refused before %d were in flight", n, attackedSlots)
	}
	envoytest.Eventually(s.t, soon, "a refusal where all slots are taken", func() bool {
		if s.hold(ctx, client) {
			s.t.Fatalf("more than %d requests are in flight", attackedSlots)
		}
		return refusals("attacked-slots") > before
	})
	cancel()
	client.CloseIdleConnections()

	before, held = refusals("tcp-slots"), 0
	var conns []net.Conn
	envoytest.Eventually(s.t, soon, "all slots are taken by connections", func() bool {
		for len(conns) < tcpSlots {
			c := s.converse("tcp")
			if c == nil {
				return false
			}
			conns = append(conns, c)
		}
		return true
	})
	if n := refusals("tcp-slots") - before; n != 0 {
		s.t.Errorf("%v connections were refused before %d were in flight", n, tcpSlots)
	}
	envoytest.Eventually(s.t, soon, "a refusal where all slots are taken by connections", func() bool {
		if s.converse("tcp") != nil {
			s.t.Fatalf("more than %d connections are in flight", tcpSlots)
		}
		return refusals("tcp-slots") > before
	})
	for _, c := range conns {
		c.Close()
	}
	s.leaveNothing()
}

// hold sends a request that lasts until ctx ends, and tells whether it was let in.
func (s *siege) hold(ctx context.Context, client *http.Client) bool {
	s.t.Helper()
	req, err := http.NewRequestWithContext(ctx, "GET", s.URL("http")+"/head", nil)
	if err != nil {
		s.t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	if resp.StatusCode != 200 {
		resp.Body.Close()
	}
	return letIn(s.t, resp.StatusCode)
}

func letIn(t *testing.T, status int) bool {
	t.Helper()
	if status != 200 && status != 429 {
		t.Fatalf("status %d", status)
	}
	return status == 200
}

// converse opens a connection that has said a word and heard it; nil where it was refused.
func (s *siege) converse(listener string) net.Conn {
	s.t.Helper()
	c := s.Dial(listener)
	if err := c.SetDeadline(time.Now().Add(soon)); err != nil {
		s.t.Fatal(err)
	}
	word := []byte("word")
	if _, err := c.Write(word); err == nil {
		if _, err := io.ReadFull(c, word); err == nil {
			return c
		}
	}
	c.Close()
	return nil
}

// limitExactly offers more than twice the limit of what was attacked, and sees that it is kept and used.
func (s *siege) limitExactly() {
	s.t.Helper()
	s.decided.read(s.t)
	_, from := s.decided.span("attacked-qps")
	ctx, cancel := context.WithCancel(s.t.Context())
	defer cancel()
	done := make(chan struct{})
	var sum load.Summary
	var err error
	go func() {
		defer close(done)
		sum, err = load.Run(ctx, load.Options{Port: envoytest.PortOf(s.t, s.Addr("http")), Path: "/plain",
			QPS: 2.5 * attackedLimit, Connections: 8, Duration: soon})
	}()
	var v verdict
	envoytest.Eventually(s.t, soon, "there is demand enough to judge", func() bool {
		s.decided.read(s.t)
		_, to := s.decided.span("attacked-qps")
		v = s.decided.judge("attacked-qps", attackedLimit, from+1, to-2) // the last ones may not be complete
		return v.full >= 2
	})
	cancel()
	<-done
	if failed := sum.Failed - sum.Errors["interrupted"]; err != nil || failed > 0 {
		s.t.Errorf("after the attack %d of %d requests failed: %s, %v", failed, sum.Sent, sum.LastError, err)
	}
	v.exact(s.t, "limit after the attack", 2)
}

// each runs do for the numbers 0 to n−1, so many at a time.
func each(n, atOnce int, do func(i int)) {
	var wg sync.WaitGroup
	for w := range atOnce {
		wg.Go(func() {
			for i := w; i < n; i += atOnce {
				do(i)
			}
		})
	}
	wg.Wait()
}

// open opens a connection to a listener from a goroutine of any kind; nil where it was closed at once. The caller closes
// it.
func (s *siege) open(listener string) *net.TCPConn {
	c, err := net.DialTimeout("tcp", s.Addr(listener), soon)
	if err != nil {
		if unlessClosed(err) != nil {
			s.t.Error(err)
		}
		return nil
	}
	_ = c.SetDeadline(time.Now().Add(2 * soon))
	return c.(*net.TCPConn)
}

// largeBody is more than all buffers between a service and a client that does not read.
const largeBody = 32 << 20

// chunk is a part of a body.
var chunk = []byte(strings.Repeat("x", 64<<10))

// serve is the upstream: it does what the first part of a request's path says.
func serve(w http.ResponseWriter, r *http.Request) {
	flush := func() { _ = http.NewResponseController(w).Flush() }
	what, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	switch what {
	case "hold": // no answer
		<-r.Context().Done()
	case "head": // a header, and no end
		flush()
		<-r.Context().Done()
	case "half": // a header and some of the body, and no end
		_, _ = w.Write(chunk)
		flush()
		<-r.Context().Done()
	case "large":
		w.Header().Set("content-length", strconv.Itoa(largeBody))
		for range largeBody / len(chunk) {
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
	case "abort": // no answer, and the connection or stream is reset
		panic(http.ErrAbortHandler)
	case "abort-half": // the same amid the body
		_, _ = w.Write(chunk)
		flush()
		panic(http.ErrAbortHandler)
	default:
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, "ok")
	}
}
