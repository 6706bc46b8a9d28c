package config

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// foreignCases are documents of other Sentinels, everything that is said of them, and what they are when all of it is done.
var foreignCases = []struct {
	name, doc string
	want      []string
	corrected string
}{
	{"flow", `{"flowRules": [{"resource": "checkout", "limitApp": "default", "grade": 1, "count": 12.0, "strategy": 1,
		"refResource": "pay", "controlBehavior": 0, "warmUpPeriodSec": 10, "maxQueueingTimeMs": 500, "clusterMode": false,
		"clusterConfig": {"thresholdType": 0}, "regex": false}]}`, []string{
		`flowRules[0].limitApp: unknown key; leave it out: to limit one caller, give its traffic a resource of its own`,
		`flowRules[0].grade: unknown key; leave it out if it is 1 (QPS); if it is 0 (threads), write resource and threshold in isolationRules`,
		`flowRules[0].count: unknown key; write threshold`,
		`flowRules[0].strategy: unknown key; write relationStrategy, 0 or 1; 2 (chain) is not supported: a request here has no call chain`,
		`flowRules[0].clusterMode: unknown key; leave it out: a limit over several Envoys is for Envoy's rate limit service`,
		`flowRules[0].clusterConfig: unknown key; leave it out: a limit over several Envoys is for Envoy's rate limit service`,
		`flowRules[0].threshold: missing`},
		`{"flowRules": [{"resource": "checkout", "threshold": 12.0, "relationStrategy": 1, "refResource": "pay",
		"controlBehavior": 0, "warmUpPeriodSec": 10, "maxQueueingTimeMs": 500, "regex": false}]}`},
	// Java's warm up has the number of Throttling here, and would load as that.
	{"flow that warms up", `{"flowRules": [{"controlBehavior": 1, "warmUpPeriodSec": 8, "resource": "search", "count": 30}]}`, []string{
		`flowRules[0].count: unknown key; write threshold`,
		`flowRules[0]: controlBehavior differs from Java Sentinel's: for 1 (warm up) write tokenCalculateStrategy 1 instead, ` +
			`for 2 (rate limiter) controlBehavior 1, for 3 both; the defaults there are warmUpPeriodSec 10 and maxQueueingTimeMs 500`,
		`flowRules[0].threshold: missing`},
		`{"flowRules": [{"tokenCalculateStrategy": 1, "warmUpPeriodSec": 8, "resource": "search", "threshold": 30}]}`},
	{"flow that warms up and queues", `{"flowRules": [{"resource": "search", "count": 30, "controlBehavior": 3}]}`, []string{
		`flowRules[0].count: unknown key; write threshold`,
		`flowRules[0].controlBehavior: must be 0 (Reject) or 1 (Throttling), got 3`,
		`flowRules[0]: controlBehavior differs from Java Sentinel's: for 1 (warm up) write tokenCalculateStrategy 1 instead, ` +
			`for 2 (rate limiter) controlBehavior 1, for 3 both; the defaults there are warmUpPeriodSec 10 and maxQueueingTimeMs 500`,
		`flowRules[0].threshold: missing`},
		`{"flowRules": [{"resource": "search", "threshold": 30, "tokenCalculateStrategy": 1, "controlBehavior": 1,
		"warmUpPeriodSec": 10, "maxQueueingTimeMs": 500}]}`},
	{"flow of the dashboard", `{"flowRules": [{"id": 7, "app": "shop", "ip": "10.0.0.9", "port": 8719, "resource": "cart",
		"count": 3, "gmtCreate": 1700000000000, "gmtModified": null}]}`, []string{
		`flowRules[0].id: must be a string, got 7`,
		`flowRules[0].app: unknown key; leave it out: it is the dashboard's own`,
		`flowRules[0].ip: unknown key; leave it out: it is the dashboard's own`,
		`flowRules[0].port: unknown key; leave it out: it is the dashboard's own`,
		`flowRules[0].count: unknown key; write threshold`,
		`flowRules[0].gmtCreate: unknown key; leave it out: it is the dashboard's own`,
		`flowRules[0].gmtModified: unknown key; leave it out: it is the dashboard's own`,
		`flowRules[0].threshold: missing`},
		`{"flowRules": [{"id": "7", "resource": "cart", "threshold": 3}]}`},
	{"flow by threads", `{"isolationRules": [{"resource": "cart", "grade": 0, "count": 5}]}`, []string{
		`isolationRules[0].grade: unknown key; leave it out`, `isolationRules[0].count: unknown key; write threshold`,
		`isolationRules[0].threshold: missing`},
		`{"isolationRules": [{"resource": "cart", "threshold": 5}]}`},

	{"degrade", `{"circuitBreakerRules": [{"resource": "stock", "limitApp": "default", "grade": 0, "count": 250, "timeWindow": 4,
		"slowRatioThreshold": 0.4}]}`, []string{
		`circuitBreakerRules[0].limitApp: unknown key; leave it out: to limit one caller, give its traffic a resource of its own`,
		`circuitBreakerRules[0].grade: unknown key; write strategy, with the same value`,
		`circuitBreakerRules[0].count: unknown key; write threshold; if grade is 0 (slow calls), write maxAllowedRtMs`,
		`circuitBreakerRules[0].timeWindow: unknown key; write retryTimeoutMs, in milliseconds: 1000 times as much`,
		`circuitBreakerRules[0].slowRatioThreshold: unknown key; write threshold if grade is 0 (slow calls); otherwise leave it out`,
		`circuitBreakerRules[0].minRequestAmount: missing; Java Sentinel's default is 5`,
		`circuitBreakerRules[0].statIntervalMs: missing; Java Sentinel's default is 1000`,
		`circuitBreakerRules[0].retryTimeoutMs: missing`, `circuitBreakerRules[0].threshold: missing`},
		`{"circuitBreakerRules": [{"resource": "stock", "strategy": 0, "maxAllowedRtMs": 250, "retryTimeoutMs": 4000,
		"threshold": 0.4, "minRequestAmount": 5, "statIntervalMs": 1000}]}`},
	{"degrade by errors", `{"circuitBreakerRules": [{"resource": "stock", "grade": 2, "count": 15, "timeWindow": 1,
		"minRequestAmount": 9, "statIntervalMs": 60000}]}`, []string{
		`circuitBreakerRules[0].grade: unknown key; write strategy, with the same value`,
		`circuitBreakerRules[0].count: unknown key; write threshold; if grade is 0 (slow calls), write maxAllowedRtMs`,
		`circuitBreakerRules[0].timeWindow: unknown key; write retryTimeoutMs, in milliseconds: 1000 times as much`,
		`circuitBreakerRules[0].retryTimeoutMs: missing`, `circuitBreakerRules[0].threshold: missing`},
		`{"circuitBreakerRules": [{"resource": "stock", "strategy": 2, "threshold": 15, "retryTimeoutMs": 1000,
		"minRequestAmount": 9, "statIntervalMs": 60000}]}`},

	{"parameter flow", `{"hotspotRules": [{"resource": "item", "paramIdx": 2, "grade": 1, "count": 6, "durationInSec": 2, "burstCount": 1,
		"controlBehavior": 2, "maxQueueingTimeMs": 40, "paramFlowItemList": [{"object": "sale", "count": 60, "classType": "java.lang.String"}]}]}`,
		[]string{
			`hotspotRules[0].paramIdx: unknown key; write paramIndex`,
			`hotspotRules[0].grade: unknown key; write metricType, with the same value`,
			`hotspotRules[0].count: unknown key; write threshold`,
			`hotspotRules[0].controlBehavior: must be 0 (Reject) or 1 (Throttling), got 2`,
			`hotspotRules[0].paramFlowItemList: unknown key; write specificItems; of each item, classType becomes valKind, ` +
				`object valStr and count threshold`,
			`hotspotRules[0].metricType: missing; Java Sentinel's default is 1 (QPS)`,
			`hotspotRules[0]: controlBehavior differs from Java Sentinel's: for 1 (warm up) write 0, as it rejects there, for 2 (rate limiter) 1`,
			`hotspotRules[0].threshold: missing`,
			`hotspotRules[0].paramSource: missing; say where the parameter comes from: Header, Query, Cookie, PathSegment, Host, ` +
				`SourceAddress, SNI or Property`},
		`{"hotspotRules": [{"resource": "item", "paramIndex": 2, "metricType": 1, "threshold": 6, "durationInSec": 2, "burstCount": 1,
		"controlBehavior": 1, "maxQueueingTimeMs": 40, "paramSource": "PathSegment", "specificItems": [{"valStr": "sale", "threshold": 60, "valKind": 1}]}]}`},
	{"items of a parameter", `{"hotspotRules": [{"resource": "item", "threshold": 6, "paramSource": "Host",
		"specificItems": [{"object": "12", "count": 60, "classType": "int"}]}]}`, []string{
		`hotspotRules[0].specificItems[0].object: unknown key; write valStr`,
		`hotspotRules[0].specificItems[0].count: unknown key; write threshold`,
		`hotspotRules[0].specificItems[0].classType: unknown key; write valKind: 0 for int, long and byte, 1 for String and char, ` +
			`2 for boolean, 3 for double and float`,
		`hotspotRules[0].specificItems[0].valStr: missing`, `hotspotRules[0].specificItems[0].threshold: missing`},
		`{"hotspotRules": [{"resource": "item", "threshold": 6, "paramSource": "Host",
		"specificItems": [{"valStr": "12", "threshold": 60, "valKind": 0}]}]}`},
	{"parameter flow of the dashboard", `{"hotspotRules": [{"app": "shop", "rule": {"resource": "item", "count": 1}}]}`, []string{
		`hotspotRules[0].app: unknown key; leave it out: it is the dashboard's own`,
		`hotspotRules[0].rule: unknown key; write its content in its place`,
		`hotspotRules[0].metricType: missing; Java Sentinel's default is 1 (QPS)`,
		`hotspotRules[0].durationInSec: missing; Java Sentinel's default is 1`,
		`hotspotRules[0].resource: missing`, `hotspotRules[0].threshold: missing`,
		`hotspotRules[0].paramSource: missing; say where the parameter comes from: Header, Query, Cookie, PathSegment, Host, ` +
			`SourceAddress, SNI or Property`},
		`{"hotspotRules": [{"resource": "item", "threshold": 1, "metricType": 1, "durationInSec": 1, "paramSource": "Host"}]}`},

	{"system", `{"systemRules": [{"highestSystemLoad": 3.5, "avgRt": 80, "maxThread": -1, "qps": 900, "highestCpuUsage": 0.7}]}`, []string{
		`systemRules[0].highestSystemLoad: unknown key; write {"metricType": 0, "triggerCount": …, "strategy": 1} as a rule of its own, or nothing if it is negative`,
		`systemRules[0].avgRt: unknown key; write {"metricType": 1, "triggerCount": …} as a rule of its own, or nothing if it is negative`,
		`systemRules[0].maxThread: unknown key; write {"metricType": 2, "triggerCount": …} as a rule of its own, or nothing if it is negative`,
		`systemRules[0].qps: unknown key; write {"metricType": 3, "triggerCount": …} as a rule of its own, or nothing if it is negative`,
		`systemRules[0].highestCpuUsage: unknown key; write {"metricType": 4, "triggerCount": …} as a rule of its own, or nothing if it is negative`,
		`systemRules[0].triggerCount: missing`},
		`{"system_source": {"cluster": "node"}, "systemRules": [{"metricType": 0, "triggerCount": 3.5, "strategy": 1},
		{"metricType": 1, "triggerCount": 80}, {"metricType": 3, "triggerCount": 900}, {"metricType": 4, "triggerCount": 0.7}]}`},

	{"families", `{"degradeRules": [], "paramFlowRules": [], "authorityRules": [{"resource": "admin", "limitApp": "a,b", "strategy": 0}]}`,
		[]string{`degradeRules: unknown key; write circuitBreakerRules`, `paramFlowRules: unknown key; write hotspotRules`,
			`authorityRules: unknown key; not supported: who may call is for Envoy's RBAC filter`},
		`{"circuitBreakerRules": [], "hotspotRules": []}`},

	// What sentinel-golang's own test data holds, as its data sources read it.
	{"sentinel-golang's flow", `{"flowRules": [
		{"resource": "r", "threshold": 7.0, "relationStrategy": 0, "tokenCalculateStrategy": 0, "controlBehavior": 0,
		 "refResource": "other", "warmUpPeriodSec": 4, "maxQueueingTimeMs": 90, "statIntervalInMs": 0},
		{"resource": "r", "threshold": 8.0, "relationStrategy": 1, "tokenCalculateStrategy": 0, "controlBehavior": 1,
		 "refResource": "other", "warmUpPeriodSec": 5, "maxQueueingTimeMs": 91, "statIntervalInMs": 0}]}`, nil, ""},
	{"sentinel-golang's breakers", `{"circuitBreakerRules": [
		{"resource": "r", "strategy": 0, "retryTimeoutMs": 6, "minRequestAmount": 2, "statIntervalMs": 500, "maxAllowedRtMs": 70, "threshold": 0.3},
		{"resource": "r", "strategy": 1, "retryTimeoutMs": 7, "minRequestAmount": 3, "statIntervalMs": 600, "threshold": 0.6},
		{"resource": "r", "strategy": 2, "retryTimeoutMs": 8, "minRequestAmount": 4, "statIntervalMs": 700, "threshold": 9}]}`, nil, ""},
	{"sentinel-golang's isolation", `{"isolationRules": [{"Resource": "r", "MetricType": 0, "Threshold": 44}]}`, []string{
		`isolationRules[0].Resource: unknown key; did you mean resource?`,
		`isolationRules[0].MetricType: unknown key; did you mean metricType?`,
		`isolationRules[0].Threshold: unknown key; did you mean threshold?`,
		`isolationRules[0].resource: missing`, `isolationRules[0].threshold: missing`},
		`{"isolationRules": [{"resource": "r", "metricType": 0, "threshold": 44}]}`},
	{"sentinel-golang's hotspots", `{"hotspotRules": [{"resource": "r", "metricType": 1, "controlBehavior": 1, "paramIndex": 3,
		"threshold": 21, "maxQueueingTimeMs": 5, "burstCount": 2, "durationInSec": 6, "paramsMaxCapacity": 300, "specificItems": [
		{"valKind": 0, "valStr": "31", "threshold": 32}, {"valKind": 1, "valStr": "gold", "threshold": 33}, {"valKind": 2, "valStr": "false", "threshold": 34}]}]}`,
		[]string{`hotspotRules[0].paramSource: missing; say where the parameter comes from: Header, Query, Cookie, PathSegment, Host, ` +
			`SourceAddress, SNI or Property`},
		`{"hotspotRules": [{"resource": "r", "metricType": 1, "controlBehavior": 1, "paramIndex": 3, "paramSource": "Query",
		"threshold": 21, "maxQueueingTimeMs": 5, "burstCount": 2, "durationInSec": 6, "paramsMaxCapacity": 300, "specificItems": [
		{"valKind": 0, "valStr": "31", "threshold": 32}, {"valKind": 1, "valStr": "gold", "threshold": 33}, {"valKind": 2, "valStr": "false", "threshold": 34}]}]}`},
	{"sentinel-golang's system", `{"systemRules": [{"metricType": 1, "triggerCount": 0.2, "strategy": 1},
		{"metricType": 2, "triggerCount": 0.3, "strategy": 1}, {"metricType": 3, "triggerCount": 0.4, "strategy": 1},
		{"metricType": 0, "triggerCount": 0.5, "strategy": 1}]}`,
		[]string{`systemRules[3].metricType: load is not visible from inside Envoy: it needs a system_source in the same configuration`},
		`{"system_source": {"cluster": "node"}, "systemRules": [{"metricType": 0, "triggerCount": 0.5, "strategy": 1}]}`},
	{"sentinel-golang's older system", `{"systemRules": [{"id": "5", "metricType": 3, "adaptiveStrategy": 0}]}`,
		[]string{`systemRules[0].adaptiveStrategy: unknown key; write strategy`, `systemRules[0].triggerCount: missing`},
		`{"systemRules": [{"id": "5", "metricType": 3, "strategy": 0, "triggerCount": 1}]}`},
}

