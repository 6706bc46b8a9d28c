package config

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"sentinel-envoy/internal/seeds"
	"sentinel-envoy/shared/answer"
	"sentinel-envoy/shared/outcome"
	"sentinel-envoy/shared/rule"
)

// mistakesOf parses and returns the mistakes, one text each, without those that only say "not supported yet".
func mistakesOf(t *testing.T, kind Kind, doc string) []string {
	t.Helper()
	_, err := Parse([]byte(doc), kind)
	if err == nil {
		return nil
	}
	var list Errors
	if !errors.As(err, &list) {
		t.Fatalf("the error is a %T", err)
	}
	var texts []string
	for _, e := range list {
		if !strings.Contains(e.Reason, "not supported yet") {
			texts = append(texts, e.Error())
		}
	}
	return texts
}

// read parses without asking whether the engine enforces it.
func read(t *testing.T, kind Kind, doc string) *Config {
	t.Helper()
	p := &parser{kind: kind}
	cfg := p.config([]byte(doc))
	if err := p.err(); err != nil {
		t.Fatalf("%s\nhas mistakes:\n%v", doc, err)
	}
	return cfg
}

func TestNoConfiguration(t *testing.T) {
	for _, doc := range []string{"", " \n", "null", "{}", `{"flowRules": []}`} {
		for _, kind := range []Kind{KindVM, KindHTTP, KindTCP} {
			cfg, err := Parse([]byte(doc), kind)
			if err != nil {
				t.Errorf("%q: %v", doc, err)
				continue
			}
			want := &Config{Block: defaultBlock(), Failures: outcome.DefaultFailures()}
			if !reflect.DeepEqual(cfg, want) {
				t.Errorf("%q: %+v", doc, cfg)
			}
		}
	}
}

// flows are the flow rules of a configuration.
func flows(cfg *Config) []*rule.Flow { return rule.Of[rule.Flow](cfg.Rules) }

func TestHTTPConfiguration(t *testing.T) {
	cfg, err := Parse([]byte(`{
	  "flowRules": [
	    {"id": "a", "resource": "orders", "threshold": 1e+03, "statIntervalInMs": 500.0, "tokenCalculateStrategy": "direct"},
	    {"resource": "/paid", "threshold": 0.5, "controlBehavior": 0}],
	  "resource_name": "rest",
	  "resources": [{"name": "orders", "match": {"method": ["GET", "PUT"], "host": "*.Example.com",
	    "path": {"regex": "/orders/[0-9]+"},
	    "headers": [{"name": "X-Tier", "exact": "gold"}, {"name": "x-b", "prefix": ""}, {"name": "x-c", "present": true}]}}],
	  "block": {"status": 503, "body": "slow \u0064own", "headers": {"X-B": "2", "x-a": "1"}, "grpc_status": 14, "filter_state": false},
	  "mode": "shadow", "failure_mode": "closed"}`), KindHTTP)
	if err != nil {
		t.Fatal(err)
	}
	if want := (rule.Flow{Target: rule.Target{ID: "a", Resource: "orders"}, Threshold: 1000, StatIntervalInMs: 500}); *flows(cfg)[0] != want {
		t.Errorf("first rule: %+v", *flows(cfg)[0])
	}
	second := rule.Flow{Target: rule.Target{Resource: "/paid"}, Threshold: 0.5, StatIntervalInMs: 1000}
	second.ID = "flow-1000ms-/paid"
	if *flows(cfg)[1] != second {
		t.Errorf("second rule: %+v", *flows(cfg)[1])
	}
	wantBlock := Block{Block: answer.Block{Status: 503, Body: "slow down", Headers: [][2]string{{"x-a", "1"}, {"x-b", "2"}}, GRPCStatus: 14,
		Problem: answer.No, Limited: answer.Yes}}
	if !reflect.DeepEqual(cfg.Block, wantBlock) {
		t.Errorf("block: %+v", cfg.Block)
	}
	if cfg.ResourceName != "rest" || cfg.Mode != Shadow || cfg.FailureMode != FailClosed {
		t.Errorf("%q %v %v", cfg.ResourceName, cfg.Mode, cfg.FailureMode)
	}
	r := cfg.Resources[0]
	if e := r.Path.Expression; !e.Matches("/orders/7") || e.Matches("/orders/7/x") {
		t.Errorf("%q does not match the whole path", r.Path.Value)
	}
	r.Path = Text{}
	want := Resource{Name: "orders", Match: Match{Method: []string{"GET", "PUT"}, Host: Name{Value: ".example.com", Suffix: true},
		Headers: []Field{{Name: "x-tier", Value: Text{Op: Exact, Value: "gold"}}, {Name: "x-b", Value: Text{Op: Prefix}}, {Name: "x-c", Value: Text{Op: Present}}}}}
	if !reflect.DeepEqual(r, want) {
		t.Errorf("resource: %+v", r)
	}
}

