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
	{"families", `{"degradeRules": [], "paramFlowRules": []}`,
		[]string{`degradeRules: unknown key; write circuitBreakerRules; the rules in it may stay as they are`,
			`paramFlowRules: unknown key; write hotspotRules; the rules in it may stay as they are`},
		`{"circuitBreakerRules": [], "hotspotRules": []}`},
	{"items of a parameter", `{"hotspotRules": [{"resource": "item", "threshold": 6, "paramSource": "Host",
		"specificItems": [{"object": "12", "count": 60, "classType": "int"}]}]}`, []string{
		`hotspotRules[0].specificItems[0].object: unknown key; write valStr`,
		`hotspotRules[0].specificItems[0].count: unknown key; write threshold`,
		`hotspotRules[0].specificItems[0].classType: unknown key; write valKind: 0 for int, long and byte, 1 for String and char, ` +
			`2 for boolean, 3 for double and float`,
		`hotspotRules[0].specificItems[0].valStr: missing`, `hotspotRules[0].specificItems[0].threshold: missing`},
		`{"hotspotRules": [{"resource": "item", "threshold": 6, "paramSource": "Host",
		"specificItems": [{"valStr": "12", "threshold": 60, "valKind": 0}]}]}`},

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
