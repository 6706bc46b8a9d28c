package convert

import (
	"strings"
	"testing"
)

// What cannot be converted is said with file and line, and nothing is written.
func TestMistakes(t *testing.T) {
	for _, c := range []struct{ product, text, want string }{
		{"java", "{\"flowRules\": [\n{\"resource\": \"/a\", \"count\": 1},\n{\"resource\": \"/a\",\n\"count\": -1}]}", "f:4: flowRules[1].count: must be ≥ 0, got -1"},
		{"java", `{"flowRule": []}`, "f:1: flowRule is no family's list"},
		{"java", `[]`, "f:1: is a list: say with --rules of which family, as --rules flowRules"},
		{"java", `{`, "f: yaml: line 1: did not find expected node content"},
		{"gateway", `[{"resource": "a", "count": 1, "grade": 0}]`, "f:1: grade 0 (threads) is not a gateway's: write it in isolationRules"},
		{"gateway", `[{"resource": "a"}]`, `f:1: count: must be a number of at least 0, got ""`},
		{"gateway", `[{"resource": "a", "count": "5}, {x: 1"}]`, `f:1: count: must be a number of at least 0, got "5}, {x: 1"`},
		{"gateway", `[{"resource": "a", "count": 1, "interval": 2, "intervalUnit": 2}]`, "f:1: an interval of 7200 is longer than an hour, which is the longest here"},
		{"gateway", "- resource: a\n  count: 1\n  paramItem: {parseStrategy: 9}", "f:3: parseStrategy: must be 0 (client IP), 1 (host), 2 (header), 3 (URL parameter) or 4 (cookie)"},
		{"gateway", "- resource: a\n  count: 1\n  paramItem: {parseStrategy: 2}", "f:3: fieldName: missing: which Header?"},
		{"gateway", "- resource: a\n  count: 1\n  paramItem: {parseStrategy: 0, pattern: 10., matchStrategy: 4}",
			`f:3: matchStrategy: must be 0 (exact), 1 (prefix), 2 (regex) or 3 (contains)`},
		{"gateway", `[{"apiName": "a", "predicateItems": [{"pattern": "/a", "matchStrategy": 3}]}]`,
			"f:1: needs a pattern and the matchStrategy 0 (exact), 1 (prefix) or 2 (regex)"},
		// As posted in Sentinel#2208: the interval is misspelt, and was one second.
		{"gateway", `[{"app":"auth-gateway","burst":0,"clusterConfig":{"thresholdType":0},"clusterMode":false,"controlBehavior":0,"count":20,"grade":1,"id":12,"intervalUnit":1,` +
			`"inteval":2,"limitApp":"default","paramItem":{"fieldName":"ClientAuthority","matchStrategy":0,"parseStrategy":2,"pattern":"4"},"resource":"r","resourceMode":1,"strategy":"0"}]`,
			"f:1: inteval: unknown key"},
		{"gateway", `[{"resource": "r", "count": 1, "clusterMode": true}]`, "f:1: clusterMode: a limit over several Envoys is for Envoy's rate limit service"},
		{"gateway", `{"apis": []}`, "f:1: apis: must be apiDefinitions or gatewayFlowRules"},
		{"crd", "kind: FlowRule", `f:1: kind "FlowRule" is none of Sentinel's`},
		{"crd", "kind: FlowRules\nspec:\n  rules:\n  - {resource: a, threshold: 1}\n  - resource: a\n    threshold: x",
			`f:6: flowRules[1].threshold: must be a number, got the string "x"`},
		{"opensergo", "kind: FaultToleranceRule\nspec:\n  targets: [{targetResourceName: /a}]\n  strategies: [{name: x}]", `f:4: there is no strategy "x" in the file`},
		{"ratelimit", "descriptors: []", "f:1: is no configuration of the rate limit service: it needs domain and descriptors"},
		{"ratelimit", "domain: a\ndescriptors:\n- key: k\n  rate_limit: {unit: day, requests_per_unit: 3}",
			`f:4: unit "day": must be second, minute or hour, and all together at most an hour`},
		{"ratelimit", "domain: a\ndescriptors:\n- key: k\n  descriptors:\n  - {key: l, rate_limit: {unit: hour, requests_per_unit: 3}}",
			`f:3: limits each pair of values of "k" and what is below it: a hotspot rule has one parameter`},
		{"ratelimit", "domain: a\ndescriptors:\n- {key: k, value: v, shadow_mode: true, rate_limit: {unit: hour, requests_per_unit: 3}}",
			"f:3: shadow_mode: here a whole filter is in mode shadow: convert it by itself"},
		{"ratelimit", "domain: a\ndescriptors:\n- {key: k, value: v*, rate_limit: {unit: hour, requests_per_unit: 3}}",
			`f:3: value "v*": a prefix is a match in resources; write it there`},
		{"ratelimit", "domain: a\ndescriptors:\n- {key: k, value: v, rate_limit: {unit: hour, requests_per_unit: 3, replaces: [{name: x}]}}",
			"f:3: replaces: which rules are asked does not depend on others here"},
		{"ratelimit", "domain: a\ndescriptors:\n- {key: k, rate_limit: {unit: hour, requests_per_unit: 3}}\n- {key: k, value: v, rate_limit: {unit: second, requests_per_unit: 3}}",
			"f:4: unit: must be that of the key without a value, of which this is an exception"},
		{"ratelimit", "domain: a\ndescriptors:\n- {key: k, value: v, rate_limit: {unit: hour, requests_per_unit: -1}}",
			`f:3: requests_per_unit: must be a number of at least 0, got "-1"`},
		{"ratelimit", "domain: a\ndescriptors:\n- {key: k, valu: v}", "f:3: valu: unknown key"},
		{"nacos", "", `"nacos" is not java, gateway, crd, opensergo or ratelimit`},
	} {
		out, err := From(c.product, "f", []byte(c.text), "")
		if err == nil || err.Error() != c.want || out != "" {
			t.Errorf("%s %s\ngot  %v %q\nwant %s", c.product, c.text, err, out, c.want)
		}
	}
}

