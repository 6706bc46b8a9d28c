package e2e

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

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
