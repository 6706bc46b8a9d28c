//go:build !wasip1

package http_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"sentinel-envoy/plugins/envoyhost"
	"sentinel-envoy/plugins/http"
	"sentinel-envoy/plugins/vm"
	"sentinel-envoy/plugins/vm/vmtest"
)

// start starts a plugin whose resource is "web". more are keys of its configuration.
func start(t testing.TB, more string) (*vmtest.Envoy, *vmtest.Plugin) {
	t.Helper()
	e := vmtest.Start(t, map[string]vm.HandlerKind{"sentinel_http": http.Kind}, "")
	return e, e.Plugin("sentinel_http", `{"resource_name": "web", `+more+`}`)
}

// Rules that refuse: all, what comes after one request in the same second, and after one that is still in flight.
const (
	full   = `"flowRules": [{"id": "full", "resource": "web", "threshold": 0, "statIntervalInMs": 1000}]`
	rated  = `"flowRules": [{"id": "rated", "resource": "web", "threshold": 1, "statIntervalInMs": 1000}]`
	single = `"isolationRules": [{"id": "single", "resource": "web", "threshold": 1}]`
)

// paced is a rule that lets one request in each 100 ms, with five waiting.
const paced = `"flowRules": [{"id": "paced", "resource": "web", "threshold": 10, "statIntervalInMs": 1000,
	"controlBehavior": "Throttling", "maxQueueingTimeMs": 500}]`

// begin begins a request.
func begin(t *testing.T, p *vmtest.Plugin, want envoyhost.Action) *vmtest.Stream {
	t.Helper()
	s := p.Stream()
	if got := s.RequestHeaders(); got != want {
		t.Errorf("action %d, want %d", got, want)
	}
	return s
}

func TestAdmitted(t *testing.T) {
	e, p := start(t, single)
	s := begin(t, p, envoyhost.Continue)
	s.End()
	if len(s.Answers)+s.Resumed+len(s.State) != 0 {
		t.Errorf("what was done to it: %+v", s.RecordedStream)
	}
	e.Metrics(map[string]uint64{
		"sentinel_passed;resource=web": 1, "sentinel_completed;resource=web": 1, "sentinel_in_flight;resource=web": 0,
	})
	e.Faults()
}

func TestWithoutAResource(t *testing.T) {
	e := vmtest.Start(t, map[string]vm.HandlerKind{"sentinel_http": http.Kind}, "")
	p := e.Plugin("sentinel_http",
		`{"flowRules": [{"id": "a", "resource": "/a", "threshold": 0, "statIntervalInMs": 1000}]}`)
	for path, want := range map[string]envoyhost.Action{
		"/a": envoyhost.Pause, "/a?b": envoyhost.Pause, "/b": envoyhost.Continue,
	} {
		s := p.Stream()
		s.Request[":path"] = path
		if got := s.RequestHeaders(); got != want || len(s.Answers) == 1 != (want == envoyhost.Pause) {
			t.Errorf("%s: action %d, %d answers", path, got, len(s.Answers))
		}
		s.End()
	}
	e.Faults()
}

// What is unlimited passes before everything, and is counted.
func TestUnlimited(t *testing.T) {
	e, p := start(t, `"resources": [{"name": "health", "unlimited": true, "match": {"path": {"exact": "/healthz"}}}],
		"systemRules": [{"metricType": "InboundQPS", "triggerCount": 0}], `+full)
	for path, want := range map[string]envoyhost.Action{"/healthz?x": envoyhost.Continue, "/": envoyhost.Pause} {
		s := p.Stream()
		s.Request[":path"] = path
		if got := s.RequestHeaders(); got != want {
			t.Errorf("%s: action %d", path, got)
		}
		s.ResponseHeaders()
		s.End()
	}
	e.Metrics(map[string]uint64{"sentinel_exempt;resource=health": 1, "sentinel_passed;resource=health": 0})
	e.Faults()
}

