// Package javarules writes rules in Java Sentinel's words, as its dashboard knows them. Package config reads them.
package javarules

import (
	"bytes"
	"encoding/json"
	"maps"
	"math"
	"slices"

	"sentinel-envoy/shared/config"
	"sentinel-envoy/shared/rule"
)

// Type is a family of rules by the name that Java Sentinel's commands have for it.
type Type string

// The types.
const (
	Flow      Type = "flow"
	Degrade   Type = "degrade"
	System    Type = "system"
	Authority Type = "authority"
	ParamFlow Type = "paramFlow"
)

// types are the types by the key of a list in a document. A limit on threads is a flow rule there.
var types = map[string]Type{
	rule.FlowFamily.Key: Flow, rule.IsolationFamily.Key: Flow, rule.BreakerFamily.Key: Degrade, rule.SystemFamily.Key: System,
	rule.AuthorityFamily.Key: Authority, rule.HotspotFamily.Key: ParamFlow,
}

// TypeOf is the type of the rules of a list, by our key or Java's, "" where there is none.
func TypeOf(key string) Type {
	own, _ := config.RuleKey(key)
	return types[own]
}

// Key is our key of the list that rules of a type, as Java writes them, stand in.
func (t Type) Key() string {
	for key, of := range types {
		if of == t && key != rule.IsolationFamily.Key {
			return key
		}
	}
	return ""
}

// Object is a rule as JSON has it.
type Object = map[string]any

// defaults are what a rule of Java's says that says nothing.
var defaults = map[Type]Object{
	Flow: {"limitApp": "default", "grade": 1.0, "count": 0.0, "strategy": 0.0, "controlBehavior": 0.0, "warmUpPeriodSec": 10.0,
		"maxQueueingTimeMs": 500.0, "clusterMode": false, "regex": false},
	Degrade: {"limitApp": "default", "grade": 0.0, "count": 0.0, "timeWindow": 0.0, "minRequestAmount": 5.0, "statIntervalMs": 1000.0,
		"slowRatioThreshold": 1.0, "regex": false},
	System:    {"avgRt": -1.0, "highestCpuUsage": -1.0, "highestSystemLoad": -1.0, "maxThread": -1.0, "qps": -1.0, "regex": false},
	Authority: {"limitApp": "default", "strategy": 0.0, "regex": false},
	ParamFlow: {"limitApp": "default", "grade": 1.0, "count": 0.0, "durationInSec": 1.0, "burstCount": 0.0, "controlBehavior": 0.0,
		"maxQueueingTimeMs": 0.0, "paramFlowItemList": []any{}, "clusterMode": false, "regex": false},
}

// further are keys that a rule of Java's may have beside those.
var further = map[Type][]string{
	Flow: {"resource", "refResource", "clusterConfig"}, Degrade: {"resource"}, Authority: {"resource"},
	ParamFlow: {"resource", "paramIdx", "clusterConfig"},
}

// Complete is a rule in Java's words with all that it leaves unsaid, and without what is not the rule's: what Java Sentinel
// itself answers of it. An id is not the rule's: it is a row of a dashboard's memory, and one that has begun anew would put the
// next rule in its place.
func Complete(t Type, r Object) Object {
	full := maps.Clone(defaults[t])
	for key, value := range r {
		_, known := full[key]
		if value != nil && (known || slices.Contains(further[t], key)) {
			full[key] = value
		}
	}
	if full["clusterMode"] != true {
		delete(full, "clusterConfig")
	}
	return full
}

// Same tells whether two complete rules say the same.
func Same(a, b Object) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

// Of is a rule of a filter's in Java's words, complete; ok is false where they cannot say it.
func Of(one rule.Rule, filter *config.Config) (t Type, o Object, ok bool) {
	switch r := one.(type) {
	case *rule.Flow:
		t, o = Flow, flow(r)
	case *rule.Isolation:
		t, o = Flow, Object{"grade": 0, "count": r.Threshold}
	case *rule.CircuitBreaker:
		t, o = Degrade, degrade(r)
	case *rule.System:
		t, o = System, system(r)
	case *rule.Authority:
		t, o = Authority, Object{"strategy": r.Strategy}
	case *rule.Hotspot:
		t, o = ParamFlow, paramFlow(r, filter)
	}
	if o == nil {
		return t, nil, false
	}
	if target := one.For(); t != System {
		o["resource"], o["regex"] = target.Resource, target.Regex
		if target.LimitApp != "" {
			o["limitApp"] = target.LimitApp
		}
	}
	text, err := json.Marshal(o)
	if err != nil || !saysTheSame(one, t, text, filter) {
		return t, nil, false
	}
	plain := Object{}
	if json.Unmarshal(text, &plain) != nil {
		return t, nil, false
	}
	return t, Complete(t, plain), true
}

