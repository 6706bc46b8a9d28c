//go:build !wasip1

package http_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"sentinel-envoy/plugins/envoyhost"
	"sentinel-envoy/plugins/vm/vmtest"
)

const twoRules = `"flowRules": [{"id": "a \"b\" ü", "resource": "web", "threshold": 3, "statIntervalInMs": 700},
	{"id": "minute", "resource": "web", "threshold": 2, "statIntervalInMs": 60000}]`

// limitHeaders are those of an answer, in the order of their names.
func limitHeaders(all map[string]string) string {
	var some []string
	for name, value := range all {
		if strings.Contains(name, "ratelimit") && name != "x-envoy-ratelimited" {
			some = append(some, name+": "+value)
		}
	}
	slices.Sort(some)
	return strings.Join(some, " | ")
}

// What is left stands on answers that pass and that refuse, once and as the draft has it, whatever the upstream says of it.
func TestRateLimitHeaders(t *testing.T) {
	for draft, want := range map[string][]string{
		"off": {"x-ratelimit-limit: upstream's", ""},
		"draft_03": {
			`x-ratelimit-limit: 2, 2;w=60;name="minute", 3;w=1;name="a \"b\" %C3%BC" | x-ratelimit-remaining: 1 | x-ratelimit-reset: `,
			`x-ratelimit-limit: 2, 2;w=60;name="minute", 3;w=1;name="a \"b\" %C3%BC" | x-ratelimit-remaining: 0 | x-ratelimit-reset: `},
		"draft_11": {
			`ratelimit-policy: "minute";q=2;w=60, "a \"b\" %C3%BC";q=3;w=1 | ratelimit: "minute";r=1;t=T, "a \"b\" %C3%BC";r=2;t=T | x-ratelimit-limit: upstream's`,
			`ratelimit-policy: "minute";q=2;w=60, "a \"b\" %C3%BC";q=3;w=1 | ratelimit: "minute";r=0;t=T, "a \"b\" %C3%BC";r=1;t=T`},
	} {
		e, p := start(t, `"rate_limit_headers": "`+draft+`", `+twoRules)
		s := begin(t, p, envoyhost.Continue)
		s.Response["x-ratelimit-limit"] = "upstream's"
		s.ResponseHeaders()
		got := []string{limitHeaders(s.Response)}
		s.End()
		begin(t, p, envoyhost.Continue).End()
		s = begin(t, p, envoyhost.Pause)
		refused := map[string]string{}
		for _, h := range s.Answers[0].Headers {
			if refused[h[0]] != "" {
				t.Errorf("%s: %s twice", draft, h[0])
			}
			refused[h[0]] = h[1]
		}
		for i, text := range append(got, limitHeaders(refused)) {
			if !sameHeaders(text, want[i]) {
				t.Errorf("%s: %s, want %s", draft, text, want[i])
			}
		}
		s.End()
		e.Faults()
	}
}

// sameHeaders compares without the seconds that are left of a window.
func sameHeaders(got, want string) bool {
	for n := range 61 {
		got = strings.ReplaceAll(got, fmt.Sprintf("t=%d,", n), "t=T,")
		got = strings.ReplaceAll(got+"$", fmt.Sprintf("t=%d$", n), "t=T$")
		got = strings.TrimSuffix(strings.ReplaceAll(got, fmt.Sprintf("t=%d |", n), "t=T |"), "$")
	}
	return got == want || strings.HasSuffix(want, "x-ratelimit-reset: ") && strings.HasPrefix(got, want)
}

// Headers of the operator's stay; calls of gRPC have them too; where nothing is limited there are none.
func TestRateLimitHeadersBesideOthers(t *testing.T) {
	e, p := start(t, `"rate_limit_headers": "draft_03", "block": {"headers": {"x-ratelimit-limit": "mine"}}, `+full)
	s := p.Stream()
	s.Request["content-type"] = "application/grpc"
	s.RequestHeaders()
	if got := fmt.Sprint(s.Answers[0].Headers); !strings.HasPrefix(got, "[[x-ratelimit-limit mine] [x-envoy-ratelimited true] [content-type application/grpc] [grpc-status 8]") ||
		!strings.Contains(got, "[x-ratelimit-remaining 0]") || strings.Count(got, "x-ratelimit-limit") != 1 {
		t.Errorf("headers %s", got)
	}
	s.End()
	for _, rules := range []string{single, `"mode": "shadow", ` + full, paced} {
		e, p := start(t, `"rate_limit_headers": "draft_11", `+rules)
		s := begin(t, p, envoyhost.Continue)
		s.ResponseHeaders()
		if got := limitHeaders(s.Response); got != "" {
			t.Errorf("%s: %s", rules, got)
		}
		s.End()
		e.Faults()
	}
	e.Faults()
}

// A stream that is used for another request tells nothing of the one before.
func TestRateLimitHeadersAreOfTheirRequest(t *testing.T) {
	e, p := start(t, `"rate_limit_headers": "draft_03", "resources": [{"name": "free", "match": {"path": {"exact": "/free"}}}], `+
		`"hotspotRules": [{"id": "u", "resource": "web", "metricType": "QPS", "paramSource": "Header", "paramKey": "x-user", "threshold": 9, "durationInSec": 60}]`)
	ask := func(path, user string) *vmtest.Stream {
		s := p.Stream()
		s.Request[":path"], s.Request["x-user"] = path, user
		s.RequestHeaders()
		return s
	}
	first, second := ask("/", "a"), ask("/", "b")
	ask("/", "b").End()
	for _, c := range []struct {
		s    *vmtest.Stream
		want string
	}{{second, "7"}, {first, "8"}, {ask("/free", "a"), ""}} {
		c.s.ResponseHeaders()
		if got := c.s.Response["x-ratelimit-remaining"]; got != c.want {
			t.Errorf("%q are left, want %q", got, c.want)
		}
		c.s.End()
	}
	e.Run(time.Second)
	e.Faults()
}

// An answer that counts is charged before its client is told what is left, whoever gave it, and one that does not is not.
func TestAnswersThatCount(t *testing.T) {
	_, p := start(t, `"rate_limit_headers": "draft_03", "flowRules": [{"id": "failures", "resource": "web", "threshold": 2,
		"statIntervalInMs": 60000, "countOnly": {"status": [401, "5xx"]}}]`)
	for i, c := range []struct{ status, left string }{{"200", "2"}, {"503", "1"}, {"404", "1"}, {"401", "0"}} {
		s := begin(t, p, envoyhost.Continue)
		s.Response[":status"] = c.status
		s.ResponseHeaders()
		if got := s.Response["x-ratelimit-remaining"]; got != c.left {
			t.Errorf("answer %d, %s: %q left, want %s", i, c.status, got, c.left)
		}
		s.End()
	}
	s := begin(t, p, envoyhost.Pause)
	if text := s.Answers[0].Body; !strings.HasPrefix(text, "blocked by flow rule failures: 2 of 2 answered 401,5xx in 60000 ms") {
		t.Errorf("refused with %q", text)
	}
}
