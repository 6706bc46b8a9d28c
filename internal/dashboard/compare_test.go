package dashboard_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"sentinel-envoy/internal/dashboard"
	"sentinel-envoy/internal/envoytest"
	"sentinel-envoy/internal/ruleserver"
)

// TestAnswersAsJava asks a Java process with Sentinel 1.8.9 and this program the same, and compares.
func TestAnswersAsJava(t *testing.T) {
	needsJava(t)
	java := javaAgent(t)
	server := ruleserver.Start(t, "{}")
	envoy := startAdmin(t, `{"resource_name": "busy", "origin": {"from": "Header", "name": "x-app"}, "system_source": {"cluster": "node"},
		"arguments": [{"paramIdx": 0, "paramSource": "Header", "paramKey": "x-user"}], `+source+`}`)
	ours := agent(t, dashboard.Options{Admins: []string{envoy.addr()}, Servers: map[string]string{"rules": "http://" + server.Addr}})[0]
	t.Run("words", func(t *testing.T) { sameWords(t, java, ours) })
	t.Run("rules", func(t *testing.T) { sameRules(t, java, ours) })
	t.Run("figures", func(t *testing.T) { sameFigures(t, java, ours) })
}

// sameWords compares answers that are the same text and status.
func sameWords(t *testing.T, java, ours string) {
	for _, path := range []string{
		"/", "/version", "/getSwitch", "/getClusterMode", "/none", "/gateway/getRules", "/getRules?type=none", "/getRules",
		"/setRules?type=none&data=%5B%5D", "/setParamFlowRules", "/metric", "/clusterNodeById", "/clusterNodeById?id=none",
		"/getRules?type=flow", "/getRules?type=FLOW", "/getParamFlowRules", "/metric?startTime=1&endTime=2&identity=none",
	} {
		if a, b := get(t, java+path), get(t, ours+path); a != b {
			t.Errorf("%s: Java says %v, we %v", path, a, b)
		}
	}
	var theirs, own []map[string]string
	err := json.Unmarshal([]byte(get(t, java+"/api").body), &theirs)
	if err == nil {
		err = json.Unmarshal([]byte(get(t, ours+"/api").body), &own)
	}
	if err != nil || len(own) < 14 {
		t.Fatalf("%v %v", err, own)
	}
	for _, c := range own {
		if !slices.ContainsFunc(theirs, func(j map[string]string) bool { return maps.Equal(c, j) }) {
			t.Errorf("Java has no command %v", c)
		}
	}
}

// sameRules sets rules of each type in both, and compares what both then have.
func sameRules(t *testing.T, java, ours string) {
	lists := map[string]string{
		"flow": `[{"resource": "busy", "count": 50}, {"resource": "a b+c%", "count": 2.5, "limitApp": "x", "controlBehavior": 2, "maxQueueingTimeMs": 300},
			{"resource": "w", "count": 9, "controlBehavior": 1, "warmUpPeriodSec": 3, "app": "shop", "gmtCreate": 1},
			{"resource": "t", "grade": 0, "count": 4}, {"resource": "r", "count": 1, "strategy": 1, "refResource": "busy"}]`,
		"degrade": `[{"resource": "busy", "grade": 0, "count": 40, "timeWindow": 1, "slowRatioThreshold": 0.5},
			{"resource": "b", "grade": 1, "count": 0.5, "timeWindow": 2, "minRequestAmount": 3, "statIntervalMs": 2000},
			{"resource": "c", "grade": 2, "count": 5, "timeWindow": 3}]`,
		"system":    `[{"qps": 500}, {"highestSystemLoad": 3.5, "maxThread": 9}]`,
		"authority": `[{"resource": "busy", "limitApp": "a,b", "strategy": 1}, {"resource": "c", "limitApp": "a"}]`,
		"paramFlow": `[{"resource": "busy", "paramIdx": 0, "count": 3, "durationInSec": 2, "burstCount": 1,
			"paramFlowItemList": [{"object": "vip", "count": 6, "classType": "java.lang.String"}]}]`,
	}
	for _, typ := range slices.Sorted(maps.Keys(lists)) {
		for _, list := range []string{lists[typ], `[]`, lists[typ]} {
			list = strings.Join(strings.Fields(strings.ReplaceAll(list, "a b+c%", "a\u00a0b")), " ")
			if a, b := get(t, setRules(java, typ, list)), get(t, setRules(ours, typ, list)); a != b {
				t.Errorf("set %s: Java says %v, we %v", typ, a, b)
			}
			a, b := sorted(t, get(t, getRules(java, typ))), sorted(t, get(t, getRules(ours, typ)))
			if !slices.Equal(a, b) {
				t.Errorf("%s rules: Java has\n%s\nwe have\n%s", typ, strings.Join(a, "\n"), strings.Join(b, "\n"))
			}
		}
	}
}

// sorted are the elements of a list, each with its keys in order.
func sorted(t *testing.T, r reply) (all []string) {
	t.Helper()
	var list []map[string]any
	if err := json.Unmarshal([]byte(r.body), &list); err != nil {
		t.Fatalf("%v: %v", r, err)
	}
	for _, one := range list {
		text, err := json.Marshal(one)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, string(text))
	}
	slices.Sort(all)
	return all
}

// sameFigures compares the shape of what differs in its values: keys and their types, lines and their fields.
func sameFigures(t *testing.T, java, ours string) {
	for _, path := range []string{"/clusterNode", "/clusterNode?type=notZero", "/jsonTree", "/clusterNodeById?id=busy", "/systemStatus", "/basicInfo"} {
		envoytest.Eventually(t, soon, path+" has the same shape", func() bool {
			a, b := get(t, java+path), get(t, ours+path)
			t.Logf("%s: Java %s, we %s", path, shape(t, a.body), shape(t, b.body))
			return a.status == b.status && shape(t, a.body) == shape(t, b.body)
		})
	}
	line := func(base string) string {
		now := time.Now().UnixMilli()
		for _, l := range strings.Split(get(t, fmt.Sprintf("%s/metric?startTime=%d&endTime=%d&refetch=false", base, now-6000, now)).body, "\n") {
			if strings.Contains(l, "|busy|") {
				return fmt.Sprintf("%d fields, %d digits", strings.Count(l, "|"), strings.Index(l, "|"))
			}
		}
		return "none"
	}
	envoytest.Eventually(t, soon, "lines of figures look the same", func() bool { return line(java) != "none" && line(java) == line(ours) })
	for _, base := range []string{java, ours} {
		if r := get(t, fmt.Sprint(base, "/metric?startTime=0&endTime=", time.Now().UnixMilli())); !strings.Contains(r.body, "|__total_inbound_traffic__|") {
			t.Errorf("no line of all traffic: %.300s", r.body)
		}
	}
}

// shape are the keys and types of a JSON; of lists those that all elements have.
func shape(t *testing.T, text string) string {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	var of func(v any) string
	of = func(v any) string {
		switch v := v.(type) {
		case map[string]any:
			var parts []string
			for _, key := range slices.Sorted(maps.Keys(v)) {
				parts = append(parts, key+":"+of(v[key]))
			}
			return "{" + strings.Join(parts, ",") + "}"
		case []any:
			kinds := map[string]bool{}
			for _, one := range v {
				kinds[of(one)] = true
			}
			return "[" + strings.Join(slices.Sorted(maps.Keys(kinds)), ";") + "]"
		}
		return fmt.Sprintf("%T", v)
	}
	return of(v)
}