func TestTCPConfiguration(t *testing.T) {
	cfg, err := Parse([]byte(`{"resources": [
	  {"name": "db", "match": {"sni": "db.example.com", "source_ip": "10.1.2.3/8", "destination_port": 5432}},
	  {"name": "six", "match": {"source_ip": ["fd00::/8", "::ffff:192.0.2.0/120", "192.0.2.1"]}}],
	  "block": {"tcp_message": true, "body": "no"}, "mode": "enforce", "failure_mode": "open"}`), KindTCP)
	if err != nil {
		t.Fatal(err)
	}
	want := []Resource{
		{Name: "db", Match: Match{SNI: Name{Value: "db.example.com"}, SourceIP: prefixes("10.0.0.0/8"), DestinationPort: 5432}},
		{Name: "six", Match: Match{SourceIP: prefixes("fd00::/8", "192.0.2.0/24", "192.0.2.1/32")}},
	}
	if !reflect.DeepEqual(cfg.Resources, want) {
		t.Errorf("%+v", cfg.Resources)
	}
	if !cfg.Block.TCPMessage || cfg.Block.Body != "no" {
		t.Errorf("%+v", cfg.Block)
	}
}

// Envoy's YAML knows whole numbers of 32 bits only: of 0.5 and of 6000000000 it makes strings.
func TestNumbersFromYAML(t *testing.T) {
	for text, want := range map[string]float64{"0.5": 0.5, "1e3": 1000, ".25": 0.25, "7.": 7, "6000000000": 6e9} {
		cfg := read(t, KindVM, `{"flowRules": [{"resource": "r", "threshold": "`+text+`"}]}`)
		if got := flows(cfg)[0].Threshold; got != want {
			t.Errorf("%q is %v, want %v", text, got, want)
		}
	}
	for _, text := range []string{"10", "", ".", "e", "1.2.3", "0x1.8p1", "1_0.5", "1.5 ", "Inf", "-1.5", "1e999", "٣.٥"} {
		if _, err := Parse([]byte(`{"flowRules": [{"resource": "r", "threshold": "`+text+`"}]}`), KindVM); err == nil {
			t.Errorf("%q was taken for a number", text)
		}
	}
}

