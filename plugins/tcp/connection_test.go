//go:build !wasip1

package tcp_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"sentinel-envoy/plugins/envoyhost"
	"sentinel-envoy/plugins/tcp"
	"sentinel-envoy/plugins/vm"
	"sentinel-envoy/plugins/vm/vmtest"
)

const tick = 20 * time.Millisecond

// start starts a plugin whose resource is "db". more are keys of its configuration.
func start(t *testing.T, more string) (*vmtest.Envoy, *vmtest.Plugin) {
	t.Helper()
	e := vmtest.Start(t, map[string]vm.HandlerKind{"sentinel_tcp": tcp.Kind}, "")
	return e, e.Plugin("sentinel_tcp", `{"resource_name": "db", `+more+`}`)
}

// full is a rule that refuses all.
const full = `"flowRules": [{"id": "full", "resource": "db", "threshold": 0, "statIntervalInMs": 1000}]`

// paced is a rule that lets one connection in each 100 ms, with five waiting.
const paced = `"flowRules": [{"id": "paced", "resource": "db", "threshold": 10, "statIntervalInMs": 1000,
	"controlBehavior": "Throttling", "maxQueueingTimeMs": 500}]`

// single is a rule that lets one connection in at a time.
const single = `"isolationRules": [{"id": "single", "resource": "db", "threshold": 1}]`

// wantAction fails the test where a callback has not returned what it should.
func wantAction(t *testing.T, what string, got, want envoyhost.Action) {
	t.Helper()
	if got != want {
		t.Errorf("%s: action %d, want %d", what, got, want)
	}
}

func TestAdmitted(t *testing.T) {
	e, p := start(t, single)
	c := p.Stream()
	wantAction(t, "connection", c.NewConnection(), envoyhost.Continue)
	wantAction(t, "client's data", c.DownstreamData(10), envoyhost.Continue)
	wantAction(t, "upstream's data", c.UpstreamData(10), envoyhost.Continue)
	e.Metrics(map[string]uint64{"sentinel_passed;resource=db": 1, "sentinel_in_flight;resource=db": 1})
	c.End()
	if c.Closed+c.Resumed+len(c.Replaced)+len(c.State) != 0 {
		t.Errorf("what was done to it: %+v", c.RecordedStream)
	}
	e.Metrics(map[string]uint64{"sentinel_completed;resource=db": 1, "sentinel_in_flight;resource=db": 0, "sentinel_faults": 0})
}

func TestWithoutAResource(t *testing.T) {
	e := vmtest.Start(t, map[string]vm.HandlerKind{"sentinel_tcp": tcp.Kind}, "")
	p := e.Plugin("sentinel_tcp", `{"resources": [{"name": "db", "match": {"sni": "db.example.com"}}], `+full+`}`)
	for sni, want := range map[string]envoyhost.Action{
		"":                envoyhost.Continue,
		"web.example.com": envoyhost.Continue,
		"db.example.com":  envoyhost.Pause,
	} {
		c := p.Stream()
		c.Properties["connection.requested_server_name"] = sni
		wantAction(t, "SNI "+sni, c.NewConnection(), want)
		c.End()
	}
	e.Faults()
}

// A connection is matched by what Envoy says of its peer.
func TestPeer(t *testing.T) {
	e := vmtest.Start(t, map[string]vm.HandlerKind{"sentinel_tcp": tcp.Kind}, "")
	p := e.Plugin("sentinel_tcp", `{"resources": [
		{"name": "near", "match": {"source_ip": "10.0.0.0/8", "destination_port": 5432}}],
		"flowRules": [{"id": "none", "resource": "near", "threshold": 0, "statIntervalInMs": 1000}]}`)
	for _, c := range []struct {
		source string
		port   int64
		want   envoyhost.Action
	}{
		{"10.1.2.3:40000", 5432, envoyhost.Pause},
		{"[::ffff:10.1.2.3]:40000", 5432, envoyhost.Pause},
		{"10.1.2.3:40000", 5433, envoyhost.Continue},
		{"11.1.2.3:40000", 5432, envoyhost.Continue},
		{"a pipe", 5432, envoyhost.Continue},
	} {
		s := p.Stream()
		s.Properties["source.address"], s.Properties["destination.port"] = c.source, envoyhost.Integer(c.port)
		wantAction(t, fmt.Sprint(c.source, " to ", c.port), s.NewConnection(), c.want)
		s.End()
	}
	e.Faults()
}

