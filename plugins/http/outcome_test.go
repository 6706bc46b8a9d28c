//go:build !wasip1

package http_test

import (
	"fmt"
	"testing"
	"time"

	"sentinel-envoy/plugins/envoyhost"
	"sentinel-envoy/plugins/vm/vmtest"
)

// end is how a request ended, as Envoy tells it. The zero value is a whole response with status 200.
type end struct {
	details           string // "" is via_upstream
	status            string // "" is 200, "none" no response
	trailers, headers string // grpc-status
	cleared           bool   // the trailers are gone at the end, as the grpc_web filter leaves them
	bytes             int64
	upload            string // "" for no body, "whole" or "part"
	attempts          int64
	wait              time.Duration
}

// play takes a request to its end.
func play(t *testing.T, e *vmtest.Envoy, p *vmtest.Plugin, x end) {
	t.Helper()
	s := p.Stream()
	if x.upload == "" {
		s.RequestHeaders()
	} else {
		s.BeginRequest()
		s.RequestData(x.upload == "whole")
	}
	e.Run(x.wait)
	if x.details == "" {
		x.details = "via_upstream"
	}
	s.Properties["response.code_details"] = x.details
	s.Properties["response.size"] = envoyhost.Integer(x.bytes)
	s.Properties["upstream.request_attempt_count"] = envoyhost.Integer(x.attempts)
	if x.status != "none" {
		s.Response[":status"] = "200"
		if x.status != "" {
			s.Response[":status"] = x.status
		}
		if x.headers != "" {
			s.Response["grpc-status"] = x.headers
		}
		s.ResponseHeaders()
	}
	if x.trailers != "" {
		s.Trailers["grpc-status"] = x.trailers
		s.ResponseTrailers()
		if x.cleared {
			delete(s.Trailers, "grpc-status")
		}
	}
	s.End()
}

func TestOutcomes(t *testing.T) {
	const defaults, configured = ``, `"failures": {}, `
	const reset = "upstream_reset_before_response_started{remote_reset}"
	for _, c := range []struct {
		failures string
		end      end
		failed   uint64
	}{
		// Without a rule that looks at it, and without failures in the configuration, nobody asks.
		{defaults, end{status: "503"}, 0},

		{configured, end{}, 0},
		{configured, end{status: "404"}, 0},
		{configured, end{status: "500"}, 1},
		{configured, end{status: "599"}, 1},
		{configured, end{status: "nonsense"}, 0},
		{configured, end{status: "503", details: "rbac_access_denied"}, 0},
		{configured, end{status: "503", details: reset}, 1},
		{configured, end{status: "none", details: "downstream_remote_disconnect", attempts: 1}, 0},
		{configured, end{status: "none", details: "http2.remote_reset", upload: "part", attempts: 1}, 0},
		{configured, end{status: "504", details: "stream_idle_timeout"}, 1},
		{configured, end{status: "504", details: "stream_idle_timeout", upload: "whole"}, 1},
		{configured, end{status: "408", details: "stream_idle_timeout", upload: "part"}, 0},
		{configured, end{details: "stream_idle_timeout", bytes: 100}, 1},
		{configured, end{details: "stream_idle_timeout", bytes: 1 << 20}, 0},
		{configured, end{status: "101", details: "upstream_reset_after_response_started{connection_termination}", upload: "part"}, 0},

		{configured, end{trailers: "0"}, 0},
		{configured, end{trailers: "14"}, 1},
		{configured, end{trailers: "14", cleared: true}, 1},
		{configured, end{headers: "14"}, 1},
		{configured, end{trailers: "0", headers: "14"}, 0}, // trailers come last
		{configured, end{trailers: "100000"}, 0},
		{configured, end{trailers: "-1"}, 0},

		{`"failures": {"status": [429, "4xx"]}, `, end{status: "404"}, 1},
		{`"failures": {"status": []}, `, end{status: "503"}, 0},
		{`"failures": {"resets": false}, `, end{status: "503", details: reset}, 1},
		{`"failures": {"resets": false, "status": []}, `, end{status: "503", details: reset}, 0},
		{`"failures": {"grpc": []}, `, end{trailers: "14"}, 0},
		{`"failures": {"grpc": ["NOT_FOUND"]}, `, end{trailers: "5"}, 1},

		{`"failures": {"abandoned_after_ms": 100}, `, end{status: "none", details: "http2.remote_reset", attempts: 1, wait: 100 * time.Millisecond}, 1},
		{`"failures": {"abandoned_after_ms": 100}, `, end{status: "none", details: "http2.remote_reset", attempts: 1, wait: 99 * time.Millisecond}, 0},
		{`"failures": {"abandoned_after_ms": 100}, `, end{status: "none", details: "http2.remote_reset", wait: 100 * time.Millisecond}, 0},
	} {
		t.Run(fmt.Sprintf("%s%+v", c.failures, c.end), func(t *testing.T) {
			e, p := start(t, c.failures+single)
			play(t, e, p, c.end)
			e.Metrics(map[string]uint64{"sentinel_completed;resource=web": 1, "sentinel_failed;resource=web": c.failed})
			e.Faults()
		})
	}
}