// A request in several resources is refused by any of them, and the answer says by which.
func TestSeveralResources(t *testing.T) {
	e, p := start(t, `"resources": [{"name": "all", "continue": true, "match": {"path": {"prefix": "/"}}}],
		"flowRules": [{"id": "all", "resource": "all", "threshold": 3, "statIntervalInMs": 600000}, {"id": "login", "resource": "/login", "threshold": 1, "statIntervalInMs": 600000},
			{"id": "web", "resource": "web", "threshold": 100, "controlBehavior": "Throttling"}]`)
	for i, c := range []struct{ path, by string }{
		{"/login", ""}, {"/login", "flow:login"}, {"/login", "flow:login"}, {"/", ""}, {"/x", ""}, {"/", "flow:all"}, {"/login", "flow:all"},
	} {
		s := p.Stream()
		s.Request[":path"] = c.path
		s.RequestHeaders()
		if s.State[envoyhost.BlockedBy] != c.by || len(s.Answers) == 1 != (c.by != "") {
			t.Errorf("%d, %s: blocked by %q, want %q", i, c.path, s.State[envoyhost.BlockedBy], c.by)
		}
		e.Run(20 * time.Millisecond) // its turn comes
		s.ResponseHeaders()
		s.End()
	}
	e.Metrics(map[string]uint64{
		"sentinel_passed;resource=all": 3, "sentinel_passed;resource=/login": 1, "sentinel_passed;resource=web": 2, "sentinel_completed;resource=all": 3,
		"sentinel_in_flight;resource=all": 0, "sentinel_in_flight;resource=web": 0,
	})
	e.Faults()
}

func TestAnswers(t *testing.T) {
	rateLimited, plain := [2]string{"x-envoy-ratelimited", "true"}, [2]string{"content-type", "text/plain; charset=utf-8"}
	retry := [2]string{"retry-after", "1"}
	for _, c := range []struct {
		name, configuration string
		want                envoyhost.Answer
		by, figure          string
	}{
		{"by default", rated,
			envoyhost.Answer{Status: 429, Headers: [][2]string{rateLimited, retry, plain}, GRPCStatus: 8}, "flow:rated", "1/1"},
		{"it never makes sense to ask again", full,
			envoyhost.Answer{Status: 429, Headers: [][2]string{rateLimited, plain}, GRPCStatus: 8}, "flow:full", "0/0"},
		{"when to ask again is not known", single,
			envoyhost.Answer{Status: 429, Headers: [][2]string{rateLimited, plain}, GRPCStatus: 8}, "isolation:single", "1/1"},
		{"configured", `"block": {"status": 503, "body": "later\n", "grpc_status": 14}, ` + rated,
			envoyhost.Answer{Status: 503, Headers: [][2]string{rateLimited, retry}, Body: "later\n", GRPCStatus: 14},
			"flow:rated", "1/1"},
		{"configured headers win",
			`"block": {"headers": {"Retry-After": "7", "x-envoy-ratelimited": "no", "content-type": "text/html", "x": "y"}}, ` +
				rated,
			envoyhost.Answer{Status: 429, GRPCStatus: 8, Headers: [][2]string{
				{"content-type", "text/html"}, {"retry-after", "7"}, {"x", "y"}, {"x-envoy-ratelimited", "no"}}},
			"flow:rated", "1/1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, p := start(t, c.configuration)
			if c.configuration != full {
				begin(t, p, envoyhost.Continue)
			}
			s := begin(t, p, envoyhost.Pause)
			if len(s.Answers) != 1 {
				t.Fatalf("%d answers", len(s.Answers))
			}
			got := s.Answers[0]
			if got.Status != c.want.Status || got.GRPCStatus != c.want.GRPCStatus || !slices.Equal(got.Headers, c.want.Headers) {
				t.Errorf("answer %+v, want %+v", got, c.want)
			}
			kind, rule, _ := strings.Cut(c.by, ":")
			explained := "blocked by " + kind + " rule " + rule + ": " + strings.Replace(c.figure, "/", " of ", 1) + " "
			if got.Body != c.want.Body && (c.want.Body != "" || !strings.HasPrefix(got.Body, explained)) {
				t.Errorf("body %q, want %q", got.Body, c.want.Body)
			}
			if s.State[envoyhost.BlockedBy] != c.by || s.State[envoyhost.BlockedFigure] != c.figure {
				t.Errorf("filter state %q", s.State)
			}
			s.End()
			e.Metrics(map[string]uint64{"sentinel_blocked;resource=web;rule=" + rule + ";kind=" + kind: 1})
			e.Faults()
		})
	}
}

