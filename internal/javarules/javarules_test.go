package javarules

import (
	"encoding/json"
	"testing"

	"sentinel-envoy/internal/configfile"
	"sentinel-envoy/shared/config"
)

// read is the first rule of a list of a family, as a filter reads it that has two arguments and an origin.
func read(t *testing.T, key string, format config.Format, list string) (*config.Config, *config.Config) {
	t.Helper()
	filter := configfile.Lenient()
	filter.ResourceName = "r"
	cfg, err := config.ParseRules([]config.Document{{Key: key, Format: format, Text: []byte(list)}}, config.KindHTTP, filter)
	if err != nil {
		t.Fatalf("%s: %v", list, err)
	}
	return cfg, filter
}

// A rule of Java's that is read, and written again, is what Java itself makes of it.
func TestJavasRulesComeBack(t *testing.T) {
	for _, c := range []struct{ key, one string }{
		{"flowRules", `{"resource": "r", "count": 10}`},
		{"flowRules", `{"resource": "r", "count": 7.5, "limitApp": "a"}`},
		{"flowRules", `{"resource": "r", "count": 5, "strategy": 1, "refResource": "r"}`},
		{"flowRules", `{"resource": "r", "count": 20, "controlBehavior": 2, "maxQueueingTimeMs": 200}`},
		{"flowRules", `{"resource": "r", "count": 40, "controlBehavior": 1, "warmUpPeriodSec": 4}`},
		{"flowRules", `{"resource": "r", "count": 40, "controlBehavior": 3, "warmUpPeriodSec": 4}`},
		{"flowRules", `{"resource": "r", "grade": 0, "count": 4}`},
		{"flowRules", `{"resource": "r.*", "regex": true, "count": 4}`},
		{"degradeRules", `{"resource": "r", "grade": 0, "count": 40, "slowRatioThreshold": 0.5, "timeWindow": 1}`},
		{"degradeRules", `{"resource": "r", "grade": 1, "count": 0.25, "timeWindow": 9, "minRequestAmount": 4}`},
		{"degradeRules", `{"resource": "r", "grade": 2, "count": 3, "timeWindow": 1, "statIntervalMs": 2000}`},
		{"paramFlowRules", `{"resource": "r", "paramIdx": 0, "count": 3, "durationInSec": 2, "burstCount": 1,
			"paramFlowItemList": [{"object": "p0", "count": 6, "classType": "java.lang.String"}]}`},
		{"paramFlowRules", `{"resource": "r", "paramIdx": 0, "count": 5, "controlBehavior": 2, "maxQueueingTimeMs": 300}`},
		{"systemRules", `{"qps": 12}`}, {"systemRules", `{"maxThread": 3}`}, {"systemRules", `{"highestSystemLoad": 2.5}`},
		{"authorityRules", `{"resource": "r", "limitApp": "a,c", "strategy": 1}`},
	} {
		cfg, filter := read(t, c.key, config.Java, "["+c.one+"]")
		var one Object
		if err := json.Unmarshal([]byte(c.one), &one); err != nil {
			t.Fatal(err)
		}
		want := Complete(TypeOf(c.key), one)
		typ, got, ok := Of(cfg.Rules[0], filter)
		if !ok || typ != TypeOf(c.key) {
			t.Errorf("%s: there is no such rule in Java's words (%s)", c.one, typ)
			continue
		}
		// Where a value is not used ours does not keep it.
		for _, unused := range []string{"warmUpPeriodSec", "maxQueueingTimeMs"} {
			if _, said := one[unused]; !said {
				delete(want, unused)
				delete(got, unused)
			}
		}
		if !Same(got, want) {
			t.Errorf("%s came back as %v, want %v", c.one, got, want)
		}
	}
}

// What Java's words cannot say is not said by half.
func TestWhatJavaCannotSay(t *testing.T) {
	for _, c := range []struct {
		key, one string
		ok       bool
	}{
		{"flowRules", `{"resource": "r", "threshold": 10}`, true},
		{"flowRules", `{"resource": "r", "threshold": 10, "statIntervalInMs": 60000}`, false},
		{"flowRules", `{"resource": "r", "threshold": 10, "tokenCalculateStrategy": "WarmUp", "warmUpPeriodSec": 5, "warmUpColdFactor": 7}`, false},
		{"isolationRules", `{"resource": "r", "threshold": 10}`, true},
		{"circuitBreakerRules", `{"resource": "r", "strategy": "ErrorRatio", "threshold": 0.5, "statIntervalMs": 1000, "retryTimeoutMs": 2000}`, true},
		{"circuitBreakerRules", `{"resource": "r", "strategy": "ErrorRatio", "threshold": 0.5, "statIntervalMs": 1000, "retryTimeoutMs": 2500}`, false},
		{"circuitBreakerRules", `{"resource": "r", "strategy": "ErrorCount", "threshold": 5, "statIntervalMs": 1000, "retryTimeoutMs": 2000}`, true},
		{"circuitBreakerRules", `{"resource": "r", "strategy": "ErrorCount", "threshold": 5, "statIntervalMs": 1000, "retryTimeoutMs": 2000, "probeNum": 3}`, false},
		{"hotspotRules", `{"resource": "r", "metricType": "QPS", "threshold": 5, "durationInSec": 1, "paramSource": "Header", "paramKey": "x-arg"}`, true},
		{"hotspotRules", `{"resource": "r", "metricType": "QPS", "threshold": 5, "durationInSec": 1, "paramSource": "Header", "paramKey": "x-else"}`, false},
		{"systemRules", `{"metricType": "Load", "triggerCount": 2, "strategy": "BBR"}`, true},
		{"systemRules", `{"metricType": "Load", "triggerCount": 2}`, false},
		{"authorityRules", `{"resource": "r", "limitApp": "a", "strategy": "deny", "emptyOrigin": "block"}`, false},
	} {
		cfg, filter := read(t, c.key, config.Sentinel, "["+c.one+"]")
		if _, got, ok := Of(cfg.Rules[0], filter); ok != c.ok {
			t.Errorf("%s: %t, want %t: %v", c.one, ok, c.ok, got)
		}
	}
}
