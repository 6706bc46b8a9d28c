package config

import (
	"fmt"
	"strings"
	"testing"

	"sentinel-envoy/shared/rule"
)

// repeated are n texts, with their number in place of %d.
func repeated(n int, format string) string {
	all := make([]string, n)
	for i := range all {
		all[i] = strings.ReplaceAll(format, "%d", fmt.Sprint(i))
	}
	return strings.Join(all, ", ")
}

// What does not fit is refused, with the figure; what just fits is not.
func TestCapacity(t *testing.T) {
	document := func(resources, expressions int, hotspot string) string {
		return `{"resources": [` + repeated(resources, `{"name": "r%d", "match": {"path": {"exact": "/r%d"}}}`) + `],
			"flowRules": [` + repeated(expressions, `{"id": "f%d", "resource": "r.*", "regex": true, "threshold": 1}`) + `],
			"hotspotRules": [` + hotspot + `]}`
	}
	per := func(resource string, capacity int) string {
		return fmt.Sprintf(`{"resource": %q, "regex": true, "metricType": 1, "durationInSec": 1, "threshold": 1,
			"paramSource": "Host", "paramsMaxCapacity": %d}`, resource, capacity)
	}
	const (
		records = "records, one for each rule and each resource that it is for: "
		values  = "paramsMaxCapacity of all hotspot rules, once for each resource that one is for: "
		perHost = `{"id": "h%d", "resource": "r%d", "metricType": 1, "durationInSec": 1, "threshold": 1, "paramSource": "Host"}`
	)
	for name, c := range map[string]struct{ document, want string }{
		"records that fit":           {document(128, 128, ""), ""},
		"records that do not fit":    {document(128, 129, ""), records + "must be ≤ 16384, got 16512"},
		"hotspot rules take none":    {document(300, 54, repeated(200, perHost)), ""},
		"values that fit":            {document(32, 1, per("r.*", 2048)), ""},
		"values that do not fit":     {document(33, 1, per("r.*", 2000)), values + "must be ≤ 65536, got 66000"},
		"more values than there are": {document(1, 1, per("r0", 65537)), "hotspotRules[0].paramsMaxCapacity: must be ≤ 65536, got 65537"},
		"too many to be held against": {document(2048, 500, ""),
			"500 rules with regex, each to be held against 2048 resources: must be ≤ 1000000 in all, got 1024000"},
	} {
		_, err := Parse([]byte(c.document), KindHTTP)
		if got := fmt.Sprint(err); c.want == "" && err != nil || !strings.HasSuffix(got, c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// Rules with one name are numbered in their order, whatever ids others were given; a rule with another threshold keeps
// its id.
func TestRulesWithoutIDs(t *testing.T) {
	for _, c := range []struct{ rules, want string }{
		{`a 1, b 1`, "flow-1000ms-a flow-1000ms-b"},
		{`a 2, b 7`, "flow-1000ms-a flow-1000ms-b"},
		{`a 2, a 1, a 3`, "flow-1000ms-a flow#2-1000ms-a flow#3-1000ms-a"},
		{`a 2 "id": "flow-1000ms-a", a 1`, "flow-1000ms-a flow#2-1000ms-a"},
		{`a 2, a 1 "statIntervalInMs": 10`, "flow-1000ms-a flow-10ms-a"},
		{`a 2, a 1 "controlBehavior": 1`, "flow-1000ms-a flow-1000ms-Throttling-a"},
		{`a 2, a 2 "maxQueueingTimeMs": 5`, "flow-1000ms-a flow#2-1000ms-a"},
		{`a 2 "id": "flow#2-1000ms-a", a 1, a 3`, "flow#2-1000ms-a flow-1000ms-a flow#3-1000ms-a"},
	} {
		var rules []string
		for _, r := range strings.Split(c.rules, ", ") {
			parts := append(strings.SplitN(r, " ", 3), "")
			others := ""
			if parts[2] != "" {
				others = ", " + parts[2]
			}
			rules = append(rules, fmt.Sprintf(`{"resource": %q, "threshold": %s%s}`, parts[0], parts[1], others))
		}
		document, want := strings.Join(rules, ", "), c.want
		cfg, err := Parse([]byte(`{"flowRules": [`+document+`]}`), KindVM)
		if err != nil {
			t.Errorf("%s: %v", document, err)
			continue
		}
		var ids []string
		for _, r := range rule.Of[rule.Flow](cfg.Rules) {
			ids = append(ids, r.ID)
		}
		if got := strings.Join(ids, " "); got != want {
			t.Errorf("%s: ids %s, want %s", document, got, want)
		}
	}
}