const slow = `"circuitBreakerRules": [{"id": "slow", "resource": "web", "strategy": "SlowRequestRatio", "threshold": 1,
	"maxAllowedRtMs": 1000, "statIntervalMs": 1000, "retryTimeoutMs": 1000}]`

// What nobody looks at is not asked for: each call costs as much as all else that is done for a request.
func TestOutcomeAsksForNoMoreThanItNeeds(t *testing.T) {
	for _, c := range []struct {
		configuration, status string
		want                  string
	}{
		{single, "200", "map[]"},
		{slow, "200", "map[property:1]"},
		{`"failures": {"status": [], "grpc": []}, ` + single, "200", "map[property:1]"},
		{`"failures": {"grpc": []}, ` + single, "200", "map[header:1 property:1]"},
		{`"failures": {}, ` + single, "200", "map[header:2 property:1]"},
		{`"failures": {}, ` + single, "500", "map[header:1 property:1]"},
	} {
		e, p := start(t, c.configuration)
		s := begin(t, p, envoyhost.Continue)
		s.Response[":status"] = c.status
		s.Properties["response.code_details"] = "via_upstream"
		calls := map[string]int{}
		e.Before = func(call string) error {
			if call != "host" {
				calls[call]++
			}
			return nil
		}
		s.ResponseHeaders()
		s.End()
		if got := fmt.Sprint(calls); got != c.want {
			t.Errorf("%s%s: calls %s, want %s", c.configuration, c.status, got, c.want)
		}
	}
}

// The response time is the wait for the answer's beginning, from the last that the client had sent before.
func TestResponseTime(t *testing.T) {
	for name, c := range map[string]struct {
		play func(e *vmtest.Envoy, s *vmtest.Stream)
		want uint64
	}{
		"without a body": {func(e *vmtest.Envoy, s *vmtest.Stream) {
			s.RequestHeaders()
			e.Run(30 * time.Millisecond)
			s.ResponseHeaders()
			e.Run(time.Second) // the client reads
		}, 30},
		"of an upload": {func(e *vmtest.Envoy, s *vmtest.Stream) {
			s.BeginRequest()
			e.Run(time.Second)
			s.RequestData(false)
			e.Run(time.Second)
			s.RequestData(true)
			e.Run(20 * time.Millisecond)
			s.ResponseHeaders()
		}, 20},
		"of a stream of both": {func(e *vmtest.Envoy, s *vmtest.Stream) {
			s.BeginRequest()
			s.RequestData(false)
			e.Run(10 * time.Millisecond)
			s.ResponseHeaders()
			e.Run(time.Second)
			s.RequestData(true)
			e.Run(time.Second)
		}, 10},
		"where there was no answer": {func(e *vmtest.Envoy, s *vmtest.Stream) {
			s.RequestHeaders()
			e.Run(time.Second)
		}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			e, p := start(t, single)
			s := p.Stream()
			c.play(e, s)
			s.End()
			e.Metrics(map[string]uint64{"sentinel_completed;resource=web": 1, "sentinel_rt_ms_sum;resource=web": c.want})
			e.Faults()
		})
	}
}

