package config

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"sentinel-envoy/shared/rule"
)

// javaCases are documents of Java Sentinel and its dashboard, and what they are in our own words.
var javaCases = []struct{ name, java, own string }{
	{"flow", `{"flowRules": [{"resource": "checkout", "limitApp": "default", "grade": 1, "count": 12.0, "strategy": 1,
		"refResource": "pay", "controlBehavior": 0, "warmUpPeriodSec": 10, "maxQueueingTimeMs": 500, "clusterMode": false,
		"clusterConfig": {"thresholdType": 0}, "regex": false}]}`,
		`{"flowRules": [{"resource": "checkout", "threshold": 12, "relationStrategy": 1, "refResource": "pay"}]}`},
	{"flow with its defaults", `{"flowRules": [{"resource": "a", "count": 3}]}`, `{"flowRules": [{"resource": "a", "threshold": 3}]}`},
	{"flow that warms up", `{"flowRules": [{"controlBehavior": 1, "warmUpPeriodSec": 8, "resource": "search", "count": 30}]}`,
		`{"flowRules": [{"tokenCalculateStrategy": 1, "warmUpPeriodSec": 8, "resource": "search", "threshold": 30}]}`},
	{"flow that queues", `{"flowRules": [{"resource": "search", "count": 30, "controlBehavior": 2, "warmUpPeriodSec": null}]}`,
		`{"flowRules": [{"resource": "search", "threshold": 30, "controlBehavior": 1, "maxQueueingTimeMs": 500}]}`},
	{"flow that warms up and queues", `{"flowRules": [{"resource": "search", "count": 30, "controlBehavior": 3, "maxQueueingTimeMs": 20}]}`,
		`{"flowRules": [{"resource": "search", "threshold": 30, "tokenCalculateStrategy": 1, "controlBehavior": 1,
		"warmUpPeriodSec": 10, "maxQueueingTimeMs": 20}]}`},
	{"flow of the dashboard", `{"flowRules": [{"id": 7, "app": "shop", "ip": "10.0.0.9", "port": 8719, "resource": "cart",
		"count": 3, "gmtCreate": 1700000000000, "gmtModified": null, "refResource": "x", "warmUpPeriodSec": null}]}`,
		`{"flowRules": [{"resource": "cart", "threshold": 3}]}`},
	{"flow by threads", `{"flowRules": [{"resource": "cart", "grade": 0, "count": 5}, {"resource": "b", "grade": 0, "count": 0}]}`,
		`{"isolationRules": [{"resource": "cart", "threshold": 5}], "flowRules": [{"resource": "b", "threshold": 0}]}`},
	{"flow by an expression", `{"flowRules": [{"resource": "a.*", "regex": true, "count": 5}, {"resource": "ab", "count": 1}]}`,
		`{"flowRules": [{"resource": "a.*", "regex": true, "threshold": 5}, {"resource": "ab", "threshold": 1}]}`},

	// Java Sentinel opens above its threshold, we at it.
	{"degrade", `{"circuitBreakerRules": [{"resource": "stock", "limitApp": "default", "grade": 0, "count": 250, "timeWindow": 4,
		"slowRatioThreshold": 0.4}]}`,
		`{"circuitBreakerRules": [{"resource": "stock", "strategy": 0, "maxAllowedRtMs": 250, "retryTimeoutMs": 4000,
		"threshold": 0.40000002, "minRequestAmount": 5, "statIntervalMs": 1000}]}`},
	{"degrade with its defaults", `{"circuitBreakerRules": [{"resource": "stock", "count": 20.6, "timeWindow": 4}]}`,
		`{"circuitBreakerRules": [{"resource": "stock", "strategy": 0, "maxAllowedRtMs": 21, "retryTimeoutMs": 4000,
		"threshold": 1, "minRequestAmount": 5, "statIntervalMs": 1000}]}`},
	{"degrade by ratio", `{"circuitBreakerRules": [{"resource": "stock", "grade": 1, "count": 0.5, "timeWindow": 1, "slowRatioThreshold": null}]}`,
		`{"circuitBreakerRules": [{"resource": "stock", "strategy": 1, "threshold": 0.50000002, "retryTimeoutMs": 1000,
		"minRequestAmount": 5, "statIntervalMs": 1000}]}`},
	{"degrade by errors", `{"circuitBreakerRules": [{"resource": "stock", "grade": 2, "count": 15, "timeWindow": 1,
		"minRequestAmount": 9, "statIntervalMs": 60000}]}`,
		`{"circuitBreakerRules": [{"resource": "stock", "strategy": 2, "threshold": 16, "retryTimeoutMs": 1000,
		"minRequestAmount": 9, "statIntervalMs": 60000}]}`},

	{"parameter flow", `{"hotspotRules": [{"resource": "item", "paramIdx": 2, "grade": 1, "count": 6, "durationInSec": 2, "burstCount": 1,
		"controlBehavior": 2, "maxQueueingTimeMs": 40, "paramSource": "PathSegment", "paramIndex": 2,
		"paramFlowItemList": [{"object": "sale", "count": 60, "classType": "java.lang.String"}, {"object": "7", "count": 8, "classType": "int"}]}]}`,
		`{"hotspotRules": [{"resource": "item", "paramIndex": 2, "metricType": 1, "threshold": 6, "durationInSec": 2, "burstCount": 1,
		"controlBehavior": 1, "maxQueueingTimeMs": 40, "paramSource": "PathSegment", "specificItems": [
		{"valStr": "sale", "threshold": 60, "valKind": 1}, {"valStr": "7", "threshold": 8, "valKind": 0}]}]}`},
	{"parameter flow with its defaults", `{"hotspotRules": [{"resource": "item", "paramIdx": 0, "count": 6, "controlBehavior": 1}],
		"arguments": [{"resource": "other", "paramIdx": 0, "paramSource": "Host"}, {"paramIdx": 1, "paramSource": "Host"},
		{"resource": "item", "paramIdx": 0, "paramSource": "Header", "paramKey": "x-user"}]}`,
		`{"hotspotRules": [{"resource": "item", "metricType": 1, "threshold": 6, "durationInSec": 1, "paramSource": "Header", "paramKey": "x-user"}]}`},
	{"parameter flow of the dashboard", `{"arguments": [{"paramIdx": 0, "paramSource": "Host"}], "hotspotRules": [
		{"id": 3, "app": "shop", "gmtCreate": null, "rule": {"id": null, "resource": "item", "count": 1, "paramIdx": 0, "grade": 0, "clusterConfig": null}}]}`,
		`{"hotspotRules": [{"resource": "item", "threshold": 1, "metricType": 0, "durationInSec": 1, "paramSource": "Host"}]}`},

	// As users have posted them in Sentinel#451, Sentinel#3113 and spring-cloud-alibaba#771.
	{"degrade of 1.4", `{"circuitBreakerRules": [{"app": "p", "count": 5.0, "cut": false, "grade": 2, "key": "1548378133752", "limitApp": "default",
		"passCount": 0, "resource": "s", "timeWindow": 10}]}`,
		`{"circuitBreakerRules": [{"resource": "s", "strategy": "ErrorCount", "threshold": 6, "retryTimeoutMs": 10000, "minRequestAmount": 5, "statIntervalMs": 1000}]}`},
	{"parameter flow in Nacos", `{"arguments": [{"paramIdx": 0, "paramSource": "Host"}], "hotspotRules": [{"app": "promise-service", "gmtCreate": 1683127862800,
		"gmtModified": 1683129314950, "id": 3, "ip": "192.168.0.101", "port": 8720, "rule": {"burstCount": 0, "clusterConfig": {"fallbackToLocalWhenFail": true,
		"sampleCount": 10, "thresholdType": 0, "windowIntervalMs": 1000}, "clusterMode": false, "controlBehavior": 0, "count": 2.0, "durationInSec": 5,
		"grade": 1, "limitApp": "default", "maxQueueingTimeMs": 0, "paramFlowItemList": [], "paramIdx": 0, "resource": "paramFlow1"}}]}`,
		`{"hotspotRules": [{"resource": "paramFlow1", "metricType": "QPS", "threshold": 2, "durationInSec": 5, "paramSource": "Host"}]}`},
	{"parameter flow with an item", `{"arguments": [{"paramIdx": 1, "paramSource": "PathSegment", "paramIndex": 1}], "hotspotRules": [{"resource": "/shares/1", "limitApp": "default",
		"grade": 1, "paramIdx": 1, "count": 0.0, "controlBehavior": 0, "maxQueueingTimeMs": 0, "burstCount": 0, "durationInSec": 1,
		"paramFlowItemList": [{"object": "1", "count": 1, "classType": "int"}], "clusterMode": false, "clusterConfig": {"flowId": null, "thresholdType": 0}}]}`,
		`{"hotspotRules": [{"resource": "/shares/1", "metricType": "QPS", "threshold": 0, "durationInSec": 1, "paramSource": "PathSegment", "paramIndex": 1,
		"specificItems": [{"valKind": 0, "valStr": "1", "threshold": 1}]}]}`},

	{"system", `{"system_source": {"cluster": "node"},
		"systemRules": [{"highestSystemLoad": 3.5, "avgRt": 80, "maxThread": 9, "qps": 900.5, "highestCpuUsage": 0.7}]}`,
		`{"system_source": {"cluster": "node"}, "systemRules": [{"metricType": 0, "triggerCount": 3.5, "strategy": 1},
		{"metricType": 1, "triggerCount": 80}, {"metricType": 2, "triggerCount": 10}, {"metricType": 3, "triggerCount": 900},
		{"metricType": 4, "triggerCount": 0.7}]}`},
	{"system with one figure", `{"systemRules": [{"id": 2, "app": "shop", "highestSystemLoad": -1, "avgRt": -1, "maxThread": -1, "qps": 9, "highestCpuUsage": null, "regex": false}]}`,
		`{"systemRules": [{"metricType": 3, "triggerCount": 9}]}`},
}

