package rule_test

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/alibaba/sentinel-golang/core/circuitbreaker"
	"github.com/alibaba/sentinel-golang/core/flow"
	"github.com/alibaba/sentinel-golang/core/hotspot"
	"github.com/alibaba/sentinel-golang/core/isolation"
	"github.com/alibaba/sentinel-golang/core/system"

	"sentinel-envoy/shared/rule"
)

// jsonNames maps the JSON names of a struct's fields to the kinds of their types, signed or not and of any width.
func jsonNames(v any) map[string]string {
	names := map[string]string{}
	for _, f := range reflect.VisibleFields(reflect.TypeOf(v)) {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		// What Sentinel does not have is left out where it says nothing.
		ours := options == "omitempty" && strings.HasPrefix(reflect.TypeOf(v).PkgPath(), "sentinel-envoy/")
		if f.Anonymous || name == "-" || ours {
			continue
		}
		kind := f.Type.Kind().String()
		if strings.HasPrefix(strings.TrimPrefix(kind, "u"), "int") {
			kind = "integer"
		}
		names[name] = kind
	}
	return names
}

// specificValue is upstream's ext/datasource.SpecificValue; that package would bring its test dependencies along.
type specificValue struct {
	ValKind   int    `json:"valKind"`
	ValStr    string `json:"valStr"`
	Threshold int64  `json:"threshold"`
}

func TestFieldsAreUpstreams(t *testing.T) {
	for _, c := range []struct{ ours, upstream any }{
		{rule.Flow{}, flow.Rule{}},
		{rule.CircuitBreaker{}, circuitbreaker.Rule{}},
		{rule.Isolation{}, isolation.Rule{}},
		{rule.Hotspot{}, hotspot.Rule{}},
		{rule.SpecificItem{}, specificValue{}},
		{rule.System{}, system.Rule{}},
	} {
		ours, want := jsonNames(c.ours), jsonNames(c.upstream)
		if _, ok := want["resource"]; ok {
			want["regex"], want["limitApp"] = "bool", "string" // the fields of our own; the latter is Java Sentinel's
		} else { // a target that is all resources
			delete(ours, "resource")
			delete(ours, "regex")
			delete(ours, "limitApp")
		}
		if _, ok := want["specificItems"]; ok {
			// Of our own: there the program passes parameters.
			want["paramSource"], want["trustedHops"], want["paramPath"], want["params"] = "integer", "integer", "slice", "slice"
			want["v4PrefixLen"], want["v6PrefixLen"], want["lowercase"], want["missing"] = "integer", "integer", "bool", "integer"
			want["specificItems"] = "slice" // as upstream's data source writes it: JSON has no map with other keys than strings
		}
		if _, ok := want["valStr"]; ok {
			want["shared"] = "bool"
		}
		if !reflect.DeepEqual(ours, want) {
			t.Errorf("%T has %v\n%T has %v", c.ours, ours, c.upstream, want)
		}
	}
}

func TestEnumerationsAreUpstreams(t *testing.T) {
	type named interface{ String() string }
	for _, c := range []struct{ ours, upstream named }{
		{rule.Direct, flow.Direct}, {rule.WarmUp, flow.WarmUp}, {rule.MemoryAdaptive, flow.MemoryAdaptive},
		{rule.Reject, flow.Reject}, {rule.Throttling, flow.Throttling},
		{rule.Reject, hotspot.Reject}, {rule.Throttling, hotspot.Throttling},
		{rule.CurrentResource, flow.CurrentResource}, {rule.AssociatedResource, flow.AssociatedResource},
		{rule.SlowRequestRatio, circuitbreaker.SlowRequestRatio}, {rule.ErrorRatio, circuitbreaker.ErrorRatio},
		{rule.ErrorCount, circuitbreaker.ErrorCount},
		{rule.IsolationConcurrency, isolation.Concurrency},
		{rule.HotspotConcurrency, hotspot.Concurrency}, {rule.HotspotQPS, hotspot.QPS},
		{rule.SystemLoad, system.Load}, {rule.SystemAvgRT, system.AvgRT}, {rule.SystemConcurrency, system.Concurrency},
		{rule.SystemInboundQPS, system.InboundQPS}, {rule.SystemCPUUsage, system.CpuUsage},
		{rule.NoAdaptive, system.NoAdaptive}, {rule.BBR, system.BBR},
	} {
		if c.ours.String() != c.upstream.String() || integer(c.ours) != integer(c.upstream) {
			t.Errorf("%T: %d %s, upstream %d %s", c.ours, integer(c.ours), c.ours, integer(c.upstream), c.upstream)
		}
	}
}

