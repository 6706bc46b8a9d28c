//go:build !wasip1

package http_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"sentinel-envoy/plugins/envoyhost"
	"sentinel-envoy/plugins/http"
	"sentinel-envoy/plugins/vm"
	"sentinel-envoy/plugins/vm/vmtest"
)

// A rule's answer goes before its resource's, and that before the filter's; none is mixed up with another's.
func TestAnswersOfRulesAndResources(t *testing.T) {
	e := vmtest.Start(t, map[string]vm.HandlerKind{"sentinel_http": http.Kind}, "")
	p := e.Plugin("sentinel_http", `{
		"block": {"body": "{kind} {rule} {resource} [{retry_after}] {request_id}", "status_of": {"system": 503, "isolation": 503},
			"grpc_status_of": {"isolation": 14}, "x_envoy_ratelimited": false},
		"resources": [{"name": "api", "match": {"path": {"prefix": "/api"}}, "block": {"status": 420, "problem": true}},
			{"name": "api", "match": {"host": "api.example.org"}}],
		"flowRules": [
			{"id": "a", "resource": "/a", "threshold": 0},
			{"id": "b", "resource": "/b", "threshold": 0, "block": {"status": 403, "x_envoy_ratelimited": true, "headers": {"content-type": "text/html"}}},
			{"id": "c", "resource": "api", "threshold": 0}],
		"isolationRules": [{"id": "i", "resource": "/i", "threshold": 1}]}`)
	ask := func(path, kind string) envoyhost.Answer {
		s := p.Stream()
		s.Request[":path"], s.Request["content-type"], s.Request["x-request-id"] = path, kind, "<"+path+">"
		s.RequestHeaders()
		if len(s.Answers) == 0 {
			return envoyhost.Answer{}
		}
		return s.Answers[0]
	}
	ask("/i", "")
	for range 3 {
		for _, c := range []struct{ path, kind, want string }{
			{"/a", "", `429 8 [] flow a /a [] </a>`},
			{"/b", "", `403 8 [[content-type text/html] [x-envoy-ratelimited true]] flow b /b [] &#60;/b&#62;`},
			{"/i", "", `503 14 [] isolation i /i [] </i>`},
			{"/i", "application/grpc", `200 14 [[content-type application/grpc] [grpc-status 14] [grpc-message isolation i /i [] </i>]] `},
			{"/a", "application/grpc", `200 8 [[content-type application/grpc] [grpc-status 8] [grpc-message flow a /a [] </a>]] `},
			{"/api/x", "", `420 8 [[content-type application/problem+json]] {"type":"https://iana.org/assignments/http-problem-types#quota-exceeded"`},
			{"/api/x", "application/grpc", `200 8 [[content-type application/grpc] [grpc-status 8] [grpc-message blocked by flow rule c: 0 of 0 in 1000 ms%0A]] `},
		} {
			a := ask(c.path, c.kind)
			if got := fmt.Sprint(a.Status, a.GRPCStatus, a.Headers, " ", a.Body); !strings.HasPrefix(got, c.want) || c.path != "/api/x" && got != c.want {
				t.Errorf("%s %s: %s, want %s", c.path, c.kind, got, c.want)
			}
		}
	}
	e.Faults()
}

// A client cannot write an answer of its own by what it calls its request.
func TestRequestIDsCannotWriteTheAnswer(t *testing.T) {
	e, p := start(t, `"block": {"body": "{\"id\": \"{request_id}\", \"after\": {retry_after}}", "headers": {"content-type": "application/json"}}, `+full)
	for _, id := range []string{"", "a", `", "admin": "yes`, "\\", "{rule}", "</script>"} {
		s := p.Stream()
		s.Request["x-request-id"] = id
		s.RequestHeaders()
		var got map[string]any
		if err := json.Unmarshal([]byte(s.Answers[0].Body), &got); err != nil || len(got) != 2 || got["id"] != id || got["after"] != nil {
			t.Errorf("%q: %v, body %s", id, err, s.Answers[0].Body)
		}
	}
	e.Faults()
}