// A call of gRPC, or of gRPC-Web, is answered by a status of gRPC.
func TestAnswersToCalls(t *testing.T) {
	for _, kind := range []string{"application/grpc", "application/grpc-web+proto"} {
		_, p := start(t, `"block": {"status": 503, "body": "10 % more: ü\n", "grpc_status": 14, "headers": {"content-type": "text/html"}}, `+full)
		s := p.Stream()
		s.Request["content-type"] = kind
		s.RequestHeaders()
		want := envoyhost.Answer{Status: 200, GRPCStatus: 14, Headers: [][2]string{
			{"x-envoy-ratelimited", "true"}, {"content-type", kind}, {"grpc-status", "14"}, {"grpc-message", "10 %25 more: %C3%BC%0A"}}, Details: "sentinel{flow:full}"}
		if got := s.Answers[0]; fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
}

// In shadow mode a request is let in, and the access log can say what would have refused it.
func TestShadowIsInTheFilterState(t *testing.T) {
	e, p := start(t, `"mode": "shadow", `+rated)
	for i, want := range []string{"", "flow:rated", "flow:rated"} {
		s := begin(t, p, envoyhost.Continue)
		figure := ""
		if want != "" {
			figure = "1/1"
		}
		if s.State[envoyhost.ShadowBlockedBy] != want || s.State[envoyhost.ShadowBlockedFigure] != figure ||
			s.State[envoyhost.BlockedBy] != "" || len(s.Answers) > 0 {
			t.Errorf("request %d: filter state %q, answers %v, want %q", i, s.State, s.Answers, want)
		}
		s.End()
	}
	e.Faults()
}

// The seconds of retry-after are whole ones, and not too few.
// Who does not print the filter state need not pay for it; Envoy's details name the rule all the same.
func TestWithoutFilterState(t *testing.T) {
	e, p := start(t, `"block": {"filter_state": false}, `+full)
	s := begin(t, p, envoyhost.Pause)
	if len(s.State) > 0 || s.Answers[0].Details != "sentinel{flow:full}" {
		t.Errorf("filter state %q, details %q", s.State, s.Answers[0].Details)
	}
	e.Faults()
}

// Parts of an answer are kept for the next; none may be of a refusal by another rule, of another time or to another client.
func TestAnswersAreNotMixedUp(t *testing.T) {
	e := vmtest.Start(t, map[string]vm.HandlerKind{"sentinel_http": http.Kind}, "")
	p := e.Plugin("sentinel_http", `{"flowRules": [
		{"id": "a", "resource": "/a", "threshold": 0, "statIntervalInMs": 1000},
		{"id": "b", "resource": "/b", "threshold": 1, "statIntervalInMs": 600000}]}`)
	ask := func(path, kind string) *vmtest.Stream {
		s := p.Stream()
		s.Request[":path"], s.Request["content-type"] = path, kind
		s.RequestHeaders()
		return s
	}
	ask("/b", "").End()
	for i := range 20 {
		for path, want := range map[string]string{"/a": "flow:a 0/0", "/b": "flow:b 1/1"} {
			kind := []string{"text/plain", "application/grpc", "application/grpc+proto"}[i%3]
			s := ask(path, kind)
			by, figure := s.State[envoyhost.BlockedBy], s.State[envoyhost.BlockedFigure]
			answer := s.Answers[0]
			got := fmt.Sprint(by, " ", figure)
			if text := fmt.Sprint(answer.Headers, answer.Body); got != want || answer.Details != "sentinel{"+by+"}" ||
				!strings.Contains(text, "rule "+path[1:]+": ") || (i%3 > 0) != strings.Contains(text, "[content-type "+kind+"]") {
				t.Errorf("%s, %s: filter state %q, answer %+v", path, kind, got, answer)
			}
			s.End()
			e.Run(300 * time.Millisecond)
		}
	}
	e.Faults()
}

func TestRetryAfterIsRoundedUp(t *testing.T) {
	e, p := start(t, `"flowRules": [{"id": "slow", "resource": "web", "threshold": 1, "statIntervalInMs": 5000}]`)
	begin(t, p, envoyhost.Continue)
	for _, c := range []struct {
		wait time.Duration
		want string
	}{{0, "5"}, {time.Millisecond, "5"}, {999 * time.Millisecond, "4"}, {3999 * time.Millisecond, "1"}} {
		e.Run(c.wait)
		s := begin(t, p, envoyhost.Pause)
		if i := slices.IndexFunc(s.Answers[0].Headers, func(h [2]string) bool { return h[0] == "retry-after" }); i < 0 ||
			s.Answers[0].Headers[i][1] != c.want {
			t.Errorf("headers %q, want retry-after %s", s.Answers[0].Headers, c.want)
		}
	}
}

// A fault of ours, as a panic or as an error of the host, follows the failure mode.
func TestFailureMode(t *testing.T) {
	unavailable := envoyhost.Answer{
		Status: 503, Body: "flow control is unavailable\n", GRPCStatus: 14, Details: "sentinel{unavailable:}",
	}
	for _, mode := range []string{"open", "closed"} {
		for _, fault := range []string{"panic", "error"} {
			t.Run(mode+" "+fault, func(t *testing.T) {
				e, p := start(t, `"failure_mode": "`+mode+`", "block": {"status": 418, "body": "no"}, `+full)
				if fault == "panic" {
					e.Panic("host")
				} else {
					e.Worker.Fail(fmt.Errorf("injected"))
				}
				want := map[string]envoyhost.Action{"open": envoyhost.Continue, "closed": envoyhost.Pause}[mode]
				s := begin(t, p, want)
				e.Panic("")
				e.Worker.Fail(nil)
				switch {
				case mode == "open" && len(s.Answers) != 0:
					t.Errorf("answers %+v", s.Answers)
				case mode == "closed" && (len(s.Answers) != 1 || fmt.Sprint(s.Answers[0]) != fmt.Sprint(unavailable)):
					t.Errorf("answers %+v, want %+v", s.Answers, unavailable)
				}
				if by := s.State[envoyhost.BlockedBy]; (by == "unavailable:") != (mode == "closed") {
					t.Errorf("filter state %q", s.State)
				}
				s.End()
				begin(t, p, envoyhost.Pause).End()
				e.Metrics(map[string]uint64{"sentinel_faults": 1, "sentinel_in_flight;resource=web": 0})
			})
		}
	}
}

// An answer that cannot be sent keeps the request from the upstream all the same, and so does one that panics.
func TestAnswerFails(t *testing.T) {
	e, p := start(t, full)
	e.Before = func(call string) error {
		if call == "sendResponse" {
			return fmt.Errorf("injected")
		}
		return nil
	}
	begin(t, p, envoyhost.Pause).End()
	e.Faults("fault 1: answering: injected")
}

// Where even the refusal of what could not be decided panics, the request is held back, and the VM lives.
func TestPanicInARefusal(t *testing.T) {
	for mode, want := range map[string]envoyhost.Action{"open": envoyhost.Continue, "closed": envoyhost.Pause} {
		e, p := start(t, `"failure_mode": "`+mode+`", `+full)
		e.Panic("sendResponse")
		begin(t, p, want).End()
		e.Panic("")
		e.Faults("fault 1: deciding: panic: injected")
		begin(t, p, envoyhost.Pause).End()
	}
}

func TestWaits(t *testing.T) {
	e, p := start(t, paced)
	begin(t, p, envoyhost.Continue)
	second, third, fourth := begin(t, p, envoyhost.Pause), begin(t, p, envoyhost.Pause), begin(t, p, envoyhost.Pause)
	third.End() // its client leaves; the stream is used again at once for another
	fifth := begin(t, p, envoyhost.Pause)
	e.Run(450 * time.Millisecond)
	if second.Resumed != 1 || third.Resumed != 0 || fourth.Resumed != 1 || fifth.Resumed != 1 {
		t.Errorf("resumed %d, %d, %d and %d times", second.Resumed, third.Resumed, fourth.Resumed, fifth.Resumed)
	}
	if got := fmt.Sprint(p.TickPeriods); got != "[20 5 20]" {
		t.Errorf("tick periods %s", got)
	}
	e.Metrics(map[string]uint64{"sentinel_passed;resource=web": 4, "sentinel_completed;resource=web": 0})
	e.Faults()
}

// Where holding a request back panics, it is answered or goes on at once, and has no turn later.
func TestPanicInWaiting(t *testing.T) {
	for mode, want := range map[string]envoyhost.Action{"open": envoyhost.Continue, "closed": envoyhost.Pause} {
		e, p := start(t, `"failure_mode": "`+mode+`", `+paced)
		begin(t, p, envoyhost.Continue)
		e.Panic("setTickPeriod")
		s := begin(t, p, want)
		e.Panic("")
		answers := len(s.Answers)
		e.Run(time.Second)
		if s.Resumed != 0 || len(s.Answers) != answers || answers == 1 != (mode == "closed") {
			t.Errorf("%s: %d answers, then resumed %d times, %d answers", mode, answers, s.Resumed, len(s.Answers))
		}
		s.End()
		e.Faults("fault 1: deciding: panic: injected")
	}
}

// A request is answered at its turn where another rule refuses it, or where it cannot be decided.
func TestRefusedAtItsTurn(t *testing.T) {
	for name, panics := range map[string]bool{"by a rule": false, "by a panic": true} {
		t.Run(name, func(t *testing.T) {
			e, p := start(t, `"failure_mode": "closed", `+paced+`, `+single)
			begin(t, p, envoyhost.Continue)
			s := begin(t, p, envoyhost.Pause)
			status := uint32(429)
			if panics {
				status = 503
				at := e.Now() + 100e6
				calls := 0
				e.Before = func(call string) error {
					if call == "setEffectiveContext" {
						calls++
					} else if call == "host" && calls > 0 && e.Now() >= at {
						calls = 0
						panic("injected")
					}
					return nil
				}
			}
			e.Run(105 * time.Millisecond)
			if s.Resumed != 0 || len(s.Answers) != 1 || s.Answers[0].Status != status {
				t.Errorf("resumed %d times, answers %+v", s.Resumed, s.Answers)
			}
		})
	}
}
