//go:build !wasip1

package http_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"sentinel-envoy/plugins/vm/vmtest"
)

// One rule of each family, with %s for its threshold, or how many requests a breaker wants to see.
const (
	flowRule     = `"flowRules": [{"id": "f", "resource": "web", "threshold": %s, "statIntervalInMs": 600000}]`
	throttled    = `"flowRules": [{"id": "t", "resource": "web", "threshold": %s, "controlBehavior": "Throttling"}]`
	isolated     = `"isolationRules": [{"id": "i", "resource": "web", "threshold": %s}]`
	byHost       = `"hotspotRules": [{"id": "h", "resource": "web", "metricType": "QPS", "paramSource": "Host", "threshold": %s, "durationInSec": 600}]`
	byTwo        = `"hotspotRules": [{"id": "h", "resource": "web", "metricType": "QPS", "params": [{"paramSource": "Host"}, {"paramSource": "SourceAddress", "v4PrefixLen": 24}], "threshold": %s, "durationInSec": 600}]`
	byTier       = `"hotspotRules": [{"id": "h", "resource": "web", "metricType": "QPS", "paramSource": "Host", "threshold": 0, "specificItems": [{"valPattern": {"suffix": ".org"}, "threshold": %s}], "durationInSec": 600}]`
	inFlight     = `"hotspotRules": [{"id": "c", "resource": "web", "metricType": "Concurrency", "paramSource": "Host", "threshold": %s}]`
	inboundRule  = `"systemRules": [{"id": "s", "metricType": "InboundQPS", "triggerCount": %s}]`
	breaksByTime = `"circuitBreakerRules": [{"id": "b", "resource": "web", "strategy": "SlowRequestRatio", "maxAllowedRtMs": 10, "threshold": 0.5, "minRequestAmount": %s, "retryTimeoutMs": 600000, "statIntervalMs": 60000}]`
	breaksByFail = `"circuitBreakerRules": [{"id": "b", "resource": "web", "strategy": "ErrorRatio", "threshold": 0.5, "minRequestAmount": %s, "retryTimeoutMs": 600000, "statIntervalMs": 60000}]`
)

// TestCallsOfARequest: calls of the host are most of what a request costs, those that return bytes 1 to 2 µs each and others
// 0.1 to 0.3. Each request makes those stated and no more; the few that reserve for those after them, or are the first of
// their tick, are others.
func TestCallsOfARequest(t *testing.T) {
	const (
		admitted = "now 2"
		timed    = "now 3"
		refused  = "header, now, sendResponse, setProperty 2"
	)
	for _, c := range []struct {
		name, rules, threshold string
		want                   string
	}{
		{"flow admits", flowRule, "1000000", admitted},
		{"flow refuses", flowRule, "1", refused},
		{"flow with a candidate admits", strings.Replace(flowRule, `"f",`, `"f", "candidateThreshold": [2000000],`, 1), "1000000", admitted},
		{"flow in shadow admits", strings.Replace(flowRule, `"f",`, `"f", "mode": "shadow",`, 1), "1", "now 2, setProperty 2"},
		{"flow for a share admits", strings.Replace(flowRule, `"f",`, `"f", "enabledPercent": 50,`, 1), "1000000", "now 2, property, property bytes"},
		{"flow that annotates admits", strings.Replace(flowRule, `"f",`, `"f", "action": "annotate",`, 1), "1000000", "now 2, removeHeader"},
		{"flow with rate limit headers admits", `"rate_limit_headers": "draft_03", ` + flowRule, "1000000", "get bytes, now 2, setHeader 3"},
		{"flow with rate limit headers refuses", `"rate_limit_headers": "draft_11", ` + flowRule, "1", "get bytes, " + refused},
		{"isolation with rate limit headers admits", `"rate_limit_headers": "draft_03", ` + isolated, "1000000", admitted},
		{"throttling admits", throttled, "1000000", "get bytes, " + admitted + ", set"},
		{"throttling refuses", throttled, "1", refused},
		{"isolation admits", isolated, "1000000", admitted},
		{"isolation refuses", isolated, "1", refused},
		{"hotspot admits", byHost, "1000000", "header bytes, " + admitted},
		{"hotspot refuses", byHost, "1", "header, header bytes, now, sendResponse, setProperty 2"},
		{"hotspot of two parameters admits", byTwo, "1000000", "header bytes, " + admitted + ", property bytes"},
		{"hotspot of a tier admits", byTier, "1000000", "header bytes, " + admitted},
		{"hotspot of a tier refuses", byTier, "1", "header, header bytes, now, sendResponse, setProperty 2"},
		{"concurrency of a value admits", inFlight, "1000000", "get bytes 2, header bytes, " + admitted + ", set 2"},
		{"concurrency of a value refuses", inFlight, "1", "get bytes, header, header bytes, now, sendResponse, setProperty 2"},
		{"system admits", inboundRule, "1000000", admitted},
		{"system refuses", inboundRule, "0", refused},
		{"breaker by slow requests admits", breaksByTime, "1000", timed + ", property bytes"},
		{"breaker by slow requests refuses", breaksByTime, "1", refused},
		{"breaker by failures admits", breaksByFail, "1000", "header, header bytes, " + timed + ", property bytes"},
		{"breaker by failures refuses", breaksByFail, "1", refused},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, p := start(t, fmt.Sprintf(c.rules, c.threshold))
			e.Run(100 * time.Millisecond)
			first := p.Stream()
			first.Request[":authority"], first.Properties["source.address"] = "example.org", "192.0.2.2:80"
			first.RequestHeaders()
			e.Run(100 * time.Millisecond) // a breaker finds the first slow, or failed; the others' first goes on
			if strings.HasPrefix(c.name, "breaker") {
				first.Properties["response.code_details"] = "via_upstream"
				first.Response[":status"] = "503"
				first.ResponseHeaders()
				first.End()
			}
			if got := usualCalls(e, p, strings.HasSuffix(c.name, "refuses")); got != c.want {
				t.Errorf("a request makes the calls %q, want %q", got, c.want)
			}
			e.Faults()
		})
	}
}

