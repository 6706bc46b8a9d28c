package e2e

import (
	"fmt"
	"math"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"sentinel-envoy/internal/envoytest"
	"sentinel-envoy/internal/plugintest"
)

// TestConfiguration changes the configuration of a running Envoy: rightly, and in every wrong way.
func TestConfiguration(t *testing.T) {
	e := start(t, envoytest.Config{
		Dynamic:   true,
		Listeners: []envoytest.Listener{configured(t, updateFrom)},
	})
	for _, sub := range []struct {
		name string
		see  func(*testing.T, *envoytest.Envoy)
	}{
		{"update", seeUpdate},
		{"mistakes", seeMistakes},
		{"unknown root_id", seeUnknownRootID},
		{"10000 rules", seeManyRules},
		{"no rules", seeNoRules},
	} {
		t.Run(sub.name, func(t *testing.T) { sub.see(t, e.For(t)) })
	}
	waitMetric(t, e, 0, "sentinel_faults")
}

// configured is a listener that Envoy itself answers, guarded by the HTTP filter with a configuration.
func configured(t *testing.T, config string) envoytest.HTTP {
	t.Helper()
	return answering(httpFilter(t, config)...)
}

func answering(filters ...envoytest.Wasm) envoytest.HTTP {
	return envoytest.HTTP{Routes: []envoytest.Route{{DirectStatus: http.StatusOK}}, Wasm: filters}
}

var (
	busyRule   = flowRule("busy", "/busy", 1000000)
	keptRule   = flowRule("kept", "/kept", 3)
	updateFrom = `{` + flowRules(busyRule, keptRule, flowRule("changed", "/changed", 2), flowRule("gone", "/gone", 0)) + `}`
	updateTo   = `{` + flowRules(flowRule("changed", "/changed", 5), flowRule("new", "/new", 0), keptRule, busyRule) + `}`
)

// An update under traffic breaks nothing: what has not changed keeps its window, and what has changed holds.
func seeUpdate(t *testing.T, e *envoytest.Envoy) {
	before := agreedRules(t, e)
	for path, threshold := range map[string]int{"/kept": 3, "/changed": 2, "/gone": 0} {
		spend(t, e, path, threshold)
	}
	var (
		wg   sync.WaitGroup
		sent atomic.Int64
	)
	stop := make(chan struct{})
	url := e.URL("http") + "/busy"
	for i := range 2 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				client := envoytest.NewHTTPClient(i == 0)
				r, err := envoytest.Do(t.Context(), client, "GET", url)
				client.CloseIdleConnections()
				if err != nil || r.Status != http.StatusOK {
					t.Errorf("after %d requests amid an update: %d, %v", sent.Load(), r.Status, err)
					return
				}
				sent.Add(1)
			}
		})
	}
	envoytest.Eventually(t, soon, "there is traffic", func() bool { return sent.Load() > 20 })
	e.Update(configured(t, updateTo))
	envoytest.Eventually(t, soon, "all VMs have the new rules", func() bool { return agreedRules(t, e) != before })
	amid := sent.Load()
	envoytest.Eventually(t, soon, "there is traffic after the update", func() bool { return sent.Load() > amid+20 })
	close(stop)
	wg.Wait()

	spend(t, e, "/kept", 0)
	spend(t, e, "/changed", 3)
	spend(t, e, "/new", 0)
	if r := e.Get("http", "/gone"); r.Status != http.StatusOK {
		t.Errorf("a rule that is gone still gives %d", r.Status)
	}
	waitMetric(t, e, float64(sent.Load()), "sentinel_passed", "resource", "/busy")
	waitMetric(t, e, 5, "sentinel_passed", "resource", "/changed")
}

// spend asks until it is refused, and fails unless want requests were admitted before.
func spend(t *testing.T, e *envoytest.Envoy, path string, want int) {
	t.Helper()
	for n := range want + 3 { // the last ones on whichever worker they fall
		refused := e.Get("http", path).Status == http.StatusTooManyRequests
		if refused != (n >= want) {
			t.Errorf("%s: request %d is refused: %v, want %d admitted", path, n+1, refused, want)
		}
	}
}