// A document of Java Sentinel is the rules that it means, each with the name that ours of the same content has.
func TestJavaDocuments(t *testing.T) {
	for _, c := range javaCases {
		t.Run(c.name, func(t *testing.T) {
			java, err := Parse([]byte(c.java), KindVM)
			if err != nil {
				t.Fatal(err)
			}
			own, err := Parse([]byte(c.own), KindVM)
			if err != nil {
				t.Fatal(err)
			}
			if len(java.Rules) != len(own.Rules) {
				t.Fatalf("%d rules, want %d", len(java.Rules), len(own.Rules))
			}
			for _, r := range java.Rules {
				if !slices.ContainsFunc(own.Rules, func(o rule.Rule) bool { return reflect.DeepEqual(r, o) }) {
					t.Errorf("got %+v, want one of %+v", r, own.Rules[0])
				}
			}
			if java.RuleHash != own.RuleHash {
				t.Error("the hashes differ")
			}
		})
	}
}

// What has no meaning here is said at its place, in the words of the document.
func TestJavaMistakes(t *testing.T) {
	for doc, want := range map[string]string{
		`{"flowRules": [{"resource": "a", "count": 1, "threshold": 2}]}`: `flowRules[0].threshold: does not go with count, which is ` +
			`Java Sentinel's: write the rule in its words or in ours`,
		`{"flowRules": [{"resource": "a", "count": -1}]}`:                           `flowRules[0].count: must be ≥ 0, got -1`,
		`{"flowRules": [{"resource": "a", "grade": 1}]}`:                            `flowRules[0].count: missing`,
		`{"flowRules": [{"resource": "a", "count": 1, "controlBehavior": 4}]}`:      `flowRules[0].controlBehavior: must be ≤ 3, got 4`,
		`{"flowRules": [{"resource": "a", "count": 0, "controlBehavior": 1}]}`:      `flowRules[0].count: must be > 0 with WarmUp`,
		`{"flowRules": [{"resource": "a", "count": 1, "clusterMode": true}]}`:       `flowRules[0].clusterMode: needs a rate_limit_service in the same configuration`,
		`{"flowRules": [{"id": 7, "resource": "a", "threshold": 1}]}`:               `flowRules[0].id: must be a string, got 7; write it in quotes`,
		`{"flowRules": [{"resource": "a", "count": 1, "strategy": 1}]}`:             `flowRules[0].refResource: must not be empty with AssociatedResource`,
		`{"flowRules": [{"resource": "a", "count": 1, "grade": 0, "strategy": 1}]}`: `flowRules[0].strategy: must be 0 with grade 0: the threads of another resource are not counted here`,
		`{"flowRules": [{"resource": "a", "count": 1, "strategy": 2}]}`: `flowRules[0].strategy: 2 (chain): a request here has no call chain; ` +
			`give what comes that way a resource of its own`,
		`{"circuitBreakerRules": [{"resource": "a", "count": 1}]}`: `circuitBreakerRules[0].timeWindow: missing`,
		`{"circuitBreakerRules": [{"resource": "a", "grade": 1, "count": 1.5, "timeWindow": 1}]}`: `circuitBreakerRules[0].count: ` +
			`must be from 0 to 1 with grade 1`,
		`{"circuitBreakerRules": [{"resource": "a", "count": 1.5, "slowRatioThreshold": 1.5, "timeWindow": 1}]}`: `circuitBreakerRules[0].slowRatioThreshold: ` +
			`must be from 0 to 1 with grade 0`,
		`{"hotspotRules": [{"resource": "a", "count": 1}]}`: `hotspotRules[0].paramIdx: missing`,
		`{"hotspotRules": [{"resource": "a", "count": 1, "paramIdx": 0}]}`: `hotspotRules[0].paramSource: missing: which parameter of a request is argument 0? ` +
			`Say it for all such rules in arguments, as {"resource": "a", "paramIdx": 0, "paramSource": "Header", "paramKey": "x-user"}, ` +
			`or in the rule by paramSource and paramKey`,
		`{"hotspotRules": [{"resource": "a", "count": 1, "paramIdx": 0, "paramSource": "Host", "paramFlowItemList": [{"object": "x", "count": 1, "classType": "int"}]}]}`: `hotspotRules[0].paramFlowItemList[0].object: must be a KindInt, got "x"`,
		`{"systemRules": [{"highestCpuUsage": 70}]}`:              `systemRules[0].highestCpuUsage: must be from 0 to 1`,
		`{"systemRules": [{"highestCpuUsage": 0.7}]}`:             `systemRules[0].highestCpuUsage: cpuUsage` + invisible,
		`{"systemRules": [{"qps": 70, "triggerCount": 3}]}`:       `systemRules[0].triggerCount: does not go with qps, which is Java Sentinel's: write the rule in its words or in ours`,
		`{"arguments": [{"paramIdx": 0}]}`:                        `arguments[0].paramSource: missing; say where the parameter comes from: Header, Query, Cookie, PathSegment, Host, SourceAddress, SNI or Property`,
		`{"arguments": [{"paramSource": "Host"}]}`:                `arguments[0].paramIdx: missing`,
		`{"flowRules": [{"rule": {"rule": {"resource": "a"}}}]}`:  "flowRules[0].rule.rule: unknown key\nflowRules[0].resource: missing\nflowRules[0].threshold: missing",
		`{"flowRules": [{"app": 1, "rule": 3, "resource": "a"}]}`: "flowRules[0].rule: unknown key\nflowRules[0].threshold: missing",
		`{"app": "x"}`: `app: unknown key`,
		`{"flowRules": [{"resource": "a", "count": "20"}]}`:                                 `flowRules[0].count: must be a number, got the string "20"`,
		`{"flowRules": [{"resource": "a", "count": 1, "paramItem": {"parseStrategy": 0}}]}`: `flowRules[0].paramItem: unknown key; ` + gateway,
	} {
		if got := strings.Join(mistakesOf(t, KindVM, doc), "\n"); got != want {
			t.Errorf("%s\ngot  %s\nwant %s", doc, got, want)
		}
	}
}