// The kinds of ext/datasource.ParamKind, in its order.
func TestParamKinds(t *testing.T) {
	for i, want := range []string{"KindInt", "KindString", "KindBool", "KindFloat64", "Undefined"} {
		if got := rule.ParamKind(i).String(); got != want {
			t.Errorf("%d is %s, want %s", i, got, want)
		}
	}
}

func integer(v any) int64 {
	if r := reflect.ValueOf(v); r.CanInt() {
		return r.Int()
	}
	return int64(reflect.ValueOf(v).Uint())
}

// Every field but the id is content: setting any of them must change the canonical form and with it the hash.
func TestHashCoversEveryField(t *testing.T) {
	for _, r := range []rule.Rule{&rule.Authority{Refused: &rule.Origins{}}, &rule.Flow{}, &rule.CircuitBreaker{}, &rule.Isolation{}, &rule.Hotspot{}, &rule.System{}} {
		zero := rule.Hash("x", r)
		if rule.Hash("y", r) == zero {
			t.Errorf("%T: the hash leaves out the id", r)
		}
		eachField(r, func(name string, field reflect.Value) {
			setSomething(field)
			if changed, isContent := rule.Hash("x", r) != zero, name != "ID"; changed != isContent {
				t.Errorf("%T.%s: changes the hash: %v, want %v", r, name, changed, isContent)
			}
			field.SetZero()
		})
	}
}

// So does each part of whose requests a rule is about.
func TestHashCoversOrigins(t *testing.T) {
	plain := rule.Hash("x", &rule.Flow{Target: rule.Target{Only: &rule.Origins{}}})
	for _, o := range []rule.Origins{
		{Names: []string{"a"}}, {Others: true}, {From: rule.Origin{Source: rule.Header}},
		{From: rule.Origin{Name: "a"}}, {From: rule.Origin{TrustedHops: 1}},
	} {
		if rule.Hash("x", &rule.Flow{Target: rule.Target{Only: &o}}) == plain {
			t.Errorf("%+v has the hash of none", o)
		}
	}
	if rule.Hash("x", &rule.Flow{}) == plain {
		t.Error("a rule for all has the hash of one for some")
	}
}

// So does each part of how a rule is tried out.
func TestHashCoversTrials(t *testing.T) {
	some, seen := 50.0, map[uint64]bool{rule.Hash("x", &rule.Flow{}): true}
	for i, trial := range []rule.Trial{
		{Mode: rule.Shadow}, {Action: rule.Annotate}, {EnabledPercent: &some}, {EnforcedPercent: &some}, {Candidates: []float64{50}},
		{Candidates: []float64{50, 60}},
	} {
		h := rule.Hash("x", &rule.Flow{Target: rule.Target{Trial: &trial}})
		if seen[h] {
			t.Errorf("trial %d has the hash of another", i)
		}
		seen[h] = true
	}
	if n := reflect.TypeFor[rule.Trial]().NumField(); n != 5 {
		t.Errorf("%d fields, and five are looked at", n)
	}
}

func eachField(r rule.Rule, f func(name string, field reflect.Value)) {
	v := reflect.ValueOf(r).Elem()
	for _, field := range reflect.VisibleFields(v.Type()) {
		of := field.Name
		if _, tried := reflect.TypeFor[rule.Trial]().FieldByName(of); tried {
			continue // TestHashCoversTrials
		}
		if field.Anonymous || of == "Pattern" || of == "Only" || of == "Refused" ||
			r.Family() != rule.AuthorityFamily && of == "LimitApp" || r.Family() == rule.SystemFamily && (of == "Resource" || of == "Regex") {
			continue
		}
		f(of, v.FieldByIndex(field.Index))
	}
}