// Without a message a refused connection is closed at once, and named for the access log.
func TestRefused(t *testing.T) {
	e, p := start(t, full)
	c := p.Stream()
	wantAction(t, "connection", c.NewConnection(), envoyhost.Pause)
	wantAction(t, "client's data", c.DownstreamData(10), envoyhost.Pause)
	wantAction(t, "upstream's data", c.UpstreamData(10), envoyhost.Pause)
	e.Run(2 * time.Second)
	if c.Closed != 1 || len(c.Replaced) != 0 {
		t.Errorf("closed %d times, replaced %q", c.Closed, c.Replaced)
	}
	if c.State[envoyhost.BlockedBy] != "flow:full" || c.State[envoyhost.BlockedFigure] != "0/0" {
		t.Errorf("filter state %q", c.State)
	}
	c.End()
	e.Metrics(map[string]uint64{
		"sentinel_blocked;resource=db;rule=full;kind=flow": 1, "sentinel_passed;resource=db": 0, "sentinel_faults": 0,
	})
}

func TestMessageInPlaceOfTheUpstreamsFirstData(t *testing.T) {
	for name, message := range map[string]string{"of ours": "", "configured": "come back later\n"} {
		t.Run(name, func(t *testing.T) {
			e, p := start(t, fmt.Sprintf(`"block": {"tcp_message": true, "body": %q}, %s`, message, full))
			c := p.Stream()
			wantAction(t, "connection", c.NewConnection(), envoyhost.Continue)
			e.Run(500 * time.Millisecond)
			if c.Closed != 0 {
				t.Error("closed before the upstream has spoken")
			}
			wantAction(t, "upstream's data", c.UpstreamData(10), envoyhost.Continue)
			if c.Closed != 0 {
				t.Error("closed before the message is on its way")
			}
			wantAction(t, "more of the upstream's", c.UpstreamData(10), envoyhost.Pause)
			wantAction(t, "client's data", c.DownstreamData(10), envoyhost.Pause)
			e.Run(tick)
			if c.Closed != 1 {
				t.Errorf("closed %d times after the message", c.Closed)
			}
			if len(c.Replaced) != 1 || message != "" && c.Replaced[0] != message ||
				message == "" && !strings.HasPrefix(c.Replaced[0], "blocked by flow rule full: 0 of 0 ") {
				t.Errorf("the client gets %q", c.Replaced)
			}
			e.Run(2 * time.Second)
			if c.Closed != 1 {
				t.Errorf("closed %d times", c.Closed)
			}
			e.Faults()
		})
	}
}

// A client that speaks first waits for an answer that will not come.
func TestClientSpeaksFirst(t *testing.T) {
	e, p := start(t, `"block": {"tcp_message": true}, `+full)
	c := p.Stream()
	wantAction(t, "connection", c.NewConnection(), envoyhost.Continue)
	wantAction(t, "client's data", c.DownstreamData(10), envoyhost.Pause)
	if c.Closed != 1 {
		t.Errorf("closed %d times", c.Closed)
	}
	e.Run(2 * time.Second) // it is no longer among those that wait
	if c.Closed != 1 || len(c.Replaced) != 0 {
		t.Errorf("closed %d times, replaced %q", c.Closed, c.Replaced)
	}
	e.Faults()
}

func TestUpstreamIsSilent(t *testing.T) {
	e, p := start(t, `"block": {"tcp_message": true}, `+full)
	c := p.Stream()
	wantAction(t, "connection", c.NewConnection(), envoyhost.Continue)
	if e.Run(999 * time.Millisecond); c.Closed != 0 {
		t.Error("closed before the deadline")
	}
	if e.Run(time.Millisecond); c.Closed != 1 {
		t.Errorf("closed %d times at the deadline", c.Closed)
	}
}

// A connection that Envoy no longer knows at its deadline is forgotten.
func TestRefusedConnectionIsGone(t *testing.T) {
	e, p := start(t, `"block": {"tcp_message": true}, `+full)
	c := p.Stream()
	wantAction(t, "connection", c.NewConnection(), envoyhost.Continue)
	delete(e.Streams, c.ID)
	tries := 0
	e.Before = func(call string) error {
		if call == "setEffectiveContext" {
			tries++
		}
		return nil
	}
	e.Run(2 * time.Second)
	if tries != 1 || c.Closed != 0 {
		t.Errorf("%d times made the effective context, closed %d times", tries, c.Closed)
	}
	e.Faults()
}