// agreedRules waits until all VMs tell the same rules, and gives their hash.
func agreedRules(t *testing.T, e *envoytest.Envoy) (hash float64) {
	t.Helper()
	envoytest.Eventually(t, soon, "all VMs apply the same rules", func() bool {
		all := samples(e, "sentinel_rules_hash")
		for _, s := range all {
			if hash = all[0].Value; s.Value != hash || hash == 0 {
				return false
			}
		}
		return len(all) == workers+1
	})
	return hash
}

// badConfigs are configurations with mistakes, and what the log says of each: place and reason.
var badConfigs = []struct {
	name, config string
	asString     bool // also as a StringValue
	want         []string
}{
	{"malformed JSON", "{\n\"flowRules\": [}", true, []string{`malformed JSON at line 2, byte 15: expected a value, got '}'`}},
	{"no object", `[]`, true, []string{`must be an object, got a list`}},
	{"unknown keys", `{"flowrules": [], "flowRules": [{"resource": "/a", "treshold": 1, "threshold": 1}]}`, false, []string{
		`flowrules: unknown key; did you mean flowRules\?`, `flowRules\[0\]\.treshold: unknown key; did you mean threshold\?`}},
	{"wrong types", `{"flowRules": {}, "resources": "x", "mode": 1, "block": {"status": "429", "headers": []}}`, false, []string{
		`flowRules: must be a list, got an object`, `resources: must be a list, got the string "x"`,
		`mode: must be enforce or shadow, got 1`, `block\.status: must be a number, got the string "429"`,
		`block\.headers: must be an object, got a list`}},
	{"thresholds", `{"flowRules": [{"resource": "/a", "threshold": 1}, {"resource": "/a", "threshold": -1},
		{"resource": "/a", "threshold": "NaN"}, {"resource": "/a"}]}`, false, []string{
		`flowRules\[1\]\.threshold: must be ≥ 0, got -1`, `flowRules\[2\]\.threshold: must be a finite number, got NaN`,
		`flowRules\[3\]\.threshold: missing`}},
	{"intervals", `{"flowRules": [{"resource": "/a", "threshold": 1, "statIntervalInMs": 31622400001},
		{"resource": "/a", "threshold": 1, "statIntervalInMs": 0.5}]}`, false, []string{
		`flowRules\[0\]\.statIntervalInMs: must be ≤ 31622400000, got 31622400001`, `flowRules\[1\]\.statIntervalInMs: must be a whole number`}},
	{"duplicate ids", `{"flowRules": [{"id": "x", "resource": "/a", "threshold": 1}, {"id": "x", "resource": "/b", "threshold": 1}]}`,
		false, []string{`flowRules\[1\]\.id: "x" is the id of flowRules\[0\] already`}},
	{"regex", `{"resources": [{"name": "r", "match": {"path": {"regex": "a("}}}]}`, false,
		[]string{`resources\[0\]\.match\.path\.regex: not a regular expression \(RE2\): missing closing \)`}},
	{"a condition of TCP", `{"resources": [{"name": "r", "match": {"destination_port": 443}}]}`, false,
		[]string{`resources\[0\]\.match\.destination_port: is for the TCP filter only`}},
	{"an impossible resource", `{"flowRules": [{"resource": "nowhere", "threshold": 1}, {"resource": "/a?b", "threshold": 1}]}`,
		false, []string{`flowRules\[0\]\.resource: nothing here is the resource "nowhere"`,
			`flowRules\[1\]\.resource: nothing here is the resource "/a\?b": paths are taken without query`}},
	{"enumerations", `{"flowRules": [{"resource": "/a", "threshold": 1, "controlBehavior": "Leak"}]}`, false,
		[]string{`flowRules\[0\]\.controlBehavior: must be 0 \(Reject\) or 1 \(Throttling\), got the string "Leak"`}},
	{"warm-up", `{"flowRules": [{"resource": "/a", "threshold": 0, "tokenCalculateStrategy": "WarmUp", "warmUpColdFactor": 1}]}`, false,
		[]string{`flowRules\[0\]\.warmUpPeriodSec: must be > 0 with WarmUp`, `flowRules\[0\]\.warmUpColdFactor: must be > 1`,
			`flowRules\[0\]\.threshold: must be > 0 with WarmUp`}},
	{"memory", `{"flowRules": [{"resource": "/a", "tokenCalculateStrategy": "MemoryAdaptive", "lowMemUsageThreshold": 1,
		"highMemUsageThreshold": 1, "memLowWaterMarkBytes": 2, "memHighWaterMarkBytes": 1}]}`, false,
		[]string{`flowRules\[0\]\.highMemUsageThreshold: must be < lowMemUsageThreshold`,
			`flowRules\[0\]\.memLowWaterMarkBytes: must be < memHighWaterMarkBytes`}},
	{"no source", `{"flowRules": [{"resource": "/a", "tokenCalculateStrategy": "MemoryAdaptive", "lowMemUsageThreshold": 2,
		"highMemUsageThreshold": 1, "memLowWaterMarkBytes": 1, "memHighWaterMarkBytes": 2}],
		"systemRules": [{"metricType": "CpuUsage", "triggerCount": 0.5}]}`, false,
		[]string{`flowRules\[0\]\.tokenCalculateStrategy: MemoryAdaptive: .* it needs a system_source in the same configuration`,
			`systemRules\[0\]\.metricType: cpuUsage .* it needs a system_source in the same configuration`}},
	{"an associated resource", `{"flowRules": [{"resource": "/a", "threshold": 1, "relationStrategy": "AssociatedResource"}]}`, false,
		[]string{`flowRules\[0\]\.refResource: must not be empty with AssociatedResource`}},
	{"circuit breakers", `{"circuitBreakerRules": [{"resource": "/a", "strategy": "ErrorRatio", "threshold": 1.5, "statIntervalMs": 1000,
		"statSlidingWindowBucketCount": 3}, {"resource": "/a", "strategy": "Errors", "threshold": 1, "retryTimeoutMs": 0, "statIntervalMs": 1}]}`,
		false, []string{`circuitBreakerRules\[0\]\.retryTimeoutMs: missing`,
			`circuitBreakerRules\[0\]\.threshold: must be from 0 to 1 with ErrorRatio`,
			`circuitBreakerRules\[0\]\.statSlidingWindowBucketCount: must divide statIntervalMs`,
			`circuitBreakerRules\[1\]\.strategy: must be 0 \(SlowRequestRatio\) .*, got the string "Errors"`,
			`circuitBreakerRules\[1\]\.retryTimeoutMs: must be ≥ 1, got 0`}},
	{"isolation", `{"isolationRules": [{"resource": "/a", "threshold": 0}, {"resource": "/a", "threshold": 1, "metricType": "QPS"},
		{"id": "x", "resource": "/a", "threshold": 1}, {"id": "x", "resource": "/a", "threshold": 2}]}`, false,
		[]string{`isolationRules\[0\]\.threshold: must be ≥ 1, got 0`, `isolationRules\[1\]\.metricType: must be 0 \(.*\), got the string "QPS"`,
			`isolationRules\[3\]\.id: "x" is the id of isolationRules\[2\] already`}},
	{"hotspots", `{"hotspotRules": [{"resource": "/a", "threshold": 1},
		{"resource": "/a", "threshold": 1, "paramSource": "Header"}, {"resource": "/a", "threshold": 1, "paramSource": "Host", "trustedHops": 1},
		{"resource": "/a", "threshold": 1, "paramSource": "Host", "metricType": "QPS"},
		{"resource": "/a", "threshold": 1, "paramSource": "Host", "specificItems": [{"valKind": "KindInt", "valStr": "x", "threshold": 1}]}]}`, false,
		[]string{`hotspotRules\[0\]\.paramSource: missing; say where the parameter comes from`,
			`hotspotRules\[1\]\.paramKey: missing: which Header\?`, `hotspotRules\[2\]\.trustedHops: must be left out with Host`,
			`hotspotRules\[3\]\.durationInSec: must be > 0 with QPS`, `hotspotRules\[4\]\.specificItems\[0\]\.valStr: `}},
	{"system", `{"systemRules": [{"metricType": "CpuUsage", "triggerCount": 1.5}, {"metricType": "AvgRT"},
		{"metricType": "Concurrency", "triggerCount": -1}], "system_source": {"path": "metrics"}}`, false,
		[]string{`system_source\.cluster: missing`, `system_source\.path: must begin with /, got "metrics"`,
			`systemRules\[0\]\.triggerCount: must be from 0 to 1 with cpuUsage`,
			`systemRules\[1\]\.triggerCount: missing`, `systemRules\[2\]\.triggerCount: must be ≥ 0, got -1`}},
	{"Java's words beside ours", `{"flowRules": [{"resource": "/a", "threshold": 1, "grade": 1}, {"resource": "/b", "count": -1}]}`, false,
		[]string{`flowRules\[0\]\.threshold: does not go with grade, which is Java Sentinel's`,
			`flowRules\[0\]\.count: missing`, `flowRules\[1\]\.count: must be ≥ 0, got -1`}},
}

