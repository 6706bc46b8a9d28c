package explain

import (
	"encoding/json"
	"net/url"
	"testing"

	"sentinel-envoy/shared/config"
)

// Every family's refusal is brought about, as the plugin tells it.
func TestRefusals(t *testing.T) {
	for _, c := range []struct{ rules, refusal string }{
		{`"flowRules": [{"id": "x", "resource": "r", "threshold": 3}]`, "blocked by flow rule x: 3 of 3 in 1000 ms"},
		{`"flowRules": [{"id": "x", "resource": "r", "threshold": 2, "controlBehavior": "Throttling", "maxQueueingTimeMs": 1000}]`,
			"blocked by flow rule x: 1500 of 1000 ms to wait"},
		{`"flowRules": [{"id": "x", "resource": "r", "threshold": 9, "tokenCalculateStrategy": "WarmUp", "warmUpPeriodSec": 10}]`,
			"blocked by flow rule x: 3 of 3 in 1000 ms"},
		{`"isolationRules": [{"id": "x", "resource": "r", "threshold": 2}]`, "blocked by isolation rule x: 2 of 2 in flight"},
		{`"hotspotRules": [{"id": "x", "resource": "r", "metricType": "QPS", "threshold": 2, "durationInSec": 1, "paramSource": "Query", "paramKey": "u"}]`,
			"blocked by hotspot rule x: 2 of 2 in 1000 ms for one query parameter u"},
		{`"hotspotRules": [{"id": "x", "resource": "r", "metricType": "QPS", "threshold": 2, "durationInSec": 1, "paramSource": "Query", "paramKey": "no"}]`, ""},
		{`"circuitBreakerRules": [{"id": "x", "resource": "r", "strategy": "ErrorRatio", "threshold": 0.5, "minRequestAmount": 5, "statIntervalMs": 1000, "retryTimeoutMs": 1000}]`,
			"blocked by circuitBreaker rule x: 100 % of requests failed in 1000 ms, threshold 50 %; last second 5 passed, 0 blocked"},
		{`"circuitBreakerRules": [{"id": "x", "resource": "r", "strategy": 0, "threshold": 0.5, "maxAllowedRtMs": 50, "statIntervalMs": 1000, "retryTimeoutMs": 1000}]`,
			"blocked by circuitBreaker rule x: 100 % of requests slower than 50 ms in 1000 ms, threshold 50 %; last second 1 passed, 0 blocked"},
		{`"systemRules": [{"id": "x", "metricType": "InboundQPS", "triggerCount": 4}]`, "blocked by system rule x: 4 of 4 in 1000 ms"},
		{`"authorityRules": [{"id": "x", "resource": "r", "limitApp": "a", "emptyOrigin": "block"}]`, "blocked by authority rule x: it names no origin"},
	} {
		doc := `{"resource_name": "r", "origin": {"from": "Header", "name": "x-app"}, "mode": "shadow", ` + c.rules + `}`
		cfg, err := config.Parse([]byte(doc), config.KindHTTP)
		if err != nil {
			t.Fatal(err)
		}
		u, _ := url.Parse("http://h/p?u=1")
		a, err := Explain(cfg, nil, &Request{Method: "GET", URL: u})
		if err != nil || a.Resource != "r" || a.Mode != "shadow" || len(a.Rules) != 1 {
			t.Fatalf("%v %+v", err, a)
		}
		if got := a.Rules[0].Refusal; got != c.refusal {
			t.Errorf("%s\ngot  %q\nwant %q", c.rules, got, c.refusal)
		}
	}
}

