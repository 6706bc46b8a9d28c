package config_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"gopkg.in/yaml.v3"

	"sentinel-envoy/shared/config"
	"sentinel-envoy/shared/engine"
	"sentinel-envoy/shared/host"
	"sentinel-envoy/shared/host/memhost"
	"sentinel-envoy/shared/outcome"
	"sentinel-envoy/shared/resource"
	"sentinel-envoy/shared/rule"
)

// FuzzParse reads a document, one value in it replaced by an odd one, and again as the protobuf that Envoy makes of it. What is refused is refused with places and
// reasons; what is accepted decides, means the same when it is written out again, and names metrics of its own only.
func FuzzParse(f *testing.F) {
	for _, doc := range append(documents(f), javaDocument) {
		for kind := range uint8(3) {
			f.Add(doc, kind, uint16(0), uint8(0))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte, k uint8, at uint16, leaf uint8) {
		kind := config.Kind(k % 3)
		data = replaceLeaf(data, int(at), int(leaf))
		cfg, err := config.Parse(data, kind)
		again, errAgain := config.Parse(data, kind)
		if fmt.Sprint(err) != fmt.Sprint(errAgain) || cfg != nil && cfg.RuleHash != again.RuleHash {
			t.Fatalf("%v, then %v", err, errAgain)
		}
		if (cfg == nil) == (err == nil) {
			t.Fatalf("configuration %v with error %v", cfg, err)
		}
		if err != nil {
			checkMistakes(t, err)
			return
		}
		sameAsStruct(t, data, kind, cfg)
		sameWrittenOut(t, cfg)
		decides(t, kind, cfg)
	})
}

// FuzzFromStruct reads bytes as a protobuf Struct. What is one becomes the JSON that protobuf itself makes of it.
func FuzzFromStruct(f *testing.F) {
	f.Add([]byte("\n\x06\n\x01a\x12\x01\x00"))
	f.Add([]byte("\n\x0a\n\x01a\x12\x05\x32\x03\x0a\x01\x00"))
	for _, doc := range documents(f) {
		if wire, err := wireOf(doc); err == nil {
			f.Add(wire)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		text, ok := config.FromStruct(data)
		if !ok {
			return
		}
		if len(text) > 16*len(data)+64 {
			t.Errorf("%d bytes became %d", len(data), len(text))
		}
		if utf8.Valid(data) && !json.Valid(text) {
			t.Errorf("%q became %q", data, text)
		}
		if _, err := config.Parse(text, config.KindHTTP); err != nil {
			checkMistakes(t, err)
		}
		var message structpb.Struct
		if proto.Unmarshal(data, &message) != nil {
			return
		}
		if want, err := protojson.Marshal(&message); err == nil && !sameJSON(want, text) {
			t.Errorf("%q became\n%s, want\n%s", data, text, want)
		}
	})
}

// javaDocument has a rule of each of Java Sentinel's families.
var javaDocument = []byte(`{"resource_name": "r", "system_source": {"cluster": "c"}, "origin": {"from": "SourceAddress"},
	"arguments": [{"paramIdx": 0, "paramSource": "SourceAddress"}],
	"flowRules": [{"resource": "r", "limitApp": "other", "count": 5, "controlBehavior": 3}, {"resource": "r", "grade": 0, "count": 2, "id": 3}],
	"circuitBreakerRules": [{"resource": "r", "grade": 0, "count": 50, "timeWindow": 1}, {"resource": "r", "grade": 2, "count": 5, "timeWindow": 1}],
	"hotspotRules": [{"app": "a", "rule": {"resource": "r", "paramIdx": 0, "count": 2, "paramFlowItemList": [{"object": "10.0.0.0/8", "count": 3, "classType": "String"}]}}],
	"systemRules": [{"highestSystemLoad": 1, "avgRt": 2, "maxThread": 3, "qps": 4, "highestCpuUsage": 0.5}],
	"authorityRules": [{"resource": "r", "limitApp": "10.0.0.1,10.0.0.2", "strategy": 1}]}`)