func TestFailures(t *testing.T) {
	type answer struct {
		status int64
		grpc   uint64
	}
	for doc, fails := range map[string]map[answer]bool{
		`{}`: {{status: 200}: false, {status: 499}: false, {status: 500}: true, {status: 599}: true, {status: 600}: false,
			{status: 0}: false, {grpc: 1}: false, {grpc: 2}: true, {grpc: 8}: false, {grpc: 14}: true, {grpc: 46}: false},
		`{"failures": {"status": ["5xx", 429, "1xx"], "grpc": [8, "UNAUTHENTICATED"]}}`: {{status: 428}: false, {status: 429}: true,
			{status: 503}: true, {status: 100}: true, {status: 199}: true, {status: 200}: false, {status: -1}: false,
			{grpc: 2}: false, {grpc: 8}: true, {grpc: 16}: true, {grpc: 17}: false},
		`{"failures": {"status": [], "grpc": []}}`: {{status: 500}: false, {grpc: 14}: false},
	} {
		cfg := read(t, KindHTTP, doc)
		for a, want := range fails {
			if got := cfg.Failures.Status.Has(a.status) || cfg.Failures.GRPC.Has(a.grpc); got != want {
				t.Errorf("%s: %+v is a failure: %t, want %t", doc, a, got, want)
			}
		}
	}
	if f := read(t, KindTCP, `{"failures": {"connect": false}}`).Failures; f.Connect || !f.Resets {
		t.Errorf("TCP: %+v", f)
	}
	for _, kind := range []Kind{KindHTTP, KindTCP} {
		if f := read(t, kind, `{}`).Failures; f.AbandonedAfterMs != 0 {
			t.Errorf("by default a client that waited %d ms has failed", f.AbandonedAfterMs)
		}
		if f := read(t, kind, `{"failures": {"abandoned_after_ms": 500}}`).Failures; f.AbandonedAfterMs != 500 || !f.Configured {
			t.Errorf("%+v", f)
		}
	}
}