// TestCallsOfConditions: an entry asks for what it looks at, and for each once, however many entries do.
func TestCallsOfConditions(t *testing.T) {
	for _, c := range []struct{ resources, want string }{
		{`[{"name": "a", "match": {"path": {"suffix": ".png", "case_insensitive": true}, "query": [{"name": "v", "exact": "1"}]}},
			{"name": "b", "match": {"query": [{"name": "v", "exact": "2"}, {"name": "w", "present": true}]}}]`, "header bytes, now 2"},
		{`[{"name": "a", "match": {"cookies": [{"name": "v", "exact": "1"}]}}, {"name": "b", "match": {"not": {"cookies": [{"name": "w", "present": true, "invert": true}]}}}]`,
			"now 2, property bytes"},
		{`[{"name": "a", "match": {"source_ip": ["10.0.0.0/8"]}}, {"name": "b", "match": {"not": {"source_ip": ["0.0.0.0/0"]}}}]`, "now 2, property bytes"},
		{`[{"name": "a", "match": {"source_ip": ["10.0.0.0/8"], "trusted_hops": 1}}]`, "now 2, property bytes"},
		{`[{"name": "a", "unlimited": true, "match": {"path": {"prefix": "/a.jpg"}}}]`, "header bytes"},
		{`[{"name": "a", "continue": true, "match": {"path": {"prefix": "/a"}}}, {"name": "b", "continue": true, "match": {"path": {"prefix": "/a"}}}]`, "header bytes, now 2"},
		{`[{"name": "a", "unlimited": true, "match": {"path": {"prefix": "/b"}}}]`, "header bytes, now 2"},
		{`[], "resource_from": "route_name"`, "now 2, property bytes"},
	} {
		e, p := start(t, `"resources": `+c.resources+`, `+fmt.Sprintf(flowRule, "1000000"))
		e.Run(100 * time.Millisecond)
		if got := usualCalls(e, p, false); got != c.want {
			t.Errorf("%s: a request makes the calls %q, want %q", c.resources, got, c.want)
		}
		e.Faults()
	}
}

// usualCalls are the calls that most of a number of requests make, in the order of their names.
func usualCalls(e *vmtest.Envoy, p *vmtest.Plugin, refuses bool) (usual string) {
	seen := map[string]int{}
	for range 31 {
		e.Advance(100_000)
		clear(e.Counts)
		s := p.Stream()
		s.Request[":authority"], s.Request[":path"] = "example.org", "/a.jpg?v=3"
		s.Request["cookie"], s.Request["x-forwarded-for"], s.Properties["source.address"] = "v=2", "192.0.2.1", "192.0.2.2:80"
		s.Properties["xds.route_name"] = "r"
		s.RequestHeaders()
		s.Properties["response.code_details"] = "via_upstream"
		s.Response[":status"] = "200"
		s.ResponseHeaders()
		if refuses != (len(s.Answers) == 1) {
			return fmt.Sprintf("of %d answers", len(s.Answers))
		}
		s.End()
		calls := written(e.Counts)
		if seen[calls]++; seen[calls] > seen[usual] {
			usual = calls
		}
	}
	return usual
}

// written are counts in the order of the names.
func written(counts map[string]int) string {
	var calls []string
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		switch n := counts[name]; n {
		case 0:
		case 1:
			calls = append(calls, name)
		default:
			calls = append(calls, fmt.Sprint(name, " ", n))
		}
	}
	return strings.Join(calls, ", ")
}
