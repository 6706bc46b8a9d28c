package config

import (
	"math"
	"strconv"

	"github.com/buger/jsonparser"

	"sentinel-envoy/shared/rule"
)

// Format says in whose words the rules of a document are.
type Format int

const (
	Guess    Format = iota // each in ours or in Java Sentinel's, as its keys tell: the default
	Sentinel               // ours, which are sentinel-golang's
	Java                   // Java Sentinel's, also where a rule has no key that is Java's alone
)

// javaFlow is what a flow rule says in Java Sentinel's words alone.
type javaFlow struct {
	grade, strategy int32
	count           float64
}

func (r *rules) javaFlowFields(j *javaFlow) []field {
	return []field{
		{"count", r.number(&j.count)},
		{"grade", integer(r.parser, &j.grade, 0, 1)},
		{"strategy", func(at *place, v value) {
			if integer(r.parser, &j.strategy, 0, 2)(at, v); j.strategy == 2 {
				r.add(at, "2 (chain): a request here has no call chain; give what comes that way a resource of its own")
			}
		}},
	}
}

// fromJavaFlow makes a flow rule of one in Java Sentinel's words. It reports whether it is one: a limit on threads is an
// isolation rule, which is kept at once.
func (r *rules) fromJavaFlow(s *saying, d *flowDraft, f *rule.Flow) bool {
	r.require(s, "count")
	f.Threshold, f.RelationStrategy = d.java.count, rule.RelationStrategy(d.java.strategy)
	if s.has("grade") && d.java.grade == 0 {
		return r.fromJavaThreads(s, d, f)
	}
	var behavior int32
	if s.has("controlBehavior") {
		integer(r.parser, &behavior, 0, 3)(s.at.at("controlBehavior"), d.behavior)
	}
	warmUp, throttling := behavior&1 != 0, behavior&2 != 0
	f.WarmUpPeriodSec = javaDefault(s, warmUp, "warmUpPeriodSec", f.WarmUpPeriodSec, 10)
	f.MaxQueueingTimeMs = javaDefault(s, throttling, "maxQueueingTimeMs", f.MaxQueueingTimeMs, 500)
	if warmUp {
		f.TokenCalculateStrategy = rule.WarmUp
	}
	if throttling {
		f.ControlBehavior = rule.Throttling
	}
	if f.RelationStrategy == rule.CurrentResource {
		f.RefResource = "" // the dashboard keeps it
	}
	return true
}

// javaDefault is a value that is in use or not: as it was written, or Java Sentinel's default.
func javaDefault(s *saying, inUse bool, key string, written, otherwise uint32) uint32 {
	switch {
	case !inUse:
		return 0
	case s.has(key):
		return written
	}
	return otherwise
}

// fromJavaThreads keeps the isolation rule that a flow rule of grade 0 is. One without room for an entry stays a flow rule.
func (r *rules) fromJavaThreads(s *saying, d *flowDraft, f *rule.Flow) bool {
	if f.RelationStrategy != rule.CurrentResource {
		r.add(s.at.at("strategy"), "must be 0 with grade 0: the threads of another resource are not counted here")
	}
	f.WarmUpPeriodSec, f.MaxQueueingTimeMs, f.RefResource = 0, 0, ""
	if d.java.count < 1 {
		f.Threshold = 0
		return true
	}
	i := &rule.Isolation{Target: f.Target, Threshold: uint32(min(d.java.count, maxUint32))}
	r.checkResource(s.at, &i.Target)
	r.include(s, i)
	return false
}

// javaDegrade is what a circuit breaker says in Java Sentinel's words alone.
type javaDegrade struct {
	grade     rule.BreakerStrategy
	count     float64
	window    uint32
	slowRatio float64
}

func (r *rules) javaDegradeFields(j *javaDegrade) []field {
	return []field{
		{"count", r.number(&j.count)},
		{"grade", integer(r.parser, &j.grade, 0, 2)},
		{"timeWindow", integer(r.parser, &j.window, 1, maxUint32/1000)},
		{"slowRatioThreshold", r.number(&j.slowRatio)},
	}
}