// documents are configurations to begin with: those of the examples, which have every family.
func documents(f *testing.F) (docs [][]byte) {
	files, err := filepath.Glob("../../envoy/examples/*.yaml")
	if err != nil || len(files) == 0 {
		f.Fatal("no examples: ", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		var bootstrap any
		if err := yaml.Unmarshal(text, &bootstrap); err != nil {
			f.Fatal(err)
		}
		for _, found := range configurations(bootstrap) {
			doc, err := json.Marshal(found)
			if err != nil {
				f.Fatal(err)
			}
			docs = append(docs, doc)
		}
	}
	return docs
}

// configurations are the plugin configurations anywhere in a bootstrap.
func configurations(v any) (found []any) {
	switch v := v.(type) {
	case map[string]any:
		if c, ok := v["configuration"].(map[string]any); ok && c["value"] != nil {
			found = append(found, c["value"])
		}
		for _, key := range slices.Sorted(maps.Keys(v)) {
			found = append(found, configurations(v[key])...)
		}
	case []any:
		for _, e := range v {
			found = append(found, configurations(e)...)
		}
	}
	return found
}

// odd are values that a configuration may have where others are meant.
var odd = []string{
	`null`, `true`, `-1`, `0`, `1`, `2`, `20`, `0.5`, `1e308`, `9007199254740991`, `4294967295`, `3600000`, `5e-324`, `""`, `"NaN"`,
	`"-Infinity"`, `"1e3"`, `"/"`, `"r"`, `";rule=x"`, `"."`, `"\u0000"`, `"ü"`, `"("`, `".*"`, `"WarmUp"`, `"*.a"`, `"5xx"`, `[]`, `[[]]`,
	`{}`, `{"resource": "/", "threshold": 1}`, `[{"resource": "/", "threshold": 1}, {"resource": "/", "threshold": 1}]`,
	`"` + strings.Repeat("x", 300) + `"`,
}

// replaceLeaf puts one of the odd values in place of the value of a document that is the at-th. With 0, or where data is no
// JSON, it is as it was.
func replaceLeaf(data []byte, at, leaf int) []byte {
	var doc any
	if leaf == 0 || json.Unmarshal(data, &doc) != nil {
		return data
	}
	n := at % max(count(doc), 1)
	text, err := json.Marshal(replaced(doc, &n, json.RawMessage(odd[leaf%len(odd)])))
	if err != nil {
		return data
	}
	return text
}

// count is the number of values in a document, itself included.
func count(v any) int {
	n := 1
	switch v := v.(type) {
	case map[string]any:
		for _, e := range v {
			n += count(e)
		}
	case []any:
		for _, e := range v {
			n += count(e)
		}
	}
	return n
}

// replaced is the document with another value in the place of the nth.
func replaced(v any, n *int, by json.RawMessage) any {
	if *n--; *n == -1 {
		return by
	}
	switch v := v.(type) {
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			v[key] = replaced(v[key], n, by)
		}
	case []any:
		for i := range v {
			v[i] = replaced(v[i], n, by)
		}
	}
	return v
}

// checkMistakes wants a reason for each, and places and reasons of a bounded length that can be printed.
func checkMistakes(t *testing.T, err error) {
	t.Helper()
	list, ok := err.(config.Errors)
	if !ok || len(list) == 0 || len(list) > 51 {
		t.Fatalf("%d mistakes, %T", len(list), err)
	}
	for _, e := range list {
		if e.Reason == "" || len(e.Error()) > 2000 || !utf8.ValidString(e.Error()) ||
			strings.ContainsFunc(e.Error(), func(r rune) bool { return r < ' ' || r == 0x7f }) {
			t.Errorf("%q: %q", e.Path, e.Reason)
		}
	}
}

func wireOf(doc []byte) ([]byte, error) {
	var message structpb.Struct
	if err := protojson.Unmarshal(doc, &message); err != nil {
		return nil, err
	}
	return proto.MarshalOptions{Deterministic: true}.Marshal(&message)
}

func sameJSON(a, b []byte) bool {
	var x, y any
	if json.Unmarshal(a, &x) != nil || json.Unmarshal(b, &y) != nil {
		return false
	}
	return fmt.Sprintf("%#v", x) == fmt.Sprintf("%#v", y)
}

// sameAsStruct wants the same of the protobuf that Envoy makes of the document.
func sameAsStruct(t *testing.T, data []byte, kind config.Kind, want *config.Config) {
	t.Helper()
	wire, err := wireOf(data)
	if err != nil || len(wire) == 0 {
		return // null, or nothing
	}
	text, ok := config.FromStruct(wire)
	if !ok {
		t.Fatalf("the Struct of %s was not read", data)
	}
	got, err := config.Parse(text, kind)
	if err != nil || got.RuleHash != want.RuleHash {
		t.Errorf("as a Struct: %v\n%s\n%s", err, data, text)
	}
}