// An update of the rules takes their answers with it.
func TestAnswersFollowTheRules(t *testing.T) {
	e := vmtest.Start(t, map[string]vm.HandlerKind{"sentinel_http": http.Kind}, "")
	for _, want := range []string{"one", "two", ""} {
		block := ""
		if want != "" {
			block = `, "block": {"body": "` + want + `"}`
		}
		p := e.Plugin("sentinel_http", `{"resource_name": "web", "flowRules": [{"id": "f", "resource": "web", "threshold": 0`+block+`}]}`)
		s := p.Stream()
		s.RequestHeaders()
		if got := s.Answers[0].Body; got != want && !(want == "" && strings.HasPrefix(got, "blocked by")) {
			t.Errorf("%q, want %q", got, want)
		}
		s.End()
	}
	e.Faults()
}

// An answer costs no call more than it asks for.
func TestCallsOfAnswers(t *testing.T) {
	for block, want := range map[string]string{
		`{"status": 503}`:          "header, now, sendResponse, setProperty 2",
		`{"problem": true}`:        "header, now, sendResponse, setProperty 2",
		`{"body": "{rule}"}`:       "header, now, sendResponse, setProperty 2",
		`{"body": "{request_id}"}`: "header 2, now, sendResponse, setProperty 2",
	} {
		e, p := start(t, strings.Replace(fmt.Sprintf(flowRule, "1"), `"threshold"`, `"block": `+block+`, "threshold"`, 1))
		begin(t, p, envoyhost.Continue)
		e.Run(100 * time.Millisecond)
		if got := usualCalls(e, p, true); got != want {
			t.Errorf("%s: the calls %q, want %q", block, got, want)
		}
	}
}

// The upstream is told by which rules a request is over, in a header that a client cannot write, and an access log, too.
func TestAnnotates(t *testing.T) {
	e, p := start(t, `"flowRules": [
		{"id": "one, ü", "resource": "web", "threshold": 1, "statIntervalInMs": 600000, "action": "annotate"},
		{"id": "two", "resource": "web", "threshold": 2, "statIntervalInMs": 600000, "action": "annotate"}]`)
	for i, want := range []string{"", "one%2C %C3%BC", "one%2C %C3%BC, two"} {
		s := p.Stream()
		s.Request["x-sentinel-exceeded"], s.More["x-sentinel-exceeded"] = "nothing", []string{"at all"}
		if action := s.RequestHeaders(); action != envoyhost.Continue || len(s.Answers) > 0 {
			t.Fatalf("request %d: action %d, answers %v", i, action, s.Answers)
		}
		got, there := s.Request["x-sentinel-exceeded"]
		if got != want || there != (want != "") || len(s.More["x-sentinel-exceeded"]) > 0 || s.State[envoyhost.Exceeded] != want || s.State[envoyhost.BlockedBy] != "" {
			t.Errorf("request %d: %q, filter state %q, want %q", i, got, s.State, want)
		}
		s.End()
	}
	e.Faults()
}

// What a shadow rule would have refused is told of the request that it was, also where that has to wait for another rule.
func TestShadowRulesAreTold(t *testing.T) {
	e, p := start(t, `"hotspotRules": [{"id": "shadowed", "resource": "web", "metricType": "QPS", "paramSource": "Header", "paramKey": "x-user",
		"threshold": 1, "durationInSec": 600, "mode": "shadow"}], `+paced)
	var all []*vmtest.Stream
	for i, user := range []string{"a", "a", "b", "c", "b"} {
		s := p.Stream()
		s.Request["x-user"] = user
		if s.RequestHeaders(); len(s.Answers) > 0 {
			t.Errorf("request %d was refused", i)
		}
		all = append(all, s)
	}
	e.Run(time.Second)
	for i, want := range []string{"", "hotspot:shadowed", "", "", "hotspot:shadowed"} {
		if got := all[i].State[envoyhost.ShadowBlockedBy]; got != want {
			t.Errorf("request %d: %q, want %q", i, got, want)
		}
		all[i].End()
	}
	e.Faults()
}