// Java Sentinel has no use for a second rule of the same content, and its users' documents have some.
func TestJavaDoublesAreLeftOut(t *testing.T) {
	cfg, err := Parse([]byte(`{"flowRules": [{"resource": "a", "count": 1}, {"id": 4, "resource": "a", "count": 1.0}, {"resource": "a", "count": 2}]}`), KindVM)
	if err != nil || len(cfg.Rules) != 2 || len(cfg.Warnings) != 1 || cfg.Warnings[0].Path != "flowRules[1]" {
		t.Errorf("%v %+v", err, cfg)
	}
}

// The documents of a source are read as if they stood in the filter's own configuration, beside its own rules or in their place.
func TestParseRules(t *testing.T) {
	own, err := Parse([]byte(`{"resource_name": "shop", "flowRules": [{"resource": "/own", "threshold": 1}, {"id": "mine", "resource": "/own", "threshold": 8}],
		"arguments": [{"paramIdx": 0, "paramSource": "Host"}]}`), KindHTTP)
	if err != nil {
		t.Fatal(err)
	}
	docs := []Document{
		{Name: "flows", Key: "flowRules", Text: []byte(` [{"resource": "shop", "count": 3}] `)},
		{Name: "breakers", Key: "degradeRules", Text: []byte(`[{"resource": "/a", "count": 3, "timeWindow": 1}]`)},
		{Name: "params", Key: "paramFlowRules", Format: Java, Text: []byte(`[{"resource": "shop", "count": 3, "paramIdx": 0}]`)},
		{Name: "all", Text: []byte(`{"isolationRules": [{"resource": "shop", "threshold": 3}], "flowRules": [{"id": "mine", "resource": "/own", "threshold": 9}]}`)},
		{Name: "none", Key: "flowRules", Text: []byte(" []\n")},
	}
	got, err := ParseRules(docs, KindHTTP, own)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Rules) != 6 || got.ResourceName != "shop" || got.RuleHash == own.RuleHash || len(own.Rules) != 2 {
		t.Errorf("%+v", got)
	}
}