// An update with mistakes leaves the running rules in force, and the log has every mistake.
func seeMistakes(t *testing.T, e *envoytest.Envoy) {
	for _, c := range badConfigs {
		for _, asString := range []bool{false, true} {
			if c.asString && !asString {
				continue // no Struct can be that
			}
			t.Run(fmt.Sprintf("%s/StringValue=%v", c.name, asString), func(t *testing.T) {
				filter := httpFilter(t, c.config)[0]
				filter.ConfigAsString = asString
				seeRejected(t, e.For(t), answering(filter), "configuration of root_id sentinel_http", c.want...)
			})
		}
	}
	t.Run("NaN in a Struct", func(t *testing.T) {
		s, err := structpb.NewStruct(map[string]any{"flowRules": []any{map[string]any{"resource": "/a", "threshold": math.NaN()}}})
		if err != nil {
			t.Fatal(err)
		}
		encoded, err := proto.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		// No JSON of a Struct has it, but a control plane's bytes may. Envoy hands over either's bytes as they are.
		filter := envoytest.Wasm{File: plugintest.File(t, release), RootID: "sentinel_http", Config: string(encoded), ConfigAsBytes: true}
		seeRejected(t, e.For(t), answering(filter), "configuration of root_id sentinel_http",
			`flowRules\[0\]\.threshold: must be a finite number, got NaN`)
	})
	t.Run("CIDR", func(t *testing.T) {
		seeRejected(t, e.For(t), envoytest.TCP{Upstream: "127.0.0.1:9", Wasm: tcpFilter(t,
			`{"resource_name": "r", "resources": [{"name": "a", "match": {"source_ip": ["10.0.0.0/33", "::1"]}}], "flowRules": [
				{"resource": "/path", "threshold": 1}], "block": {"status": 429}}`)}, "configuration of root_id sentinel_tcp",
			`resources\[0\]\.match\.source_ip\[0\]: must be a CIDR such as 10\.0\.0\.0/8, or an address, got "10\.0\.0\.0/33"`,
			`flowRules\[0\]\.resource: nothing here is the resource "/path": a connection has no path`,
			`block\.status: is for the HTTP filter only`)
	})
	t.Run("hotspots of connections", func(t *testing.T) {
		seeRejected(t, e.For(t), envoytest.TCP{Upstream: "127.0.0.1:9", Wasm: tcpFilter(t, `{"resource_name": "r", "hotspotRules": [
				{"resource": "r", "threshold": 1, "paramSource": "Query", "paramKey": "q"},
				{"resource": "r", "threshold": 2, "paramSource": "SourceAddress", "trustedHops": 1}]}`)},
			"configuration of root_id sentinel_tcp",
			`hotspotRules\[0\]\.paramSource: must be SourceAddress, SNI or Property: a connection has no Query`,
			`hotspotRules\[1\]\.trustedHops: is for the HTTP filter only`)
	})
	t.Run("20000 rules", func(t *testing.T) {
		filter := httpFilter(t, manyRules(20000))[0]
		seeRejected(t, e.For(t), answering(filter), "configuration of root_id sentinel_http",
			`flowRules\[16384\]: more than 16384 rules in one configuration`)
	})
}