// What a rule that is tried out would refuse is said, how it is tried, and what the client would be told.
func TestTrialsAndAnswers(t *testing.T) {
	half := `"resource": "r", "threshold": 1, "enforcedPercent": 50, "candidateThreshold": [2, 3], "block": {"status": 503, "body": "{rule} {retry_after} {request_id}"}`
	cfg, err := config.Parse([]byte(`{"resource_name": "r", "flowRules": [
		{"id": "half", `+half+`}, {"id": "shadowed", "resource": "r", "threshold": 1, "mode": "shadow", "block": {"problem": true}}]}`), config.KindHTTP)
	if err != nil {
		t.Fatal(err)
	}
	u, _ := url.Parse("http://h/p")
	a, err := Explain(cfg, nil, &Request{Method: "GET", URL: u, Headers: []string{"x-request-id: 7"}})
	if err != nil || len(a.Rules) != 2 {
		t.Fatalf("%v %+v", err, a)
	}
	for i, want := range []Rule{
		{Says: "1 in 1000 ms, Direct, Reject; refuses 50 % of what it would; candidate 2; candidate 3", After: 1, Status: 503,
			ContentType: "text/plain", Body: "half 1 7"},
		{Says: "1 in 1000 ms, Direct, Reject; in shadow mode: it only counts what it would refuse", After: 1, Status: 429,
			ContentType: "application/problem+json"},
	} {
		got := a.Rules[i]
		if got.Says != want.Says || got.After != want.After || got.Status != want.Status || got.ContentType != want.ContentType ||
			want.Body != "" && got.Body != want.Body || got.Body == "" {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
	if cfg.Rules[1].For().Trial == nil {
		t.Error("the rule is not tried out any more")
	}
}

// The resource is the plugin's: by path, host, method and headers; the VM's rules count where the filter has none of the id.
func TestResource(t *testing.T) {
	parse := func(doc string, kind config.Kind) *config.Config {
		cfg, err := config.Parse([]byte(doc), kind)
		if err != nil {
			t.Fatal(err)
		}
		return cfg
	}
	own := parse(`{"resources": [{"name": "beta", "match": {"headers": [{"name": "x-beta", "exact": "1"}], "host": "shop.example.com"}}],
		"flowRules": [{"id": "a", "resource": "/users/{id}", "threshold": 1}]}`, config.KindHTTP)
	shared := parse(`{"flowRules": [{"id": "a", "resource": "beta", "threshold": 1}, {"id": "b", "resource": "beta", "threshold": 1}]}`, config.KindVM)
	for _, c := range []struct {
		url, header, resource string
		rules                 int
	}{
		{"http://shop.example.com/x", "X-Beta: 1", "beta", 1}, {"http://shop.example.com/x", "X-Beta: 2", "", 0},
		{"http://a/users/7?x=1", "X-Beta: 1", "/users/{id}", 1}, {"http://a/x", "Host: shop.example.com", "", 0},
	} {
		u, _ := url.Parse(c.url)
		a, err := Explain(own, shared, &Request{Method: "GET", URL: u, Headers: []string{c.header}})
		if err != nil || a.Resource != c.resource || len(a.Rules) != c.rules {
			t.Errorf("%s %s: %v %+v", c.url, c.header, err, a)
		}
	}
}

// What the entries say that take a request out of all limits, and those that add a resource.
func TestEntries(t *testing.T) {
	cfg, err := config.Parse([]byte(`{"resources": [{"name": "all", "continue": true, "match": {"path": {"prefix": "/"}}},
		{"name": "health", "unlimited": true, "match": {"path": {"exact": "/healthz"}}}],
		"flowRules": [{"id": "a", "resource": "all", "threshold": 9}, {"id": "l", "resource": "/login", "threshold": 2}],
		"hotspotRules": [{"id": "h", "resource": "/t", "metricType": "QPS", "durationInSec": 1, "threshold": 2, "specificItems": [{"valPattern": {"prefix": "gold-"}, "threshold": 3}],
			"params": [{"paramSource": "Query", "paramKey": "u"}, {"paramSource": "SourceAddress", "v4PrefixLen": 24}]}],
		"systemRules": [{"id": "s", "metricType": "InboundQPS", "triggerCount": 4}]}`), config.KindHTTP)
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"/login": `{"resource":"/login","resources":["all","/login"],"mode":"enforce","rules":[` +
			`{"kind":"system","id":"s","says":"inboundQPS up to 4","resource":"all","refusal":"blocked by system rule s: 4 of 4 in 1000 ms","after":4,"status":429,"content_type":"text/plain"},` +
			`{"kind":"flow","id":"a","says":"9 in 1000 ms, Direct, Reject","resource":"all","refusal":"blocked by flow rule a: 9 of 9 in 1000 ms","after":9,"status":429,"content_type":"text/plain"},` +
			`{"kind":"flow","id":"l","says":"2 in 1000 ms, Direct, Reject","resource":"/login","refusal":"blocked by flow rule l: 2 of 2 in 1000 ms","after":2,"status":429,"content_type":"text/plain"}]}`,
		"/t?u=gold-7": `{"resource":"/t","resources":["all","/t"],"mode":"enforce","rules":[` +
			`{"kind":"system","id":"s","says":"inboundQPS up to 4","resource":"all","refusal":"blocked by system rule s: 4 of 4 in 1000 ms","after":4,"status":429,"content_type":"text/plain"},` +
			`{"kind":"flow","id":"a","says":"9 in 1000 ms, Direct, Reject","resource":"all","refusal":"blocked by flow rule a: 9 of 9 in 1000 ms","after":9,"status":429,"content_type":"text/plain"},` +
			`{"kind":"hotspot","id":"h","says":"2 in 1 s for each value of Query u and SourceAddress v4/24 v6/128, burst 0, Reject","resource":"/t","item":"prefix gold-",` +
			`"refusal":"blocked by hotspot rule h: 3 of 3 in 1000 ms for one query parameter u and source address","after":3,"status":429,"content_type":"text/plain"}]}`,
		"/healthz": `{"resource":"health","unlimited":true,"mode":"enforce","rules":[]}`,
	} {
		u, _ := url.Parse("http://h" + path)
		a, err := Explain(cfg, nil, &Request{Method: "GET", URL: u, Address: "192.0.2.1:80"})
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := json.Marshal(a); string(got) != want {
			t.Errorf("%s\ngot  %s\nwant %s", path, got, want)
		}
	}
}