func prefixes(list ...string) (out []netip.Prefix) {
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

// The rules of sentinel-golang's own test data, under their family's key.
func TestUpstreamDocuments(t *testing.T) {
	dir := upstreamDir(t)
	for _, c := range []struct{ key, file, flawed string }{
		{"flowRules", "helper/FlowRule.json", ""},
		{"circuitBreakerRules", "helper/CircuitBreakerRule.json", ""},
		// A program passes the parameters; here the rule says where they are.
		{"hotspotRules", "helper/HotSpotParamFlowRule.json", "hotspotRules[0].paramSource: missing; say where the parameter comes " +
			"from: Header, Query, Cookie, PathSegment, Host, SourceAddress, SNI or Property"},
		{"systemRules", "helper/SystemRule.json", "systemRules[0].metricType: load is not visible from inside Envoy: it needs a " +
			"system_source in the same configuration"},
		// Go's decoder ignores the case of keys; we say what they should be.
		{"isolationRules", "helper/IsolationRule.json", "isolationRules[0].Resource: unknown key; did you mean resource?"},
		{"systemRules", "SystemRule.json", "systemRules[0].adaptiveStrategy: unknown key; write strategy"},
	} {
		data, err := os.ReadFile(filepath.Join(dir, "tests/testdata/extension", c.file))
		if err != nil {
			t.Fatal(err)
		}
		doc := fmt.Sprintf("{%q: %s}", c.key, data)
		got := mistakesOf(t, KindVM, doc)
		if c.flawed == "" && len(got) > 0 || c.flawed != "" && !contains(got, c.flawed) {
			t.Errorf("%s: %q, want %q", c.file, got, c.flawed)
		}
	}
}

func upstreamDir(t *testing.T) string {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/alibaba/sentinel-golang").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	return strings.TrimSpace(string(out))
}

func contains(list []string, s string) bool {
	for _, e := range list {
		if e == s {
			return true
		}
	}
	return false
}

// Every key that a rule has in JSON is one that the parser knows.
func TestEveryFieldIsRead(t *testing.T) {
	for key, r := range map[string]any{
		"flowRules": rule.Flow{}, "circuitBreakerRules": rule.CircuitBreaker{}, "isolationRules": rule.Isolation{},
		"hotspotRules": rule.Hotspot{}, "systemRules": rule.System{},
	} {
		for _, f := range reflect.VisibleFields(reflect.TypeOf(r)) {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if name == "" || name == "-" || key == "systemRules" && len(f.Index) > 1 && name != "id" ||
				name == "candidateThreshold" && (key == "systemRules" || key == "circuitBreakerRules") {
				continue
			}
			for _, m := range mistakesOf(t, KindVM, fmt.Sprintf(`{%q: [{%q: {}}]}`, key, name)) {
				if strings.Contains(m, "unknown key") {
					t.Error(m)
				}
			}
		}
	}
}

func TestAllFamilies(t *testing.T) {
	cfg := read(t, KindVM, `{
	  "flowRules": [
	    {"id": "w", "resource": "r", "threshold": 10, "tokenCalculateStrategy": "WarmUp", "warmUpPeriodSec": 5,
	     "controlBehavior": "Throttling", "maxQueueingTimeMs": 20, "relationStrategy": 1, "refResource": "q"},
	    {"id": "m", "resource": "a|b", "regex": true, "tokenCalculateStrategy": 2, "lowMemUsageThreshold": 20,
	     "highMemUsageThreshold": 10, "memLowWaterMarkBytes": 1024, "memHighWaterMarkBytes": 2e9}],
	  "circuitBreakerRules": [{"id": "c", "resource": "r", "strategy": "ErrorCount", "retryTimeoutMs": 3000,
	     "minRequestAmount": 5, "statIntervalMs": 1000, "statSlidingWindowBucketCount": 10, "threshold": 50, "probeNum": 2}],
	  "isolationRules": [{"id": "i", "resource": "r", "metricType": "Concurrency", "threshold": 3}],
	  "hotspotRules": [{"id": "h", "resource": "r", "metricType": "QPS", "paramSource": "PathSegment", "paramIndex": -1, "threshold": 4, "burstCount": 1,
	     "durationInSec": 1, "specificItems": [{"valKind": "KindString", "valStr": "x", "threshold": 9}]}],
	  "systemRules": [{"id": "s", "metricType": "CpuUsage", "triggerCount": 0.8, "strategy": "BBR"},
	     {"id": "s0", "triggerCount": 3, "strategy": 0}],
	  "system_source": {"cluster": "node", "interval_ms": 500}}`)
	want := Config{
		Rules: []rule.Rule{
			&rule.Flow{Target: rule.Target{ID: "w", Resource: "r"}, Threshold: 10, TokenCalculateStrategy: rule.WarmUp, WarmUpPeriodSec: 5, WarmUpColdFactor: 3,
				ControlBehavior: rule.Throttling, MaxQueueingTimeMs: 20, RelationStrategy: rule.AssociatedResource,
				RefResource: "q", StatIntervalInMs: 1000},
			&rule.Flow{Target: rule.Target{ID: "m", Resource: "a|b", Regex: true, Pattern: flows(cfg)[1].Pattern}, TokenCalculateStrategy: rule.MemoryAdaptive, StatIntervalInMs: 1000,
				LowMemUsageThreshold: 20, HighMemUsageThreshold: 10, MemLowWaterMarkBytes: 1024, MemHighWaterMarkBytes: 2e9},
			&rule.CircuitBreaker{Target: rule.Target{ID: "c", Resource: "r"}, Strategy: rule.ErrorCount, RetryTimeoutMs: 3000,
				MinRequestAmount: 5, StatIntervalMs: 1000, StatSlidingWindowBucketCount: 10, Threshold: 50, ProbeNum: 2},
			&rule.Isolation{Target: rule.Target{ID: "i", Resource: "r"}, Threshold: 3},
			&rule.Hotspot{Target: rule.Target{ID: "h", Resource: "r"}, MetricType: rule.HotspotQPS, Threshold: 4,
				BurstCount: 1, DurationInSec: 1, Param: rule.Param{ParamSource: rule.PathSegment, ParamIndex: -1},
				SpecificItems: []rule.SpecificItem{{ValKind: rule.KindString, ValStr: "x", Threshold: 9}}},
			&rule.System{Target: rule.Target{ID: "s"}, MetricType: rule.SystemCPUUsage, TriggerCount: 0.8, Strategy: rule.BBR},
			&rule.System{Target: rule.Target{ID: "s0"}, TriggerCount: 3, Strategy: rule.NoAdaptive},
		},
		SystemSource: &SystemSource{Cluster: "node", Path: "/metrics", Authority: "node", IntervalMs: 500},
		Block:        defaultBlock(), Failures: outcome.DefaultFailures(), RuleHash: cfg.RuleHash,
	}
	if !reflect.DeepEqual(*cfg, want) {
		t.Errorf("got  %+v\nwant %+v", *cfg, want)
	}
}

// The hash follows content and ids, not order.
func TestRuleHash(t *testing.T) {
	a, b := `{"resource": "r", "threshold": 1}`, `{"id": "b", "resource": "r", "threshold": 2}`
	hash := func(rules ...string) uint64 {
		return read(t, KindVM, `{"flowRules": [`+strings.Join(rules, ",")+`]}`).RuleHash
	}
	if hash(a, b) != hash(b, a) {
		t.Error("depends on the order")
	}
	others := map[string]uint64{"one rule": hash(a), "none": hash(), "threshold": hash(a, strings.Replace(b, "2", "3", 1)),
		"id": hash(a, strings.Replace(b, `"b"`, `"c"`, 1))}
	for what, h := range others {
		if h == hash(a, b) {
			t.Errorf("the same for another %s", what)
		}
	}
	if id := flows(read(t, KindVM, `{"flowRules": [`+a+`]}`))[0].ID; id != flows(read(t, KindVM,
		`{"flowRules": [`+b+`, {"threshold": 1e0, "statIntervalInMs": 1000, "resource": "r"}]}`))[1].ID {
		t.Error("the same content has two ids")
	}
}

func TestManyRules(t *testing.T) {
	doc := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `,{"id":"r%d","resource":"/r","threshold":1}`, i)
		}
		return `{"flowRules": [` + strings.TrimPrefix(b.String(), ",") + `]}`
	}
	if cfg := read(t, KindHTTP, doc(MaxRules)); len(cfg.Rules) != MaxRules {
		t.Errorf("%d rules", len(cfg.Rules))
	}
	want := []string{"flowRules[16384]: more than 16384 rules in one configuration"}
	if got := mistakesOf(t, KindHTTP, doc(MaxRules+100)); !reflect.DeepEqual(got, want) {
		t.Errorf("%q", got)
	}
}