// Beyond a bound refused connections get no message, and as soon as one has gone there is room again.
func TestRefusedConnectionsThatWaitAreBounded(t *testing.T) {
	const bound = 1024
	_, p := start(t, `"block": {"tcp_message": true}, `+full)
	var first *vmtest.Stream
	for n := range bound {
		c := p.Stream()
		if n == 0 {
			first = c
		}
		wantAction(t, fmt.Sprint("connection ", n), c.NewConnection(), envoyhost.Continue)
	}
	c := p.Stream()
	wantAction(t, "one too many", c.NewConnection(), envoyhost.Pause)
	if c.Closed != 1 {
		t.Errorf("one too many was closed %d times", c.Closed)
	}
	first.End()
	wantAction(t, "with room again", p.Stream().NewConnection(), envoyhost.Continue)
}

// What waits for its turn is held back, with the client's data, under a fast tick that ends with the last that waits.
func TestWaits(t *testing.T) {
	e, p := start(t, paced)
	began := e.Now()
	var conns []*vmtest.Stream
	for n := range 4 {
		c := p.Stream()
		want := envoyhost.Pause
		if n == 0 {
			want = envoyhost.Continue
		}
		wantAction(t, fmt.Sprint("connection ", n), c.NewConnection(), want)
		wantAction(t, fmt.Sprint("data of ", n), c.DownstreamData(10), want)
		conns = append(conns, c)
	}
	if got := fmt.Sprint(p.TickPeriods); got != "[20 5]" {
		t.Errorf("tick periods %s", got)
	}
	conns[2].End() // it leaves while it waits
	for _, c := range []struct {
		ms      int
		resumed string
	}{{99, "0 0 0 0"}, {105, "0 1 0 0"}, {299, "0 1 0 0"}, {305, "0 1 0 1"}, {1000, "0 1 0 1"}} {
		e.Run(time.Duration(c.ms)*time.Millisecond - time.Duration(e.Now()-began))
		got := fmt.Sprint(conns[0].Resumed, conns[1].Resumed, conns[2].Resumed, conns[3].Resumed)
		if got != c.resumed {
			t.Errorf("after %d ms resumed %s, want %s", c.ms, got, c.resumed)
		}
	}
	if got := fmt.Sprint(p.TickPeriods); got != "[20 5 20]" {
		t.Errorf("tick periods %s", got)
	}
	wantAction(t, "data after the turn", conns[3].DownstreamData(10), envoyhost.Continue)
	for _, n := range []int{0, 1, 3} {
		conns[n].End()
	}
	e.Metrics(map[string]uint64{
		"sentinel_passed;resource=db": 3, "sentinel_completed;resource=db": 3, "sentinel_in_flight;resource=db": 0,
		"sentinel_faults": 0,
	})
}

// A connection that has waited may still be refused; with a message only if its client is silent.
func TestRefusedAtItsTurn(t *testing.T) {
	for _, speaks := range []bool{false, true} {
		t.Run(fmt.Sprint("the client speaks: ", speaks), func(t *testing.T) {
			e, p := start(t, `"block": {"tcp_message": true, "body": "full\n"}, `+paced+`, `+single)
			first, second := p.Stream(), p.Stream()
			wantAction(t, "the first", first.NewConnection(), envoyhost.Continue)
			wantAction(t, "the second", second.NewConnection(), envoyhost.Pause)
			if speaks {
				wantAction(t, "the second's data", second.DownstreamData(10), envoyhost.Pause)
			}
			e.Run(105 * time.Millisecond)
			if second.State[envoyhost.BlockedBy] != "isolation:single" {
				t.Errorf("filter state %q", second.State)
			}
			if speaks {
				if second.Closed != 1 || second.Resumed != 0 {
					t.Errorf("closed %d times, resumed %d", second.Closed, second.Resumed)
				}
				return
			}
			if second.Closed != 0 || second.Resumed != 1 {
				t.Errorf("closed %d times, resumed %d: the upstream cannot speak", second.Closed, second.Resumed)
			}
			wantAction(t, "upstream's data", second.UpstreamData(10), envoyhost.Continue)
			e.Run(tick)
			if fmt.Sprint(second.Replaced) != "[full\n]" || second.Closed != 1 {
				t.Errorf("the client gets %q, closed %d times", second.Replaced, second.Closed)
			}
		})
	}
}

