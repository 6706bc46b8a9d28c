package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"sentinel-envoy/internal/envoytest"
)

// The filter's answer, a resource's and a rule's, as Envoy sends them: what a client calls its request is escaped in them.
func seeAnswers(t *testing.T, e *envoytest.Envoy, _ *envoytest.HTTPService) {
	wantAdmitted(t, e, 5, "/orders/1")
	wantAdmitted(t, e, 2, "/login")

	r := e.Get("http", "/orders/2")
	var problem struct {
		Type     string
		Status   int
		Policies []string `json:"violated-policies"`
	}
	if err := json.Unmarshal([]byte(r.Body), &problem); err != nil || r.Status != 429 || problem.Status != 429 ||
		!strings.HasSuffix(problem.Type, "#quota-exceeded") || !slices.Equal(problem.Policies, []string{"orders-qps"}) ||
		r.Header.Get("content-type") != "application/problem+json" {
		t.Errorf("%v: a problem is %+v", err, r)
	}

	r = e.Get("http", "/login", "x-request-id", `", "rule": "none`)
	var login struct {
		Error, Rule, Request string
		RetryAfter           int `json:"retry_after"`
	}
	if err := json.Unmarshal([]byte(r.Body), &login); err != nil || login.Error != "flow" || login.Rule != "login-qps" || login.Request == "" ||
		login.RetryAfter < 1 || r.Header.Get("content-type") != "application/json" {
		t.Errorf("%v: JSON is %+v", err, r)
	}

	r = e.Get("http", "/page")
	if r.Status != 403 || r.Body != "<p>/page is closed by page.</p>\n" || r.Header.Get("content-type") != "text/html" ||
		r.Header.Get("x-envoy-ratelimited") != "true" {
		t.Errorf("a page is %+v", r)
	}
}

// Candidates count beside the live threshold, a rule in shadow lets in, shares are kept, and the upstream is told.
func seeTrial(t *testing.T, e *envoytest.Envoy, web *envoytest.HTTPService) {
	wantAdmitted(t, e, 5, "/orders")
	waitMetric(t, e, 8, "sentinel_candidate_blocked", "rule", "orders@2", "kind", "flow")
	waitMetric(t, e, 2, "sentinel_candidate_blocked", "rule", "orders@8", "kind", "flow")
	if got := admitted(t, e, 10, 0, "/login"); got != 10 {
		t.Errorf("%d of 10 were let in by a rule in shadow", got)
	}
	waitMetric(t, e, 5, "sentinel_shadow_blocked", "rule", "login")

	passed := admitted(t, e, 200, http.StatusTooManyRequests, "/search")
	if passed < 60 || passed > 140 {
		t.Errorf("%d of 200 were let in by a rule that refuses half", passed)
	}
	waitMetric(t, e, float64(passed), "sentinel_shadow_blocked", "rule", "search")

	for i, want := range []string{"", "report", "report"} {
		if r := e.Get("http", "/report", "x-sentinel-exceeded", "a client's"); r.Status != 200 {
			t.Errorf("a rule that annotates answers %+v", r)
		}
		if got := web.Last().Header.Values("x-sentinel-exceeded"); strings.Join(got, "|") != want {
			t.Errorf("request %d: the upstream is told %q, want %q", i, got, want)
		}
	}
	waitMetric(t, e, 2, "sentinel_annotated", "rule", "report", "kind", "flow")
}

// Each answer says how much is left, one less than the one before, and the refusals that nothing is.
func seeRateLimitHeaders(t *testing.T, e *envoytest.Envoy, _ *envoytest.HTTPService) {
	for i := range 6 {
		r := e.Get("http", "/api", "x-user", "a")
		if (r.Status == http.StatusOK) != (i < 4) {
			t.Errorf("request %d: status %d", i, r.Status)
		}
		limit, left := r.Header.Values("x-ratelimit-limit"), r.Header.Values("x-ratelimit-remaining")
		if strings.Join(limit, "|") != fmt.Sprintf(`4, 4;w=31622400;name="user", 10;w=%d;name="api"`, (forever+999)/1000) || strings.Join(left, "|") != strconv.Itoa(max(3-i, 0)) {
			t.Errorf("request %d: limit %q, %q are left", i, limit, left)
		}
		if reset, err := strconv.Atoi(r.Header.Get("x-ratelimit-reset")); err != nil || reset < 1 || reset > 31_622_401 {
			t.Errorf("request %d: reset in %d s, %v", i, reset, err)
		}
	}
	if r := e.Get("http", "/other"); len(r.Header.Values("x-ratelimit-limit")) > 0 {
		t.Errorf("what nothing limits has %v", r.Header)
	}
}

