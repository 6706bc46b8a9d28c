package config

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
)

// warningsOf are the warnings of a document without mistakes.
func warningsOf(t *testing.T, kind Kind, doc string) (texts []string) {
	t.Helper()
	cfg, err := Parse([]byte(doc), kind)
	if err != nil {
		t.Fatalf("%s: %v", doc, err)
	}
	for _, w := range cfg.Warnings {
		texts = append(texts, w.String())
	}
	return texts
}

// A rule that loads and does not what it seems to is named, with what to write.
func TestWarnings(t *testing.T) {
	flow := func(resource string) string {
		return fmt.Sprintf(`"flowRules": [{"id": "x", "resource": %q, "threshold": 1}]`, resource)
	}
	for _, c := range []struct {
		name string
		kind Kind
		doc  string
		want []string
	}{
		{"entry before a path", KindHTTP, `{"resources": [{"name": "orders", "match": {"path": {"prefix": "/api/orders"}}}], ` +
			flow("/api/orders/special") + `}`,
			[]string{`flowRules[0].resource: rule "x" is never asked: resources[0] ("orders") takes "/api/orders/special" first; ` +
				`put an entry for it before that one`}},
		{"entry before an encoded path", KindHTTP, `{"resources": [{"name": "o", "match": {"path": {"exact": "/a%20b"}}}], ` + flow("/a b") + `}`,
			[]string{`flowRules[0].resource: rule "x" is never asked: resources[0] ("o") takes "/a b" first; put an entry for it before that one`}},
		{"entry before a pattern", KindHTTP, `{"resources": [{"name": "o", "match": {"path": {"prefix": "/api/"}}}], ` + flow("/api/{id}") + `}`,
			[]string{`flowRules[0].resource: rule "x" is never asked: resources[0] ("o") takes "/api/{id}" first; put an entry for it before that one`}},
		{"expression before a path", KindHTTP, `{"resources": [{"name": "o", "match": {"path": {"regex": "/[a-z]+"}}}], ` + flow("/a") + `}`,
			[]string{`flowRules[0].resource: rule "x" is never asked: resources[0] ("o") takes "/a" first; put an entry for it before that one`}},
		{"entry before an entry", KindHTTP, `{"resources": [{"name": "a", "match": {"path": {"prefix": "/"}}},
			{"name": "b", "match": {"path": {"exact": "/b"}, "method": ["GET"]}}], ` + flow("b") + `}`,
			[]string{`resources[1]: "b" is never taken for this entry: resources[0] ("a") takes its paths first; put this one before it`}},
		{"unlimited entry behind a path", KindHTTP, `{"resources": [{"name": "a", "match": {"path": {"exact": "/b"}}},
			{"name": "free", "unlimited": true, "match": {"path": {"prefix": "/b"}}}], ` + flow("/b/c") + `}`,
			[]string{`resources[0]: "a" is never taken for this entry: resources[1] ("free") takes its paths first; put this one before it`,
				`flowRules[0].resource: rule "x" is never asked: resources[1] ("free") takes "/b/c" first; put an entry for it before that one`}},
		{"entry that takes only some", KindHTTP, `{"resources": [{"name": "o", "match": {"path": {"prefix": "/api"}, "method": ["POST"]}},
			{"name": "p", "match": {"path": {"prefix": "/api/orders/special/x"}}}], ` + flow("/api/orders/special") + `}`, nil},
		{"expression as a path", KindHTTP, `{` + flow("/api/.*") + `}`,
			[]string{`flowRules[0].resource: rule "x" has a resource that looks like a regular expression, and is a path: for paths that begin ` +
				`with /api/ write /api/**, for others an entry of resources with match.path.regex`}},
		{"entry named like a path", KindHTTP, `{"resource_name": "all", "resources": [{"name": "/orders",
			"match": {"method": ["POST"], "path": {"exact": "/orders"}}}], ` + flow("/orders") + `}`,
			[]string{`flowRules[0].resource: rule "x" is for what the entry "/orders" of resources matches, which is not all of that path: ` +
				`the rest is another resource; give the entry another name to have a rule on the path, too`}},
		{"entry named like its path", KindHTTP, `{"resources": [{"name": "/orders", "match": {"path": {"prefix": "/orders"}}}], ` + flow("/orders") + `}`, nil},
		{"parameters of a segment", KindHTTP, `{"resources": [{"name": "a", "match": {"path": {"regex": "/a;v=[12]"}}}]}`,
			[]string{`resources[0].match.path.regex: no path has a semicolon: paths are matched without the parameters of their segments`}},
		{"fraction", KindVM, `{"flowRules": [{"id": "x", "resource": "r", "threshold": 0.5}, {"resource": "r", "threshold": 0.00000001},
			{"id": "y", "resource": "r", "threshold": 0.5, "controlBehavior": "Throttling", "maxQueueingTimeMs": 9}, {"id": "z", "resource": "r", "threshold": 0}]}`,
			[]string{`flowRules[0].threshold: rule "x" refuses everything: with Reject a threshold below 1 has no room for a request; ` +
				`for one request in 2 s write threshold 1 and statIntervalInMs 2000`,
				`flowRules[1].threshold: the rule refuses everything: with Reject a threshold below 1 has no room for a request; write 1, or 0 to say so`}},
		{"cost of a cold rule", KindVM, `{"flowRules": [{"id": "x", "resource": "r", "threshold": 99, "tokenCalculateStrategy": "WarmUp", "warmUpPeriodSec": 9,
			"batchCount": 34}, {"id": "y", "resource": "r", "threshold": 99, "tokenCalculateStrategy": "WarmUp", "warmUpPeriodSec": 9, "batchCount": 33}]}`,
			[]string{`flowRules[0].batchCount: rule "x" may never warm up, and then refuses everything: an entry takes more than the threshold of a cold rule, ` +
				`which is threshold / warmUpColdFactor; write less, or a larger threshold`}},
		{"cost with memory", KindVM, `{"system_source": {"cluster": "n", "path": "/m"}, "flowRules": [{"id": "x", "resource": "r", "batchCount": 21,
			"tokenCalculateStrategy": "MemoryAdaptive", "lowMemUsageThreshold": 20, "highMemUsageThreshold": 5, "memLowWaterMarkBytes": 1,
			"memHighWaterMarkBytes": 2}]}`,
			[]string{`flowRules[0].batchCount: rule "x" refuses everything: an entry takes more than the threshold; write less, or a larger threshold`}},
		{"cost by an upstream's attribute", KindHTTP, `{"resource_name": "r", "flowRules": [{"id": "x", "resource": "r", "threshold": 9,
			"batchCount": {"from": "Property", "name": "upstream.port", "max": 3}}]}`,
			[]string{`flowRules[0].batchCount.name: "upstream.port" is known only in a filter of an upstream`}},
		{"upstream's attribute", KindHTTP, `{"resource_name": "r", "hotspotRules": [{"id": "x", "resource": "r", "threshold": 1, "paramSource": "Property",
			"paramKey": "upstream.address"}]}`,
			[]string{`hotspotRules[0].paramKey: rule "x": "upstream.address" is known only in a filter of an upstream`}},
		{"network of a header", KindVM, `{"hotspotRules": [{"id": "x", "resource": "r", "threshold": 1, "paramSource": "Header", "paramKey": "h",
			"specificItems": [{"valStr": "10.0.0.0/8", "valKind": 1, "threshold": 1}]}]}`,
			[]string{`hotspotRules[0].specificItems[0].valStr: rule "x" compares "10.0.0.0/8" as text: networks are for the paramSource SourceAddress, or a valPattern with cidr`}},
		{"relation to nothing here", KindHTTP, `{"resource_name": "r", "flowRules": [{"id": "x", "resource": "r", "threshold": 1, "relationStrategy": 1,
			"refResource": "q"}]}`,
			[]string{`flowRules[0].refResource: rule "x" acts only on what another filter takes for "q": nothing here is that resource`}},
		{"a time to wait with Reject", KindVM, `{"flowRules": [{"id": "x", "resource": "r", "threshold": 1, "maxQueueingTimeMs": 9},
			{"resource": "r", "threshold": 1, "maxQueueingTimeMs": 9, "controlBehavior": 1}, {"resource": "r", "count": 1, "maxQueueingTimeMs": 500, "grade": 1}],
			"hotspotRules": [{"id": "y", "resource": "r", "threshold": 1, "paramSource": "Host", "maxQueueingTimeMs": 9}]}`,
			[]string{`flowRules[0].maxQueueingTimeMs: rule "x": has no effect with controlBehavior Reject, with which nobody waits; write Throttling, or leave it out`,
				`hotspotRules[0].maxQueueingTimeMs: rule "y": has no effect with controlBehavior Reject, with which nobody waits; write Throttling, or leave it out`}},
		{"nothing odd", KindHTTP, `{"resource_name": "r", "flowRules": [{"resource": "/users/{id}", "threshold": 1}, {"resource": "/users/**", "threshold": 1},
			{"resource": "r|/users/.*", "regex": true, "threshold": 2}, {"resource": "/a b", "threshold": 1}]}`, nil},
	} {
		if got := warningsOf(t, c.kind, c.doc); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s\ngot:\n%s\nwant:\n%s", c.name, strings.Join(got, "\n"), strings.Join(c.want, "\n"))
		}
	}
}

func TestWarningsAreBounded(t *testing.T) {
	var rules []string
	for i := range 200 {
		rules = append(rules, fmt.Sprintf(`{"id": "%d", "resource": "r", "threshold": 0.5}`, i))
	}
	if got := warningsOf(t, KindVM, `{"flowRules": [`+strings.Join(rules, ",")+`]}`); len(got) != maxErrors {
		t.Errorf("%d warnings", len(got))
	}
}

// Looking for rules that sleep costs no more for many rules behind many entries.
func BenchmarkManyRulesBehindManyEntries(b *testing.B) {
	var entries, rules []string
	for i := range maxEntries {
		entries = append(entries, fmt.Sprintf(`{"name": "e%d", "match": {"path": {"regex": "/[a-z]*/%d"}}}`, i, i))
	}
	for i := range MaxRules {
		rules = append(rules, fmt.Sprintf(`{"resource": "/a/b/%d", "threshold": 1}`, i))
	}
	doc := []byte(`{"resources": [` + strings.Join(entries, ",") + `], "flowRules": [` + strings.Join(rules, ",") + `]}`)
	for b.Loop() {
		if _, err := Parse(doc, KindHTTP); err != nil {
			b.Fatal(err)
		}
	}
}