// sameWrittenOut wants rules that are written out as they were completed to be the same rules.
func sameWrittenOut(t *testing.T, cfg *config.Config) {
	t.Helper()
	written, kind := map[string]any{"system_source": map[string]any{"cluster": "c"}}, config.KindVM
	if o := cfg.Origin; o != nil { // then it must be a filter's, and have every resource
		kind = config.KindHTTP
		from := map[string]any{"from": o.Source.String(), "trusted_hops": o.TrustedHops}
		if o.Name != "" {
			from["name"] = o.Name
		}
		written["origin"], written["resources"] = from, everyResource(cfg)
	}
	if s := cfg.RateLimitService; s != nil {
		written["rate_limit_service"] = map[string]any{"cluster": s.Cluster, "domain": s.Domain, "timeout_ms": s.TimeoutMs}
	}
	for _, r := range cfg.Rules {
		if c := clusterOf(r); c != nil {
			written["rate_limit_service"] = map[string]any{"cluster": c.Service.Cluster, "domain": c.Service.Domain, "timeout_ms": c.Service.TimeoutMs}
		}
		list, _ := written[r.Family().Key].([]any)
		written[r.Family().Key] = append(list, writtenOut(t, r))
	}
	doc, err := json.Marshal(written)
	if err != nil {
		t.Fatal(err)
	}
	again, err := config.Parse(doc, kind)
	if err != nil || again.RuleHash != cfg.RuleHash {
		t.Errorf("written out, the rules are others: %v\n%s", err, doc)
	}
}

// everyResource are entries for all resources that a configuration names.
func everyResource(cfg *config.Config) (entries []any) {
	names := map[string]bool{cfg.ResourceName: true}
	for _, r := range cfg.Resources {
		names[r.Name] = true
	}
	for _, r := range cfg.Rules {
		names[r.For().Resource] = true
	}
	delete(names, "")
	for name := range names {
		entries = append(entries, map[string]any{"name": name, "match": map[string]any{"method": []string{"GET"}}})
	}
	return entries
}

// clusterOut is what a rule says of several Envoys, as its keys.
func clusterOut(c *rule.Cluster, keys map[string]any) {
	if c == nil {
		return
	}
	config := map[string]any{
		"thresholdType": c.ThresholdType, "fallbackToLocalWhenFail": c.FallbackToLocalWhenFail, "clusterSize": c.ClusterSize,
		"windowIntervalMs": c.WindowIntervalMs,
	}
	if c.FlowID != 0 {
		config["flowId"] = c.FlowID
	}
	keys["clusterMode"], keys["clusterConfig"] = c.On, config
}

// costOut is what a rule says of how many permits an entry takes, as its key.
func costOut(c *rule.Cost, keys map[string]any) {
	switch {
	case c == nil:
	case c.ParamSource == rule.NoParam:
		keys["batchCount"] = c.Default
	default:
		keys["batchCount"] = map[string]any{"from": c.ParamSource, "name": c.ParamKey, "default": c.Default, "max": c.Max}
	}
}

// writtenOut is a rule's JSON: a system rule has no keys for a resource, and an empty list is none that is null.
func writtenOut(t *testing.T, r rule.Rule) (keys map[string]any) {
	t.Helper()
	text, err := json.Marshal(r)
	if err == nil {
		err = json.Unmarshal(text, &keys)
	}
	if err != nil {
		t.Fatal(err)
	}
	if r.Family() == rule.SystemFamily {
		delete(keys, "resource")
		delete(keys, "regex")
		delete(keys, "limitApp")
	}
	switch r := r.(type) {
	case *rule.Flow:
		clusterOut(r.Cluster, keys)
		costOut(r.Cost, keys)
	case *rule.Hotspot:
		clusterOut(r.Cluster, keys)
		costOut(r.Cost, keys)
	}
	if keys["paramPath"] == nil {
		delete(keys, "paramPath")
	}
	if keys["specificItems"] == nil {
		delete(keys, "specificItems")
	}
	if h, ok := r.(*rule.Hotspot); ok {
		writtenHotspot(h, keys)
	}
	if c := clusterOf(r); c != nil {
		of := map[string]any{
			"thresholdType": c.ThresholdType, "fallbackToLocalWhenFail": c.FallbackToLocalWhenFail, "clusterSize": c.ClusterSize,
			"windowIntervalMs": c.WindowIntervalMs,
		}
		if c.FlowID != 0 {
			of["flowId"] = c.FlowID
		}
		keys["clusterMode"], keys["clusterConfig"] = true, of
	}
	return keys
}

// clusterOf is how a rule is in cluster mode, nil where it is not.
func clusterOf(r rule.Rule) *rule.Cluster {
	switch r := r.(type) {
	case *rule.Flow:
		return r.Cluster
	case *rule.Hotspot:
		return r.Cluster
	}
	return nil
}