// In whatever state a connection ends, nothing is left of it, and nothing more is asked about it.
func TestEnds(t *testing.T) {
	message := `"block": {"tcp_message": true}, ` + full
	for _, c := range []struct {
		name, configuration string
		before              func(c *vmtest.Stream)
		completed           uint64
	}{
		{"before it is known", single, func(*vmtest.Stream) {}, 0},
		{"admitted", single, func(c *vmtest.Stream) { c.NewConnection() }, 1},
		{"refused", full, func(c *vmtest.Stream) { c.NewConnection() }, 0},
		{"with a message to come", message, func(c *vmtest.Stream) { c.NewConnection() }, 0},
		{"with a message written", message, func(c *vmtest.Stream) { c.NewConnection(); c.UpstreamData(1) }, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, p := start(t, c.configuration)
			conn := p.Stream()
			c.before(conn)
			closed := conn.Closed
			conn.End()
			conn.End()
			wantAction(t, "data after the end", conn.UpstreamData(10), envoyhost.Continue)
			e.Run(3 * time.Second)
			if conn.Closed != closed {
				t.Error("closed after its end")
			}
			e.Metrics(map[string]uint64{
				"sentinel_completed;resource=db": c.completed, "sentinel_in_flight;resource=db": 0, "sentinel_faults": 0,
			})
		})
	}
}

// Bits of Envoy's response flags.
const (
	noHealthyUpstream = 1 << 1
	upstreamReset     = 1 << 4
	upstreamRefused   = 1 << 5
	clientReset       = 1 << 28
)

// What counts as failed is what the upstream did wrong, as far as the configuration has it.
func TestFailures(t *testing.T) {
	for _, c := range []struct {
		failures string
		flags    int64
		failed   uint64
	}{
		{``, 0, 0},
		{``, clientReset, 0},
		{``, upstreamReset, 1},
		{``, upstreamRefused, 1},
		{``, noHealthyUpstream, 1},
		{`"failures": {"resets": false}, `, upstreamReset, 0},
		{`"failures": {"resets": false}, `, upstreamRefused, 1},
		{`"failures": {"connect": false}, `, upstreamReset, 1},
		{`"failures": {"connect": false}, `, upstreamRefused, 0},
	} {
		t.Run(fmt.Sprint(c.failures, c.flags), func(t *testing.T) {
			e, p := start(t, c.failures+single)
			conn := p.Stream()
			wantAction(t, "connection", conn.NewConnection(), envoyhost.Continue)
			conn.Properties["response.flags"] = envoyhost.Integer(c.flags)
			conn.End()
			e.Metrics(map[string]uint64{"sentinel_completed;resource=db": 1, "sentinel_failed;resource=db": c.failed})
		})
	}
}

// A panic in a decision follows the failure mode, in the first callback as at a connection's turn.
func TestPanicInADecision(t *testing.T) {
	for mode, want := range map[string]envoyhost.Action{"open": envoyhost.Continue, "closed": envoyhost.Pause} {
		t.Run(mode, func(t *testing.T) {
			e, p := start(t, `"failure_mode": "`+mode+`", "block": {"tcp_message": true}, `+paced)
			first, second := p.Stream(), p.Stream()
			e.Panic("host")
			wantAction(t, "connection", first.NewConnection(), want)
			e.Panic("")
			if closed := first.Closed == 1; closed != (want == envoyhost.Pause) {
				t.Errorf("closed %d times", first.Closed)
			}
			if by := first.State[envoyhost.BlockedBy]; (by == "unavailable:") != (mode == "closed") {
				t.Errorf("filter state %q", first.State)
			}
			e.Faults("fault 1: deciding: panic: injected")
			first.End()

			p.Stream().NewConnection()
			wantAction(t, "one that waits", second.NewConnection(), envoyhost.Pause)
			wantAction(t, "its data", second.DownstreamData(10), envoyhost.Pause)
			e.Run(105 * time.Millisecond)
			if second.Resumed != 1 || second.Closed != 0 {
				t.Errorf("after the panic one that waits is resumed %d times and closed %d", second.Resumed, second.Closed)
			}
		})
	}
}

// A panic after the decision never lets a refused client's data through, and what is left of the connection still ends.
func TestPanicInOtherCallbacks(t *testing.T) {
	for _, c := range []struct {
		name, call string
		callback   func(e *vmtest.Envoy, c *vmtest.Stream) envoyhost.Action
		what       string
	}{
		{"client's data", "closeDownstream",
			func(_ *vmtest.Envoy, c *vmtest.Stream) envoyhost.Action { return c.DownstreamData(1) }, "passing data"},
		{"upstream's data", "replaceUpstreamData",
			func(_ *vmtest.Envoy, c *vmtest.Stream) envoyhost.Action { return c.UpstreamData(1) }, "passing data"},
		{"tick", "closeDownstream",
			func(e *vmtest.Envoy, _ *vmtest.Stream) envoyhost.Action {
				e.Run(time.Second + tick)
				return envoyhost.Pause
			}, "tick"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, p := start(t, `"block": {"tcp_message": true}, `+full)
			conn := p.Stream()
			wantAction(t, "connection", conn.NewConnection(), envoyhost.Continue)
			e.Panic(c.call)
			wantAction(t, c.name, c.callback(e, conn), envoyhost.Pause)
			e.Panic("")
			e.Faults("fault 1: " + c.what + ": panic: injected")
			conn.End()
			e.Metrics(map[string]uint64{"sentinel_faults": 1})
		})
	}
}

