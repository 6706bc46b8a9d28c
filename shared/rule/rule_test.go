package rule_test

import (
	"reflect"
	"strings"
	"testing"

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
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous || name == "-" {
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
			want["regex"] = "bool" // the one field of our own
		} else { // a target that is all resources
			delete(ours, "resource")
			delete(ours, "regex")
		}
		if _, ok := want["specificItems"]; ok {
			// Of our own: there the program passes parameters.
			want["paramSource"], want["trustedHops"], want["paramPath"] = "integer", "integer", "slice"
			want["specificItems"] = "slice" // as upstream's data source writes it: JSON has no map with other keys than strings
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

// Every field but the id is content: setting any of them must change the canonical form and with it id and hash.
func TestContentIDCoversEveryField(t *testing.T) {
	for _, r := range []rule.Rule{&rule.Flow{}, &rule.CircuitBreaker{}, &rule.Isolation{}, &rule.Hotspot{}, &rule.System{}} {
		v := reflect.ValueOf(r).Elem()
		zero, zeroHash := rule.ContentID(r), rule.Hash("x", r)
		if !strings.HasPrefix(zero, r.Family().Name+"-") || len(zero) != len(r.Family().Name)+1+32 {
			t.Errorf("%T: id %q", r, zero)
		}
		if rule.Hash("y", r) == zeroHash {
			t.Errorf("%T: the hash leaves out the id", r)
		}
		for _, f := range reflect.VisibleFields(v.Type()) {
			name := f.Name
			if f.Anonymous || name == "Pattern" || r.Family() == rule.SystemFamily && (name == "Resource" || name == "Regex") {
				continue
			}
			field := v.FieldByIndex(f.Index)
			setSomething(field)
			isContent := name != "ID"
			if changed := rule.ContentID(r) != zero; changed != isContent {
				t.Errorf("%T.%s: changes the id: %v, want %v", r, name, changed, isContent)
			}
			if changed := rule.Hash("x", r) != zeroHash; changed != isContent {
				t.Errorf("%T.%s: changes the hash: %v, want %v", r, name, changed, isContent)
			}
			field.SetZero()
		}
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
	if rule.ContentID(&a) == rule.ContentID(&b) {
		t.Error("two rules have one id")
	}
}