// writtenHotspot leaves out what goes without saying: of items that are unlimited the threshold, and beside several parameters
// the one.
func writtenHotspot(h *rule.Hotspot, keys map[string]any) {
	for i, item := range h.SpecificItems {
		of := keys["specificItems"].([]any)[i].(map[string]any)
		if item.Threshold == rule.Unlimited {
			of["unlimited"] = true
			delete(of, "threshold")
		}
		if item.Pattern != rule.NoPattern {
			of["valPattern"] = map[string]any{item.Pattern.String(): item.ValStr}
			delete(of, "valStr")
		}
	}
	if list, ok := keys["params"].([]any); ok {
		for key := range list[0].(map[string]any) {
			delete(keys, key)
		}
	}
}

// names is a host that knows the names of its metrics.
type names struct {
	*memhost.Worker
	defined map[string]bool
}

// Define implements host.Metrics.
func (n *names) Define(kind host.MetricKind, name string) (uint32, error) {
	n.defined[name] = true
	return n.Worker.Define(kind, name)
}

var metricName = regexp.MustCompile(`^sentinel_[a-z_]+(;resource=[^;=%\x00-\x20\x7f]*(%[0-9A-F]{2}[^;=%\x00-\x20\x7f]*)*)?` +
	`(;rule=[^;=%\x00-\x20\x7f]*(%[0-9A-F]{2}[^;=%\x00-\x20\x7f]*)*)?(;kind=[a-zA-Z]+)?(;worker=[0-9]+)?$`)

// decides runs a filter by the configuration: each resource is asked for, and the metrics are told.
func decides(t *testing.T, kind config.Kind, cfg *config.Config) {
	t.Helper()
	process := memhost.NewProcess(1000e9)
	h := &names{Worker: process.Worker(nil), defined: map[string]bool{}}
	vm := engine.New(h, "fuzz")
	filter := newFilter(t, vm, kind, cfg)
	filter.Stream.Of(someone{})
	entries := make([]engine.Entry, 0, 100)
	for _, name := range resources(cfg) {
		var e engine.Entry
		if b := filter.Enter(name, process.Now(), &e); b != nil {
			if text := string(filter.Explain(b, process.Now()).AppendText(nil)); len(text) > 2000 || !strings.HasSuffix(text, "\n") {
				t.Errorf("explained as %q", text)
			}
			continue
		}
		if until, waits := e.Waiting(); waits && until <= process.Now() {
			t.Errorf("%s waits until %d, at %d", name, until, process.Now())
		}
		entries = append(entries, e)
	}
	for range 60 {
		process.Advance(20e6)
		vm.Tick(process.Now())
	}
	for i := range entries {
		entries[i].Exit(process.Now(), outcome.End{Outcome: outcome.Outcome(i % 3)})
	}
	filter.Drain()
	vm.Tick(process.Now() + 1e9)
	for name := range h.defined {
		if !metricName.MatchString(name) {
			t.Errorf("a metric has the name %q", name)
		}
	}
	if got, _ := process.Metric("sentinel_faults"); got != 0 {
		t.Errorf("%d faults: %q", got, h.Lines())
	}
}

func newFilter(t *testing.T, vm *engine.VM, kind config.Kind, cfg *config.Config) *engine.Filter {
	t.Helper()
	var err error
	var filter *engine.Filter
	switch kind {
	case config.KindVM:
		filter = vm.NewFilter("sentinel_http", &config.Config{ResourceName: "r"}, cfg)
	case config.KindHTTP:
		filter = vm.NewFilter("sentinel_http", cfg, nil)
		_, err = resource.NewHTTP(cfg, filter.Resources(), filter.Stream)
	case config.KindTCP:
		filter = vm.NewFilter("sentinel_tcp", cfg, nil)
		_, err = resource.NewTCP(cfg, filter.Stream)
	}
	if err != nil {
		t.Errorf("accepted, but no resolver can be made of it: %v", err)
	}
	return filter
}

// resources are some that the configuration names.
func resources(cfg *config.Config) []string {
	list := []string{cfg.ResourceName, "/", "r"}
	for _, r := range cfg.Resources {
		list = append(list, r.Name)
	}
	for _, r := range cfg.Rules {
		list = append(list, r.For().Resource, r.For().Resource)
	}
	return list[:min(len(list), 100)]
}

// someone is a client that has everything.
type someone struct{}

// Header implements request.Host.
func (someone) Header(string) (string, bool) { return "/a/b?c=d", true }

// Lines implements request.Host.
func (someone) Lines(dst []string, _ string) []string { return append(dst, "a", "b", "c", "d", "e") }

// Property implements request.Host.
func (someone) Property([]string) (string, bool) { return netip.IPv6Unspecified().String(), true }