func TestDocumentsOfOtherSentinels(t *testing.T) {
	for _, c := range foreignCases {
		t.Run(c.name, func(t *testing.T) {
			if got := mistakesOf(t, KindVM, c.doc); !slices.Equal(got, c.want) {
				t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
			if c.corrected == "" {
				return
			}
			if got := mistakesOf(t, KindVM, c.corrected); len(got) > 0 {
				t.Errorf("with everything changed as told:\n%s", strings.Join(got, "\n"))
			}
		})
	}
}

// A name of another Sentinel is told in its own place only, and never stands in the way of a key that exists.
func TestRenamesAreForUnknownKeys(t *testing.T) {
	for _, r := range renames {
		list := r.list
		if list == anyRule {
			list = "systemRules"
		}
		doc := fmt.Sprintf(`{%q: [{%q: 1}]}`, list, r.key)
		switch r.list {
		case "":
			doc = fmt.Sprintf(`{%q: []}`, r.key)
		case "specificItems":
			doc = fmt.Sprintf(`{"hotspotRules": [{"specificItems": [{%q: 1}]}]}`, r.key)
		}
		kind := KindVM
		if r.list == "resources" {
			kind = KindHTTP
		}
		if got := strings.Join(mistakesOf(t, kind, doc), "\n"); !strings.Contains(got, r.key+": unknown key; "+r.hint) {
			t.Errorf("%s: %s", doc, got)
		}
	}
	got := mistakesOf(t, KindHTTP, `{"count": 1, "block": {"degradeRules": 1}, "resources": [{"name": "a", "match": {"host": "a"}, "grade": 1}]}`)
	if want := []string{"count: unknown key", "block.degradeRules: unknown key", "resources[0].grade: unknown key"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

// docs/sentinel-users.md has the same names as the parser, and says the same of them.
func TestRenamesAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/sentinel-users.md")
	if err != nil {
		t.Fatal(err)
	}
	told := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| (.*) \\| `(\\w+)` \\| (.*) \\|$").FindAllStringSubmatch(string(text), -1) {
		told[m[1]+" "+m[2]+": "+strings.ReplaceAll(m[3], "`", "")] = true
	}
	for _, r := range renames {
		line := documentedList(r.list) + " " + r.key + ": " + r.hint
		if !told[line] {
			t.Errorf("docs/sentinel-users.md lacks: %s", line)
		}
		delete(told, line)
	}
	for line := range told {
		t.Errorf("docs/sentinel-users.md has what the parser does not say: %s", line)
	}
}

func documentedList(list string) string {
	switch list {
	case "":
		return "the document"
	case anyRule:
		return "any rule"
	}
	return "`" + list + "`"
}

// What a rule of our own may leave out stays so: the defaults of Java are asked for in a rule with Java's keys only.
func TestOwnRulesKeepTheirDefaults(t *testing.T) {
	doc := `{"flowRules": [{"resource": "r", "threshold": 1, "controlBehavior": 1}],
		"circuitBreakerRules": [{"resource": "r", "threshold": 1, "retryTimeoutMs": 1, "statIntervalMs": 1}],
		"hotspotRules": [{"resource": "r", "threshold": 1, "controlBehavior": 1, "paramSource": "Host"}]}`
	if got := mistakesOf(t, KindVM, doc); len(got) > 0 {
		t.Errorf("%q", got)
	}
}