// A rule without an id is named by what names its budget: a field that is no part of that leaves the id as it is.
func TestIDsAreOfWhatNamesTheBudget(t *testing.T) {
	target := rule.Target{Resource: "/login"}
	named := "Resource Regex "
	for _, c := range []struct {
		rule   rule.Rule
		id     string
		naming string // the fields that change it
	}{
		{&rule.Flow{Target: target, StatIntervalInMs: 1000}, "flow-1000ms-/login",
			named + "StatIntervalInMs Window Burst TokenCalculateStrategy ControlBehavior Cluster CountOnly Unit"},
		{&rule.Flow{Target: target, StatIntervalInMs: 500, RelationStrategy: rule.AssociatedResource, RefResource: "a)b",
			TokenCalculateStrategy: rule.WarmUp, ControlBehavior: rule.Throttling}, "flow-500ms-WarmUp-Throttling-of(a))b)-/login",
			named + "StatIntervalInMs Window Burst TokenCalculateStrategy ControlBehavior RelationStrategy RefResource Cluster CountOnly Unit"},
		{&rule.CircuitBreaker{Target: target, Strategy: rule.ErrorCount, StatIntervalMs: 2000}, "circuitBreaker-ErrorCount-2000ms-/login",
			named + "Strategy StatIntervalMs StatSlidingWindowBucketCount"},
		{&rule.Isolation{Target: target}, "isolation-Concurrency-/login", named + "MetricType"},
		{&rule.Hotspot{Target: target, MetricType: rule.HotspotQPS, DurationInSec: 1, Param: rule.Param{ParamSource: rule.Header, ParamKey: "X-User"}},
			"hotspot-QPS-1s-Header(x-user)-/login",
			named + "MetricType ControlBehavior DurationInSec Unit ParamSource ParamKey ParamPath V4PrefixLen V6PrefixLen Lowercase Params CountOnly"},
		{&rule.Hotspot{Target: target, Param: rule.Param{ParamSource: rule.SourceAddress, TrustedHops: 2}}, "hotspot-Concurrency-SourceAddress(2)-/login",
			named + "MetricType ParamSource ParamKey ParamPath TrustedHops V4PrefixLen V6PrefixLen Lowercase Params CountOnly"},
		{&rule.Hotspot{Target: target, Param: rule.Param{ParamSource: rule.PathSegment, ParamIndex: -1}}, "hotspot-Concurrency-PathSegment(-1)-/login",
			named + "MetricType ParamSource ParamKey ParamPath ParamIndex V4PrefixLen V6PrefixLen Lowercase Params CountOnly"},
		{&rule.Hotspot{Target: target, Param: rule.Param{ParamSource: rule.Property, ParamPath: []string{"connection", "mtls"}}},
			"hotspot-Concurrency-Property(connection/mtls)-/login", named + "MetricType ParamSource ParamPath V4PrefixLen V6PrefixLen Lowercase Params CountOnly"},
		{&rule.Hotspot{Target: target, Params: []rule.Param{{ParamSource: rule.Header, ParamKey: "X-Tenant", Lowercase: true}, {ParamSource: rule.SourceAddress, V4PrefixLen: 24, V6PrefixLen: 64}}},
			"hotspot-Concurrency-Header(x-tenant,lowercase)+SourceAddress(v4/24v6/64)-/login", named + "MetricType Params CountOnly"},
		{&rule.Flow{Target: rule.Target{Resource: "/login", LimitApp: "shop)", Only: &rule.Origins{}}, StatIntervalInMs: 500},
			"flow-500ms-limitApp(shop)))-/login", named + "StatIntervalInMs Window Burst TokenCalculateStrategy ControlBehavior Cluster CountOnly Unit"},
		{&rule.Authority{Target: target, Refused: &rule.Origins{}}, "authority-allow-/login", named + "Strategy"},
		{&rule.System{MetricType: rule.SystemLoad, Strategy: rule.BBR}, "system-load-bbr", "MetricType Strategy"},
	} {
		if got := rule.IDOf(c.rule, 1); got != c.id {
			t.Errorf("id %s, want %s", got, c.id)
		}
		if got, want := rule.IDOf(c.rule, 2), strings.Replace(c.id, "-", "#2-", 1); got != want {
			t.Errorf("the second one has the id %s, want %s", got, want)
		}
		naming := strings.Fields(c.naming)
		eachField(c.rule, func(name string, field reflect.Value) {
			before := reflect.ValueOf(field.Interface())
			setSomething(field)
			if changed := rule.IDOf(c.rule, 1) != c.id; changed != slices.Contains(naming, name) {
				t.Errorf("%s: another %s changes the id: %t", c.id, name, changed)
			}
			field.Set(before)
		})
	}
}

// Ids have a bound, and what is cut off still tells them apart.
func TestLongIDs(t *testing.T) {
	seen := map[string]bool{}
	for _, end := range []string{"", "x", "y"} {
		r := &rule.Flow{Target: rule.Target{Resource: "/" + strings.Repeat("ü", 127) + end}, StatIntervalInMs: 1000}
		id := rule.IDOf(r, 1)
		if len(id) > rule.MaxID || !utf8.ValidString(id) || !strings.HasPrefix(id, "flow-1000ms-/üü") || seen[id] {
			t.Errorf("%d bytes: %s", len(id), id)
		}
		seen[id] = true
	}
}

func setSomething(v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		v.SetString("a")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Float64:
		v.SetFloat(0.5)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
	default:
		if v.CanInt() {
			v.SetInt(7)
		} else {
			v.SetUint(7)
		}
	}
}

func TestNeighbouringStringsStayApart(t *testing.T) {
	a, b := rule.Flow{Target: rule.Target{Resource: "ab"}, RefResource: "c"}, rule.Flow{Target: rule.Target{Resource: "a"}, RefResource: "bc"}
	if rule.Hash("", &a) == rule.Hash("", &b) {
		t.Error("two rules have one hash")
	}
}