// saysTheSame tells whether a rule in Java's words, read by a filter, is the rule itself. A breaker's share may be off by what
// makes Java's "more than" of our "at least".
func saysTheSame(one rule.Rule, t Type, text []byte, filter *config.Config) bool {
	bare := *filter
	bare.Rules = nil
	list := slices.Concat([]byte("["), text, []byte("]"))
	read, err := config.ParseRules([]config.Document{{Key: t.Key(), Format: config.Java, Text: list}}, config.KindHTTP, &bare)
	if err != nil || len(read.Rules) != 1 {
		return false
	}
	back := read.Rules[0]
	if b, isBreaker := back.(*rule.CircuitBreaker); isBreaker {
		if own, is := one.(*rule.CircuitBreaker); is && math.Abs(own.Threshold-b.Threshold) < 3e-8 {
			b.Threshold = own.Threshold
		}
	}
	return bytes.Equal(rule.AppendContent(nil, one), rule.AppendContent(nil, back))
}

func flow(r *rule.Flow) Object {
	if r.Cluster != nil {
		return nil
	}
	behavior := 0
	o := Object{"count": r.Threshold, "strategy": r.RelationStrategy}
	if r.TokenCalculateStrategy == rule.WarmUp {
		behavior |= 1
		o["warmUpPeriodSec"] = r.WarmUpPeriodSec
	}
	if r.ControlBehavior == rule.Throttling {
		behavior |= 2
		o["maxQueueingTimeMs"] = r.MaxQueueingTimeMs
	}
	if r.RefResource != "" {
		o["refResource"] = r.RefResource
	}
	o["controlBehavior"] = behavior
	return o
}

func degrade(r *rule.CircuitBreaker) Object {
	o := Object{"grade": r.Strategy, "timeWindow": r.RetryTimeoutMs / 1000, "minRequestAmount": r.MinRequestAmount,
		"statIntervalMs": r.StatIntervalMs}
	share := math.Round(r.Threshold*1e6) / 1e6
	switch r.Strategy {
	case rule.ErrorCount:
		o["count"] = r.Threshold - 1
	case rule.ErrorRatio:
		o["count"] = share
	case rule.SlowRequestRatio:
		o["count"], o["slowRatioThreshold"] = r.MaxAllowedRtMs, share
	}
	return o
}

// Figures are the rules that a complete system rule is, one for each figure that it limits: so Java Sentinel itself has it.
func Figures(r Object) (all []Object) {
	for _, key := range figures {
		if limit, is := r[key].(float64); is && limit >= 0 {
			one := maps.Clone(defaults[System])
			one[key] = limit
			all = append(all, one)
		}
	}
	return all
}

// figures are Java's names of what system rules measure, by rule.SystemMetric.
var figures = []string{"highestSystemLoad", "avgRt", "maxThread", "qps", "highestCpuUsage"}

func system(r *rule.System) Object {
	limit := r.TriggerCount
	if r.MetricType == rule.SystemConcurrency {
		limit-- // Java lets one more in
	}
	return Object{figures[r.MetricType]: limit}
}

// classes are Java's names of the kinds of a value.
var classes = map[rule.ParamKind]string{
	rule.KindInt: "long", rule.KindString: "java.lang.String", rule.KindBool: "boolean", rule.KindFloat64: "double",
}

// paramFlow says a parameter by the number of an argument that is the same parameter.
func paramFlow(r *rule.Hotspot, filter *config.Config) Object {
	i := slices.IndexFunc(filter.Arguments, func(a config.Argument) bool {
		p := a.Param
		return (a.Resource == "" || a.Resource == r.Resource) && p.ParamSource == r.ParamSource && p.ParamKey == r.ParamKey &&
			p.ParamIndex == r.ParamIndex && p.TrustedHops == r.TrustedHops && slices.Equal(p.ParamPath, r.ParamPath)
	})
	if i < 0 {
		return nil
	}
	items := []Object{}
	for _, item := range r.SpecificItems {
		items = append(items, Object{"object": item.ValStr, "count": item.Threshold, "classType": classes[item.ValKind]})
	}
	o := Object{"paramIdx": filter.Arguments[i].Index, "count": r.Threshold, "grade": r.MetricType, "durationInSec": r.DurationInSec,
		"burstCount": r.BurstCount, "maxQueueingTimeMs": r.MaxQueueingTimeMs, "paramFlowItemList": items}
	if r.ControlBehavior == rule.Throttling {
		o["controlBehavior"] = 2
	}
	return o
}