// Where no time of it counts, nobody asks for that of a request's end; it counts now all the same, and not when the response
// began.
func TestEndOfALongResponse(t *testing.T) {
	e, p := start(t, fmt.Sprintf(flowRule, "1000"))
	s := p.Stream()
	s.RequestHeaders()
	e.Run(7 * time.Millisecond)
	s.ResponseHeaders()
	e.Run(30 * time.Second)
	clear(e.Counts)
	if s.End(); e.Counts["now"] != 0 {
		t.Error("the end asks for the time")
	}
	e.Run(300 * time.Millisecond)
	if ms, _ := e.Metric("sentinel_rt_ms;resource=web"); ms != 7 {
		t.Errorf("on average responses took %d ms in the last second, want 7", ms)
	}
	e.Metrics(map[string]uint64{
		"sentinel_completed;resource=web": 1, "sentinel_rt_ms_sum;resource=web": 7, "sentinel_in_flight;resource=web": 0,
	})
	e.Faults()
}

// The time that a request waits for its turn is not the service's.
func TestResponseTimeOfWhatHasWaited(t *testing.T) {
	e, p := start(t, paced)
	first, second := begin(t, p, envoyhost.Continue), begin(t, p, envoyhost.Pause)
	first.ResponseHeaders()
	first.End()
	for second.Resumed == 0 {
		e.Run(time.Millisecond)
	}
	e.Run(7 * time.Millisecond)
	second.ResponseHeaders()
	second.End()
	e.Metrics(map[string]uint64{"sentinel_completed;resource=web": 2, "sentinel_rt_ms_sum;resource=web": 7})
}

// What a client sends of a request that waits, or was refused, goes nowhere.
func TestBodyOfARequestThatIsHeldBack(t *testing.T) {
	_, p := start(t, paced)
	begin(t, p, envoyhost.Continue)
	waits := p.Stream()
	waits.BeginRequest()
	if got := waits.RequestData(true); got != envoyhost.Pause {
		t.Errorf("that waits: action %d", got)
	}
	_, p = start(t, full)
	refused := p.Stream()
	refused.BeginRequest()
	if got := refused.RequestData(true); got != envoyhost.Pause {
		t.Errorf("that was refused: action %d", got)
	}
}

const errors3 = `"circuitBreakerRules": [{"id": "b", "resource": "web", "strategy": "ErrorCount", "threshold": 3,
	"minRequestAmount": 1, "statIntervalMs": 60000, "retryTimeoutMs": 1000}]`

// A probe whose answer goes on and on closes the breaker; another filter's answer does not.
func TestProbe(t *testing.T) {
	for name, c := range map[string]struct {
		details string
		closes  bool
	}{"the upstream answers": {"via_upstream", true}, "another filter answers": {"rbac_access_denied", false}} {
		t.Run(name, func(t *testing.T) {
			e, p := start(t, errors3)
			for range 3 {
				play(t, e, p, end{status: "500"})
			}
			e.Run(100 * time.Millisecond)
			begin(t, p, envoyhost.Pause)
			e.Run(time.Second)
			s := begin(t, p, envoyhost.Continue)
			s.Response[":status"] = "200"
			s.Properties["response.code_details"] = c.details
			s.ResponseHeaders()
			e.Run(1100 * time.Millisecond)
			want := envoyhost.Pause
			if c.closes {
				want = envoyhost.Continue
			}
			begin(t, p, want)
			e.Faults()
		})
	}
}

// A panic while a request ends is counted, and the request leaves its resource all the same.
func TestPanicAtTheEnd(t *testing.T) {
	e, p := start(t, `"failures": {}, `+single)
	s := begin(t, p, envoyhost.Continue)
	e.Panic("property")
	s.End()
	e.Panic("")
	e.Faults("fault 1: ending a stream: panic: injected")
	begin(t, p, envoyhost.Continue).End()
	e.Metrics(map[string]uint64{"sentinel_completed;resource=web": 2, "sentinel_in_flight;resource=web": 0})
}