// A converted configuration says what the user has to write himself.
func TestNeeds(t *testing.T) {
	out, err := From("gateway", "f", []byte(`[{"resource": "route", "count": 1, "burst": 3}]`), "")
	for _, want := range []string{`# resource "route" is a route of the gateway's`, `# burst 3 of "route" is left out`} {
		if !strings.Contains(out, want) {
			t.Errorf("%v %s lacks %q", err, out, want)
		}
	}
	out, err = From("java", "f", []byte(`[{"resource": "/a", "grade": 1, "count": 1, "timeWindow": 1}]`), "degradeRules")
	if want := "# circuitBreakerRules[0].count: is never exceeded in Java Sentinel"; !strings.Contains(out, want) {
		t.Errorf("%v %s lacks %q", err, out, want)
	}
}

// What matches a pattern is an item, and what was converted can be read.
func TestGatewayPatterns(t *testing.T) {
	for strategy, want := range map[string]string{
		"0": `specificItems: [{valKind: KindString, valStr: "a.b", threshold: 2}]`, "1": `specificItems: [{valPattern: {prefix: "a.b"}, threshold: 2}]`,
		"2": `specificItems: [{valPattern: {regex: "a.b"}, threshold: 2}]`, "3": `specificItems: [{valPattern: {regex: "(?s:.*a\\.b.*)"}, threshold: 2}]`,
	} {
		rule := `[{"resource": "r", "resourceMode": 1, "count": 2, "paramItem": {"parseStrategy": 3, "fieldName": "k", "pattern": "a.b", "matchStrategy": ` + strategy + `}}]`
		text, err := From("gateway", "f", []byte(rule), "")
		if err != nil || !strings.Contains(text, want) {
			t.Errorf("strategy %s: %v\n%s\nwant %s", strategy, err, text, want)
		}
	}
}