// A service that was down gets its load back little by little; a breaker that is forced open lets nothing in.
func seeRecovery(t *testing.T, e *envoytest.Envoy, web *envoytest.HTTPService) {
	if r := e.Get("http", "/old"); r.Status != 503 || !strings.Contains(r.Body, "it is forced open") {
		t.Errorf("a breaker that is forced open answers %+v", r)
	}
	waitMetric(t, e, 2, "sentinel_breaker_state", "rule", "old")

	web.Behave(envoytest.Behaviour{Status: http.StatusInternalServerError})
	envoytest.Eventually(t, soon, "the breaker is open", func() bool { return e.Get("http", "/").Status == 503 })
	web.Behave(envoytest.Behaviour{})
	sharing, all := 0, 0
	envoytest.Eventually(t, soon, "it recovers, and then lets in all", func() bool {
		if r := e.Get("http", "/"); r.Status == 503 && strings.Contains(r.Body, "it recovers") {
			sharing, all = sharing+1, 0
		} else if r.Status == http.StatusOK {
			all++
		}
		return sharing > 0 && all > 50
	})
	if sharing == 0 {
		t.Error("it has its whole load at once")
	}
}

// Failed calls of gRPC are counted by their status, which has its place in the headers of an answer without messages and behind
// the messages of others.
func TestCountOnlyByGRPCStatus(t *testing.T) {
	const threshold = 3
	service := envoytest.StartGRPCService(t)
	e := start(t, envoytest.Config{Listeners: []envoytest.Listener{envoytest.HTTP{Upstream: service.Addr(), Wasm: httpFilter(t, fmt.Sprintf(
		`{"flowRules": [{"id": "calls", "resource": "/shop.Orders/List", "threshold": %[1]d, "statIntervalInMs": %[2]d, "countOnly": {"grpc": [16]}}],
		"hotspotRules": [{"id": "streams", "resource": "/shop.Orders/Watch", "metricType": "QPS", "threshold": %[1]d, "durationInSec": 31622400,
			"paramSource": "Header", "paramKey": "x-user", "countOnly": {"status": [401], "grpc": ["UNAUTHENTICATED", "PERMISSION_DENIED"]}}]}`,
		threshold, forever))}}})
	for name, ask := range map[string]func(cc *grpc.ClientConn, code string) error{
		"in the headers": func(cc *grpc.ClientConn, code string) error {
			return envoytest.Call(t.Context(), cc, "/shop.Orders/List", "x-code", code)
		},
		"in the trailers": func(cc *grpc.ClientConn, code string) error {
			_, err := envoytest.Stream(t.Context(), cc, "/shop.Orders/Watch", "x-messages", "1", "x-code", code, "x-user", "alice")
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			var calls []*grpc.ClientConn
			for range 4 * workers {
				calls = append(calls, e.GRPC("http"))
			}
			for _, cc := range calls {
				if err := ask(cc, "5"); status.Code(err) != codes.NotFound {
					t.Fatalf("what does not count: %v", err)
				}
			}
			before := service.Calls()
			for _, cc := range calls {
				if err := ask(cc, "16"); status.Code(err) != codes.Unauthenticated && service.Calls() < before+threshold {
					t.Errorf("after %d failures: %v", service.Calls()-before, err)
				}
			}
			if n := service.Calls() - before; n != threshold {
				t.Errorf("%d failures reached the service, want %d", n, threshold)
			}
		})
	}
	waitMetric(t, e, 0, "sentinel_faults")
}