func TestParseRulesTellsTheDocument(t *testing.T) {
	own := &Config{ResourceName: "shop"}
	for _, c := range []struct {
		doc  Document
		want string
	}{
		{Document{Name: "flows", Key: "flowRules", Text: []byte(`[{"resource": "shop", "count": -3}]`)}, `flows: flowRules[0].count: must be ≥ 0, got -3`},
		{Document{Name: "flows", Key: "flowRules", Text: []byte(`{"resource": "shop"}`)}, `flows: must be a list of rules; for an object with several lists leave rules out`},
		{Document{Name: "flows", Key: "flowRules", Text: []byte("null ")}, `flows: is empty; to have no rules write {}, or [] for one family's list`},
		{Document{Name: "flows", Key: "flowRule", Text: []byte(`[]`)}, `flows: "flowRule" is no family's list`},
		{Document{Name: "flows", Key: "flowRules", Text: []byte(`[`)}, `flows: malformed JSON at line 1, byte 2: expected a value, got the end`},
		{Document{Name: "all", Text: []byte(`[]`)}, `all: must be an object with flowRules or other lists of rules; for a list say in rules which family's it is`},
		{Document{Name: "all", Text: []byte(`{"block": {}}`)}, `all: block: belongs in the filter's configuration; a document has rules only`},
		{Document{Name: "f", Key: "flowRules", Format: Sentinel, Text: []byte(`[{"resource": "shop", "count": 3}]`)},
			"f: flowRules[0].count: is Java Sentinel's; write format java, or leave format out"},
		{Document{Name: "f", Key: "flowRules", Format: Java, Text: []byte(`[{"resource": "shop", "threshold": 3}]`)},
			"f: flowRules[0].threshold: is not Java Sentinel's, which the format is\nf: flowRules[0].count: missing"},
	} {
		_, err := ParseRules([]Document{c.doc}, KindHTTP, own)
		var list Errors
		if errors.As(err, &list); err == nil || err.Error() != c.want {
			t.Errorf("%s\ngot  %v\nwant %s", c.doc.Text, err, c.want)
		}
	}
}

// Two documents may not use one id for two rules.
func TestParseRulesTakesDocumentsAsOne(t *testing.T) {
	docs := []Document{
		{Name: "a", Key: "flowRules", Text: []byte(`[{"id": "x", "resource": "/a", "threshold": 3}]`)},
		{Name: "b", Key: "flowRules", Text: []byte(`[{"id": "x", "resource": "/a", "threshold": 4}]`)},
	}
	if _, err := ParseRules(docs, KindHTTP, &Config{}); err == nil || err.Error() != `b: flowRules[0].id: "x" is the id of a: flowRules[0] already` {
		t.Error(err)
	}
}

// What a filter does not know is for another filter that has the document, too.
func TestParseRulesWarnsOfWhatIsNotHere(t *testing.T) {
	docs := []Document{{Name: "flows", Key: "flowRules", Text: []byte(`[{"id": "far", "resource": "nowhere", "count": 3}]`)}}
	cfg, err := ParseRules(docs, KindHTTP, &Config{ResourceName: "shop"})
	if err != nil || len(cfg.Warnings) != 1 || cfg.Warnings[0].Path != "flows: flowRules[0].resource" {
		t.Errorf("%v %+v", err, cfg)
	}
}