// A panic at the end of a connection is counted, and the connection leaves its resource all the same.
func TestPanicAtTheEnd(t *testing.T) {
	e, p := start(t, single)
	c := p.Stream()
	wantAction(t, "connection", c.NewConnection(), envoyhost.Continue)
	e.Panic("property")
	c.End()
	e.Panic("")
	e.Faults("fault 1: ending a stream: panic: injected")
	wantAction(t, "the next", p.Stream().NewConnection(), envoyhost.Continue)
}

// startBroken starts a plugin with a breaker that is open for 500 ms.
func startBroken(t *testing.T) (*vmtest.Envoy, *vmtest.Plugin) {
	e, p := start(t, `"circuitBreakerRules": [{"id": "b", "resource": "db", "strategy": "ErrorCount", "threshold": 1,
		"minRequestAmount": 1, "statIntervalMs": 1000, "retryTimeoutMs": 500}]`)
	c := p.Stream()
	wantAction(t, "the first", c.NewConnection(), envoyhost.Continue)
	c.Properties["response.flags"] = envoyhost.Integer(upstreamReset)
	c.End()
	return e, p
}

// A probe whose client leaves before the upstream has said a word says nothing: the next is one, too.
func TestProbeThatSaysNothing(t *testing.T) {
	e, p := startBroken(t)
	e.Run(600 * time.Millisecond)
	for range 3 {
		probe := p.Stream()
		wantAction(t, "the probe", probe.NewConnection(), envoyhost.Continue)
		probe.DownstreamData(10)
		wantAction(t, "while it is under way", p.Stream().NewConnection(), envoyhost.Pause)
		e.Run(tick)
		probe.End()
	}
	e.Faults()
}

// The response time of a connection is the wait for the upstream's first word, from the last that the client had said.
func TestResponseTime(t *testing.T) {
	e, p := start(t, single)
	c := p.Stream()
	c.NewConnection()
	e.Run(time.Second)
	c.DownstreamData(10)
	e.Run(30 * time.Millisecond)
	c.UpstreamData(10)
	e.Run(time.Second)
	c.DownstreamData(10)
	e.Run(time.Second)
	c.End()
	e.Metrics(map[string]uint64{"sentinel_completed;resource=db": 1, "sentinel_rt_ms_sum;resource=db": 30})
}

// The upstream's first data says that the probe of a breaker has succeeded: a connection may last for long.
func TestUpstreamAnswersAProbe(t *testing.T) {
	e, p := startBroken(t)
	e.Run(tick)
	wantAction(t, "with the breaker open", p.Stream().NewConnection(), envoyhost.Pause)
	e.Run(600 * time.Millisecond)
	probe := p.Stream()
	wantAction(t, "the probe", probe.NewConnection(), envoyhost.Continue)
	wantAction(t, "no data", probe.UpstreamData(0), envoyhost.Continue)
	wantAction(t, "while it is under way", p.Stream().NewConnection(), envoyhost.Pause)
	wantAction(t, "data", probe.UpstreamData(10), envoyhost.Continue)
	e.Run(time.Second + tick)
	wantAction(t, "with the breaker closed", p.Stream().NewConnection(), envoyhost.Continue)
	e.Faults()
}

// A panic about an admitted connection's data does not hold it up.
func TestPanicWithAnAdmittedConnectionsData(t *testing.T) {
	e, p := startBroken(t)
	e.Run(600 * time.Millisecond)
	probe := p.Stream()
	wantAction(t, "the probe", probe.NewConnection(), envoyhost.Continue)
	e.Panic("host")
	wantAction(t, "data", probe.UpstreamData(10), envoyhost.Continue)
	e.Panic("")
	e.Faults("fault 1: passing data: panic: injected")
	probe.End()
	e.Metrics(map[string]uint64{"sentinel_in_flight;resource=db": 0})
}