// seeRejected updates the listeners to one with mistakes. Nothing changes, and the log has a line for each mistake.
func seeRejected(t *testing.T, e *envoytest.Envoy, bad envoytest.Listener, where string, want ...string) {
	t.Helper()
	hash := agreedRules(t, e)
	e.Log.Mark()
	listeners := []envoytest.Listener{bad}
	if _, tcp := bad.(envoytest.TCP); tcp {
		listeners = append(listeners, configured(t, updateTo))
	}
	if err := e.UpdateListeners(t.Context(), listeners...); err == nil {
		t.Fatal("Envoy took the configuration")
	}
	seeInLog(t, e.Log.All, where, want...)
	if after := agreedRules(t, e); after != hash {
		t.Errorf("the VMs have other rules than before")
	}
	if got := e.Get("http", "/kept"); got.Status != http.StatusTooManyRequests || !strings.Contains(got.Body, "rule kept") {
		t.Errorf("the rule before gives %d %q", got.Status, got.Body)
	}
}

// seeInLog wants exactly these complaints, each on a line of its own.
func seeInLog(t *testing.T, all func(pattern string) [][]string, where string, want ...string) {
	t.Helper()
	complaints := all(`\[critical\]\[wasm\].*sentinel: (.*)`)
	if len(complaints) != len(want) {
		t.Errorf("%d lines complain, want %d", len(complaints), len(want))
	}
	for _, w := range want {
		if len(all(`\[critical\]\[wasm\].*sentinel: `+regexp.QuoteMeta(where)+": "+w)) != 1 {
			t.Errorf("no line, or several, match %s", w)
		}
	}
	if t.Failed() {
		t.Logf("complaints: %q", complaints)
	}
}