func TestMistakesAreBounded(t *testing.T) {
	doc := `{"flowRules": [` + strings.TrimSuffix(strings.Repeat("7,", 1000), ",") + `]}`
	_, err := Parse([]byte(doc), KindVM)
	var list Errors
	if !errors.As(err, &list) || len(list) != maxErrors+1 || list[maxErrors].Error() != "and 950 more" {
		t.Errorf("%v", err)
	}
}

// The strict check must accept what it should: documents made at random, and none of them cut short.
func TestSyntaxOfRandomDocuments(t *testing.T) {
	seeds.Try(t, 2000, func(t *testing.T, seed uint64) {
		random := rand.New(rand.NewPCG(seed, 0))
		doc := randomDocument(random, 4)
		if problem := malformed([]byte(doc)); problem != "" {
			t.Fatalf("%s: %s", doc, problem)
		}
		if cut := 1 + random.IntN(len(doc)-1); malformed([]byte(doc[:cut])) == "" {
			t.Fatalf("%s cut to %s is accepted", doc, doc[:cut])
		}
	})
}

// randomDocument is an object, so that no proper beginning of it is a document.
func randomDocument(random *rand.Rand, depth int) string {
	leaves := []string{`0`, `-1.5e+03`, `""`, `"\u00e9\ud83d\ude00\n"`, `true`, `false`, `null`, `[]`, `{}`, `"é"`}
	var b strings.Builder
	b.WriteString("{ ")
	for i := range 1 + random.IntN(3) {
		if i > 0 {
			b.WriteString(" ,\n")
		}
		element := leaves[random.IntN(len(leaves))]
		if depth > 0 && random.IntN(2) == 0 {
			element = "[" + element + "\t, " + randomDocument(random, depth-1) + "]"
		}
		fmt.Fprintf(&b, `"k%d" : %s`, i, element)
	}
	return b.String() + "}"
}

