package e2e

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"sentinel-envoy/internal/envoytest"
)

// valueRule is a hotspot rule that admits so many of each value in all. param says which.
func valueRule(id, resource string, threshold int, param string) string {
	return fmt.Sprintf(`{"id": %q, "resource": %q, "metricType": "QPS", "durationInSec": 3600, "threshold": %d, %s}`,
		id, resource, threshold, param)
}

// hotspotRules is the member of a configuration that has these rules.
func hotspotRules(rules ...string) string {
	return `"hotspotRules": [` + strings.Join(rules, ", ") + `]`
}

// tries sends a request to a listener n times and counts those that are let through.
func tries(t *testing.T, e *envoytest.Envoy, listener string, n int, path string, headers ...string) (passed int) {
	t.Helper()
	for range n {
		switch r := e.Get(listener, path, headers...); r.Status {
		case http.StatusOK:
			passed++
		case http.StatusTooManyRequests:
		default:
			t.Fatalf("%s %v: status %d, %q", path, headers, r.Status, r.Body)
		}
	}
	return passed
}

// share is a set of requests that have one limit together.
type share struct {
	listener string
	paths    []string
	headers  []string
	want     int // of all requests, each path five times
}

func (s share) see(t *testing.T, e *envoytest.Envoy) {
	t.Helper()
	got := 0
	for _, path := range s.paths {
		got += tries(t, e, s.listener, 5, path, s.headers...)
	}
	if got != s.want {
		t.Errorf("%s %q %q: %d were let through, want %d", s.listener, s.paths, s.headers, got, s.want)
	}
}

const (
	patternsConfig = "patterns"
	pathsConfig    = "raw paths"
	namedConfig    = "named"
	propertyConfig = "property"
	itemsConfig    = "items"
	longConfig     = "long"
)

// silenceConfigs are configurations whose rules once loaded and limited nothing.
func silenceConfigs() map[string]string {
	items := func(list string) string { return `, "specificItems": [` + list + `]` }
	item := func(kind int, text string) string {
		return fmt.Sprintf(`{"valKind": %d, "valStr": %q, "threshold": 1}`, kind, text)
	}
	return map[string]string{
		patternsConfig: `{` + flowRules(flowRule("id", "/users/{id}", 2), flowRule("me", "/users/me", 1), flowRule("api", "/api/**", 3),
			flowRule("png", "/files/*.png", 2), flowRule("template", "orders", 2)) + `,
			"resources": [{"name": "orders", "match": {"path": {"template": "/orders/{id}/items"}}}]}`,
		pathsConfig: `{` + flowRules(flowRule("orders", "/订单", 2), flowRule("space", "/a b", 2), flowRule("plain", "/plain", 2)) + `}`,
		// An entry named like a path takes what its match says, and a path rule behind an entry is never asked.
		namedConfig: `{"resource_name": "all", "resources": [
				{"name": "/orders", "match": {"method": ["POST"], "path": {"exact": "/orders"}}},
				{"name": "api", "match": {"path": {"prefix": "/api/orders"}}}],` +
			flowRules(flowRule("all", "all", 1), flowRule("posted", "/orders", 1), flowRule("special", "/api/orders/special", 1),
				flowRule("regex", "/v1/.*", 1), strings.Replace(flowRule("half", "/half", 7), "7", "0.5", 1)) + `}`,
		propertyConfig: `{` + hotspotRules(
			valueRule("text", "/text", 2, `"paramSource": "Property", "paramKey": "metadata.filter_metadata.envoy.filters.http.set_metadata.payload.sub"`),
			valueRule("list", "/list", 2, `"paramSource": "Property", "paramPath": ["metadata", "filter_metadata", "dotted.ns", "sub.ject"]`),
			valueRule("port", "/port", 2, `"paramSource": "Property", "paramKey": "destination.port"`),
			valueRule("absent", "/absent", 2, `"paramSource": "Property", "paramKey": "metadata.filter_metadata.nobody.sub"`)) + `}`,
		itemsConfig: `{` + hotspotRules(
			valueRule("host", "/host", 3, `"paramSource": "Host"`+items(item(1, "VIP.Example.com"))),
			valueRule("source", "/source", 3, `"paramSource": "SourceAddress", "trustedHops": 1`+
				items(item(1, "2001:DB8:0:0::1")+","+item(1, "10.0.0.0/8"))),
			valueRule("number", "/number", 3, `"paramSource": "Query", "paramKey": "n"`+items(item(0, "7"))),
			valueRule("boolean", "/boolean", 3, `"paramSource": "Header", "paramKey": "x-b"`+items(item(2, "true")))) + `}`,
		longConfig: `{"resources": [{"name": "long", "match": {"path": {"regex": "/long/.*"}}}],` + flowRules(flowRule("long", "long", 2)) + `}`,
	}
}

// setMetadata is a filter of Envoy's that says who is calling, as jwt_authn would.
func setMetadata() map[string]any {
	value := func(namespace string, fields map[string]any) map[string]any {
		return map[string]any{"metadata_namespace": namespace, "value": fields}
	}
	return map[string]any{
		"name": "envoy.filters.http.set_metadata",
		"typed_config": map[string]any{
			"@type": "type.googleapis.com/envoy.extensions.filters.http.set_metadata.v3.Config",
			"metadata": []any{
				value("envoy.filters.http.set_metadata", map[string]any{"payload": map[string]any{"sub": "alice"}}),
				value("dotted.ns", map[string]any{"sub.ject": 42}),
			},
		},
	}
}