func seeUnknownRootID(t *testing.T, e *envoytest.Envoy) {
	filter := envoytest.Wasm{File: plugintest.File(t, release), RootID: "sentinel", Config: updateFrom}
	seeRejected(t, e, answering(filter), "configuration of root_id sentinel",
		`unknown root_id "sentinel": this binary has sentinel_http and sentinel_tcp`)
}

// manyRules has that many rules, the last of which admits nothing.
func manyRules(n int) string {
	rules := make([]string, n)
	for i := range rules {
		rules[i] = flowRule(fmt.Sprintf("rule-%d", i), fmt.Sprintf("/many/%d", i), min(n-1-i, 1))
	}
	return `{` + flowRules(rules...) + `}`
}

func seeManyRules(t *testing.T, e *envoytest.Envoy) {
	before := agreedRules(t, e)
	filter := httpFilter(t, manyRules(10000))[0]
	e.Update(answering(filter))
	envoytest.Eventually(t, soon, "all VMs have the new rules", func() bool { return agreedRules(t, e) != before })
	spend(t, e, "/many/0", 1)
	spend(t, e, "/many/9998", 1)
	spend(t, e, "/many/9999", 0)
	waitMetric(t, e, 1, "sentinel_passed", "resource", "/many/9998")
	waitMetric(t, e, 3, "sentinel_blocked", "resource", "/many/9999", "rule", "rule-9999")

	filter.ConfigAsString = true
	filter.Config += " " // so that it is another
	e.Update(answering(filter))
	spend(t, e, "/many/9998", 0)
}

func seeNoRules(t *testing.T, e *envoytest.Envoy) {
	for _, config := range []string{"", " ", "{}", "null", `{"flowRules": []}`} {
		e.Update(answering(envoytest.Wasm{File: plugintest.File(t, release), RootID: "sentinel_http", Config: config, ConfigAsString: true}))
		envoytest.Eventually(t, soon, "nothing is refused", func() bool {
			return e.Get("http", "/many/9999").Status == http.StatusOK
		})
	}
}

// A first configuration with mistakes does not start.
func TestBadFirstConfiguration(t *testing.T) {
	all := func(log string) func(string) [][]string {
		return func(pattern string) [][]string {
			return regexp.MustCompile(`(?m)^.*`+pattern+`.*$`).FindAllStringSubmatch(log, -1)
		}
	}
	t.Run("plugin", func(t *testing.T) {
		log := envoytest.StartFails(t, envoytest.Config{Concurrency: workers, Listeners: []envoytest.Listener{configured(t,
			`{"mod": "shadow", "flowRules": [{"resource": "/a", "threshold": -1}, {"resource": "b", "threshold": 1}]}`)}})
		seeInLog(t, all(log), "configuration of root_id sentinel_http", `mod: unknown key; did you mean mode\?`,
			`flowRules\[0\]\.threshold: must be ≥ 0, got -1`, `flowRules\[1\]\.resource: nothing here is the resource "b"`)
	})
	t.Run("VM", func(t *testing.T) {
		filter := httpFilter(t, updateFrom)[0]
		filter.VMConfig = `{"resource_name": "a", "flowRules": [{"resource": "a"}]}`
		log := envoytest.StartFails(t, envoytest.Config{Concurrency: workers, Listeners: []envoytest.Listener{answering(filter)}})
		seeInLog(t, all(log), "vm_config.configuration", `resource_name: belongs in a filter's configuration`,
			`flowRules\[0\]\.threshold: missing`)
	})
}