// The smallest useful configuration serves both filters.
func TestSameConfigurationForBothFilters(t *testing.T) {
	doc := `{"resource_name":"some-test","flowRules":[{"id":"some-test-qps","resource":"some-test","threshold":50.0,"statIntervalInMs":1e3}]}`
	http, errHTTP := Parse([]byte(doc), KindHTTP)
	tcp, errTCP := Parse([]byte(doc), KindTCP)
	if errHTTP != nil || errTCP != nil {
		t.Fatal(errHTTP, errTCP)
	}
	if !reflect.DeepEqual(http, tcp) {
		t.Errorf("HTTP %+v\nTCP %+v", http, tcp)
	}
	if want := (rule.Flow{Target: rule.Target{ID: "some-test-qps", Resource: "some-test"}, Threshold: 50, StatIntervalInMs: 1000}); *flows(http)[0] != want {
		t.Errorf("%+v", *flows(http)[0])
	}
}

func BenchmarkTenThousandRules(b *testing.B) {
	var doc strings.Builder
	doc.WriteString(`{"flowRules":[{"resource":"/0","threshold":1}`)
	for i := range 9999 {
		fmt.Fprintf(&doc, `,{"resource":"/r%d","threshold":1000,"statIntervalInMs":1000}`, i)
	}
	data := []byte(doc.String() + "]}")
	for b.Loop() {
		if _, err := Parse(data, KindHTTP); err != nil {
			b.Fatal(err)
		}
	}
}

// What reading a rule leaves for the collector is small: an update reads all of them, in every worker.
func TestReadingARuleTakesLittle(t *testing.T) {
	const rules, bound = 1000, 20 // in objects; the setters of a flow rule's keys alone would be as many
	var text strings.Builder
	for i := range rules {
		fmt.Fprintf(&text, `,{"id": "rule-%d", "resource": "/r%d", "threshold": 10}`, i, i)
	}
	data := []byte(`{"flowRules": [` + text.String()[1:] + `]}`)
	objects := testing.AllocsPerRun(3, func() {
		if _, err := Parse(data, KindHTTP); err != nil {
			t.Fatal(err)
		}
	})
	if objects/rules > bound {
		t.Errorf("%.1f objects a rule", objects/rules)
	}
}

// Nothing of one rule is in the next, though both are read into the same place.
func TestRulesAreReadApart(t *testing.T) {
	c, err := Parse([]byte(`{"resource_name": "r", "hotspotRules": [
		{"id": "a", "resource": "r", "metricType": "QPS", "threshold": 1, "durationInSec": 2, "burstCount": 3,
			"paramSource": "Header", "paramKey": "x", "specificItems": [{"valKind": 1, "valStr": "v", "threshold": 4}]},
		{"id": "b", "resource": "r", "threshold": 5, "paramSource": "Host",
			"specificItems": [{"valKind": 1, "valStr": "w", "threshold": 6}]},
		{"resource": "r", "threshold": 7, "paramSource": "Host"}]}`), KindHTTP)
	if err != nil {
		t.Fatal(err)
	}
	got := rule.Of[rule.Hotspot](c.Rules)
	for i, want := range []rule.Hotspot{
		{MetricType: rule.HotspotQPS, Threshold: 1, DurationInSec: 2, BurstCount: 3, Param: rule.Param{ParamSource: rule.Header, ParamKey: "x"},
			SpecificItems: []rule.SpecificItem{{ValKind: rule.KindString, ValStr: "v", Threshold: 4}}},
		{Threshold: 5, Param: rule.Param{ParamSource: rule.Host},
			SpecificItems: []rule.SpecificItem{{ValKind: rule.KindString, ValStr: "w", Threshold: 6}}},
		{Threshold: 7, Param: rule.Param{ParamSource: rule.Host}},
	} {
		want.Target = got[i].Target
		if !reflect.DeepEqual(*got[i], want) {
			t.Errorf("rule %d is %+v, want %+v", i, *got[i], want)
		}
	}
	if ids := got[0].ID + got[1].ID; ids != "ab" || got[2].ID == "" {
		t.Errorf("ids %q, %q", ids, got[2].ID)
	}
}