// TestNoRuleSleeps: a rule that is accepted acts, whatever way a client or the rule's author spells what it is about.
func TestNoRuleSleeps(t *testing.T) {
	web := envoytest.StartHTTPService(t)
	var listeners []envoytest.Listener
	for name, config := range silenceConfigs() {
		l := envoytest.HTTP{Name: name, Upstream: web.Addr(), Wasm: httpFilter(t, config), RawPaths: true, MaxHeadersKB: 96}
		if name == propertyConfig {
			l.FiltersBefore = append(l.FiltersBefore, setMetadata())
		}
		listeners = append(listeners, l)
	}
	e := start(t, envoytest.Config{Listeners: listeners})
	long := "/long/" + strings.Repeat("7", 50_000)
	for _, c := range []struct {
		name   string
		shares []share
	}{
		{"patterns", []share{
			{patternsConfig, []string{"/users/7", "/users/8?x", "/users/%37"}, nil, 2},
			{patternsConfig, []string{"/users/me", "/users/%6De"}, nil, 1},
			{patternsConfig, []string{"/api", "/api/", "/api/v1/x", "/%61pi/x"}, nil, 3},
			{patternsConfig, []string{"/files/a.png", "/files/b.png"}, nil, 2},
			{patternsConfig, []string{"/orders/7/items"}, nil, 2},
			{patternsConfig, []string{"/files/a.jpg", "/users/7/x", "/apis"}, nil, 15},
		}},
		{"encoded paths", []share{
			{pathsConfig, []string{"/%e8%ae%a2%e5%8d%95", "/%E8%AE%A2%E5%8D%95"}, nil, 2},
			{pathsConfig, []string{"/a%20b", "/%61%20b"}, nil, 2},
			{pathsConfig, []string{"/plain", "/pl%61in", "/pl%61in?x", "/plain;v=1"}, nil, 2},
		}},
		{"entries that take paths", []share{{namedConfig, []string{"/orders", "/other"}, nil, 1}}},
		{"properties", []share{
			{propertyConfig, []string{"/text"}, nil, 2}, {propertyConfig, []string{"/list"}, nil, 2}, {propertyConfig, []string{"/port"}, nil, 2},
			{propertyConfig, []string{"/absent"}, nil, 5},
		}},
		{"specific items", []share{
			{itemsConfig, []string{"/host"}, []string{"host", "vip.example.com"}, 1}, {itemsConfig, []string{"/host"}, []string{"host", "other"}, 3},
			{itemsConfig, []string{"/source"}, []string{"x-forwarded-for", "[2001:db8::1]"}, 1},
			{itemsConfig, []string{"/source"}, []string{"x-forwarded-for", "10.9.9.9"}, 1},
			{itemsConfig, []string{"/source"}, []string{"x-forwarded-for", "10.9.9.8:99"}, 1},
			{itemsConfig, []string{"/source"}, []string{"x-forwarded-for", "11.9.9.8"}, 3},
			{itemsConfig, []string{"/number?n=7", "/number?n=007"}, nil, 1}, {itemsConfig, []string{"/number?n=8", "/number?n=08"}, nil, 3},
			{itemsConfig, []string{"/boolean"}, []string{"x-b", "TRUE"}, 1},
		}},
		{"a long path", []share{{longConfig, []string{long, long + "/x", "/long/7"}, nil, 2}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, s := range c.shares {
				s.see(t, e.For(t))
			}
		})
	}
	t.Run("warnings", func(t *testing.T) { seeWarnings(t, e.For(t)) })
	waitMetric(t, e, 5, "sentinel_hotspot_absent", "rule", "absent")
	waitMetric(t, e, 0, "sentinel_faults")
}

// seeWarnings: what the parser finds odd stands in the log, once, with the rule and the reason.
func seeWarnings(t *testing.T, e *envoytest.Envoy) {
	for _, want := range []string{
		`flowRules[1].resource: rule "posted" is for what the entry "/orders" of resources matches, which is not all of that path`,
		`flowRules[2].resource: rule "special" is never asked: resources[1] ("api") takes "/api/orders/special" first`,
		`flowRules[3].resource: rule "regex" has a resource that looks like a regular expression`,
		`flowRules[4].threshold: rule "half" refuses everything`,
	} {
		pattern := `\[warning\].*sentinel: configuration of root_id sentinel_http: ` + regexp.QuoteMeta(want)
		e.WaitLog(soon, pattern)
		if n := len(e.Log.All(pattern)); n != 1 {
			t.Errorf("%d times in the log: %s", n, want)
		}
	}
}

// A condition on the server name meets nothing where no TLS inspector reads it: only traffic can tell.
func TestServerNameWithoutInspector(t *testing.T) {
	up := envoytest.StartTCPService(t, "hello\n")
	e := start(t, envoytest.Config{Listeners: []envoytest.Listener{envoytest.TCP{
		Upstream: up.Addr(), Wasm: tcpFilter(t, `{"resources": [{"name": "db", "match": {"sni": "db.example.com"}}],
			"isolationRules": [{"resource": "db", "threshold": 1}]}`),
	}}})
	for range 3 {
		c := e.Dial("tcp")
		expect(t, c, "hello\n")
		c.Close()
	}
	waitMetric(t, e, 3, "sentinel_sni_absent")
}