// above is how much more a ratio must be that Java Sentinel wants to be more than a threshold, and we at least as much: twice
// of what the breaker takes for equal.
const above = 2e-8

// fromJavaDegrade makes a circuit breaker of a rule in Java Sentinel's words, in which it opens above its threshold.
func (r *rules) fromJavaDegrade(s *saying, j *javaDegrade, c *rule.CircuitBreaker) {
	r.require(s, "resource", "count", "timeWindow")
	c.Strategy, c.RetryTimeoutMs = j.grade, j.window*1000
	if !s.has("minRequestAmount") {
		c.MinRequestAmount = 5
	}
	if !s.has("statIntervalMs") {
		c.StatIntervalMs = 1000
	}
	ratio, key := j.count, "count"
	switch c.Strategy {
	case rule.ErrorCount:
		c.Threshold = math.Floor(j.count) + 1
		return
	case rule.SlowRequestRatio:
		c.MaxAllowedRtMs = uint64(math.Round(j.count))
		if ratio, key = j.slowRatio, "slowRatioThreshold"; !s.has(key) {
			ratio = 1
		}
	case rule.ErrorRatio:
		if ratio == 1 {
			r.warn(s.at.at(key), "is never exceeded in Java Sentinel; here the breaker opens when all fail")
		}
	}
	if ratio > 1 {
		r.add(s.at.at(key), "must be from 0 to 1 with grade ", strconv.Itoa(int(j.grade)))
	}
	c.Threshold = min(ratio+above, 1)
}

// javaParam is what a hotspot rule says in Java Sentinel's words alone.
type javaParam struct {
	grade rule.HotspotMetric
	index int
	count float64
}

func (r *rules) javaParamFields(d *hotspotDraft) []field {
	j := &d.java
	return []field{
		{"count", r.number(&j.count)},
		{"grade", integer(r.parser, &j.grade, 0, 1)},
		{"paramIdx", integer(r.parser, &j.index, -1000, 1000)},
		{"paramFlowItemList", func(at *place, v value) { r.javaItems(at, v, &d.Hotspot) }},
	}
}

// fromJavaParam makes a hotspot rule of one in Java Sentinel's words.
func (r *rules) fromJavaParam(s *saying, d *hotspotDraft, h *rule.Hotspot) {
	r.require(s, "resource", "count", "paramIdx")
	h.Threshold, h.MetricType = int64(d.java.count), rule.HotspotQPS
	if s.has("grade") {
		h.MetricType = d.java.grade
	}
	if !s.has("durationInSec") {
		h.DurationInSec = 1
	}
	if s.has("controlBehavior") {
		var behavior int32
		integer(r.parser, &behavior, 0, 3)(s.at.at("controlBehavior"), d.behavior)
		if behavior == 2 && h.MetricType == rule.HotspotQPS { // the others reject, in Java Sentinel, too
			h.ControlBehavior = rule.Throttling
		}
	}
	if h.ParamSource == rule.NoParam && len(h.Params) == 0 && s.has("paramIdx") {
		r.argument(s.at.at("paramSource"), d.java.index, h)
	}
}

// argument finds out what an argument of a Java method is here.
func (r *rules) argument(at *place, index int, h *rule.Hotspot) {
	for _, a := range r.cfg.Arguments {
		if a.Index == index && (a.Resource == "" || a.Resource == h.Resource) {
			h.Param = *a.Param
			return
		}
	}
	nth := strconv.Itoa(index)
	r.add(at, "missing: which parameter of a request is argument ", nth, "? Say it for all such rules in arguments, as {",
		`"resource": `, quote(h.Resource), `, "paramIdx": `, nth, `, "paramSource": "Header", "paramKey": "x-user"}`,
		", or in the rule by paramSource and paramKey")
	h.ParamSource = undefined
}

// javaItems reads the values that have a threshold of their own.
func (r *rules) javaItems(at *place, v value, h *rule.Hotspot) {
	r.itemList(at, v, h, func(item *itemDraft) []field {
		item.ValKind = rule.KindString
		return []field{
			{"object", r.text(&item.ValStr, maxResource)},
			{"count", integer(r.parser, &item.Threshold, 0, maxExact)},
			{"classType", func(_ *place, v value) { item.ValKind = kindOf(string(v.raw)) }},
		}
	})
}

// kindOf is the kind of a Java class: what Java Sentinel does not know is a string to it.
func kindOf(class string) rule.ParamKind {
	switch class {
	case "int", "long", "byte", "short", "java.lang.Integer", "java.lang.Long", "java.lang.Byte", "java.lang.Short":
		return rule.KindInt
	case "boolean", "java.lang.Boolean":
		return rule.KindBool
	case "double", "float", "java.lang.Double", "java.lang.Float":
		return rule.KindFloat64
	}
	return rule.KindString
}

// javaSystem is a system rule of Java Sentinel's: each figure, where it is not negative, is a rule of ours.
type javaSystem struct {
	figures [5]float64 // by rule.SystemMetric
}

// javaFigures are Java Sentinel's names of the metrics.
var javaFigures = [5]string{
	rule.SystemLoad: "highestSystemLoad", rule.SystemAvgRT: "avgRt", rule.SystemConcurrency: "maxThread",
	rule.SystemInboundQPS: "qps", rule.SystemCPUUsage: "highestCpuUsage",
}

func (r *rules) javaSystemFields(j *javaSystem) []field {
	fields := []field{{"regex", r.boolean(new(bool))}} // which Java Sentinel 1.8.9 writes of every rule
	for metric, key := range javaFigures {
		fields = append(fields, field{key, func(at *place, v value) { r.figure(at, v, &j.figures[metric]) }})
	}
	return fields
}

// figure reads a number that may be negative.
func (r *rules) figure(at *place, v value, dst *float64) {
	if f, ok := r.float(at, v); ok && r.inRange(at, v, f, -maxExact, maxExact) {
		*dst = f
	}
}

// fromJavaSystem keeps a rule for each figure that is limited.
func (r *rules) fromJavaSystem(s *saying, d *systemDraft) {
	n := 0
	for metric, key := range javaFigures {
		limit := d.java.figures[metric]
		if !s.has(key) || limit < 0 {
			continue
		}
		one := &rule.System{MetricType: rule.SystemMetric(metric), TriggerCount: limit, Strategy: rule.NoAdaptive}
		switch one.MetricType {
		case rule.SystemLoad:
			one.Strategy = rule.BBR
		case rule.SystemConcurrency:
			one.TriggerCount++ // Java Sentinel lets one more in
		case rule.SystemInboundQPS:
			one.TriggerCount = math.Floor(limit)
		case rule.SystemCPUUsage:
			if limit > 1 {
				r.add(s.at.at(key), "must be from 0 to 1")
			}
		}
		if n++; d.ID != "" {
			one.ID = d.ID + "-" + one.MetricType.String()
		}
		r.include(&saying{at: s.at.at(key), java: true}, one)
	}
	if n == 0 {
		r.warn(s.at, "limits nothing: no figure of it is 0 or more")
	}
}

// Argument says what an argument of a method is in a request: Java Sentinel's rules know it by its place.
type Argument struct {
	Resource string // whose; "" is any
	Index    int    // paramIdx
	Param    *rule.Param
}

// arguments reads what arguments are.
func (r *rules) arguments(at *place, v value) {
	r.list(at, v, func(at *place, v value) bool {
		if len(r.cfg.Arguments) == maxEntries {
			r.add(at, "more than ", strconv.Itoa(maxEntries), " entries")
			return false
		}
		a := Argument{Param: &rule.Param{}}
		fields := append([]field{
			{"resource", r.label(&a.Resource, maxResource)},
			{"paramIdx", integer(r.parser, &a.Index, -1000, 1000)},
		}, r.paramFields(a.Param)...)
		s := &saying{at: at, fields: fields, seen: r.object(at, v, fields)}
		if v.typ == jsonparser.Object {
			r.require(s, "paramIdx")
			r.checkParam(at, a.Param, s.has("paramIndex"), &rule.Target{})
		}
		r.cfg.Arguments = append(r.cfg.Arguments, a)
		return true
	})
}
