package config

import (
	"strconv"

	"github.com/buger/jsonparser"

	"sentinel-envoy/shared/rule"
)

const (
	maxInterval = 3600 * 1000 // milliseconds
	maxSeconds  = 3600
	maxUint32   = 1<<32 - 1
	maxBuckets  = 20
	maxValues   = 1_000_000 // tracked by a hotspot rule
	maxItems    = 1024      // specificItems of a hotspot rule
	coldFactor  = 3         // Sentinel's default
)

// rules reads the five lists and keeps what is said of all of them together.
type rules struct {
	*parser
	n         int
	ids       map[string]*place // the rule that has the id
	hash      uint64
	resources []target
}

func (r *rules) fields(cfg *Config) []field {
	return []field{
		{"flowRules", listOf(r, &cfg.Flow, r.flow)},
		{"circuitBreakerRules", listOf(r, &cfg.CircuitBreaker, r.circuitBreaker)},
		{"isolationRules", listOf(r, &cfg.Isolation, r.isolation)},
		{"hotspotRules", listOf(r, &cfg.Hotspot, r.hotspot)},
		{"systemRules", listOf(r, &cfg.System, r.system)},
	}
}

// listOf reads one family. A rule with mistakes keeps its place in the list, so that indices stay the document's.
func listOf[T any](r *rules, dst *[]T, read func(at *place, v value, dst *T)) setter {
	return func(at *place, v value) {
		r.list(at, v, func(at *place, v value) bool {
			if r.n++; r.n > MaxRules {
				r.add(at, "more than ", strconv.Itoa(MaxRules), " rules in one configuration")
				return false
			}
			var one T
			if v.typ != jsonparser.Object {
				r.add(at, "must be an object, got ", v.describe())
			} else {
				read(at, v, &one)
			}
			*dst = append(*dst, one)
			return true
		})
	}
}

// common are the keys of every rule that guards a resource.
func (r *rules) common(id, resource *string, regex *bool, others ...field) []field {
	return append([]field{
		{"id", r.label(id, maxID)},
		{"resource", r.label(resource, maxResource)},
		{"regex", r.boolean(regex)},
	}, others...)
}

// require adds a mistake for each of the keys that is not there.
func (r *rules) require(at *place, seen uint64, fields []field, keys ...string) {
	for _, key := range keys {
		if !has(seen, fields, key) {
			r.add(at.at(key), "missing")
		}
	}
}

// guard checks a resource and keeps it for reachable.
func (r *rules) guard(at *place, resource string, regex bool) {
	at = at.at("resource")
	switch {
	case resource == "": // has been said
	case regex:
		r.expression(at, resource)
	default:
		r.resources = append(r.resources, target{at, resource})
	}
}

// finish gives the rule an id when it has none, and counts it in. ok is whether the rule has no mistakes.
func (r *rules) finish(at *place, id *string, ok bool, content rule.Rule) {
	given := *id != ""
	if !given {
		if !ok {
			return // its content means nothing
		}
		*id = rule.ContentID(content)
	}
	if first := r.ids[*id]; first != nil {
		if given {
			r.add(at.at("id"), quote(*id), " is the id of ", first.String(), " already")
		} else {
			r.add(at, "is the same as ", first.String(), "; leave one out or give each an id")
		}
		return
	}
	r.ids[*id] = at
	r.hash += rule.Hash(*id, content)
}

func (r *rules) flow(at *place, v value, f *rule.Flow) {
	before := r.count()
	fields := r.common(&f.ID, &f.Resource, &f.Regex,
		field{"tokenCalculateStrategy", enum(r.parser, &f.TokenCalculateStrategy, rule.Direct, rule.WarmUp, rule.MemoryAdaptive)},
		field{"controlBehavior", enum(r.parser, &f.ControlBehavior, rule.Reject, rule.Throttling)},
		field{"threshold", r.number(&f.Threshold)},
		field{"relationStrategy", enum(r.parser, &f.RelationStrategy, rule.CurrentResource, rule.AssociatedResource)},
		field{"refResource", r.text(&f.RefResource, maxResource)},
		field{"maxQueueingTimeMs", integer(r.parser, &f.MaxQueueingTimeMs, 0, maxUint32)},
		field{"warmUpPeriodSec", integer(r.parser, &f.WarmUpPeriodSec, 0, maxUint32)},
		field{"warmUpColdFactor", integer(r.parser, &f.WarmUpColdFactor, 0, maxUint32)},
		field{"statIntervalInMs", integer(r.parser, &f.StatIntervalInMs, 0, maxInterval)},
		field{"lowMemUsageThreshold", integer(r.parser, &f.LowMemUsageThreshold, 0, maxExact)},
		field{"highMemUsageThreshold", integer(r.parser, &f.HighMemUsageThreshold, 0, maxExact)},
		field{"memLowWaterMarkBytes", integer(r.parser, &f.MemLowWaterMarkBytes, 0, maxExact)},
		field{"memHighWaterMarkBytes", integer(r.parser, &f.MemHighWaterMarkBytes, 0, maxExact)},
	)
	seen := r.object(at, v, fields)
	if f.StatIntervalInMs == 0 {
		f.StatIntervalInMs = 1000
	}
	r.require(at, seen, fields, "resource")
	if seen&elsewhere != 0 && f.ControlBehavior != rule.Reject { // said of the rule: of a 2 or 3 the key's own mistake is told
		r.add(at, "controlBehavior differs from Java Sentinel's: for 1 (warm up) write tokenCalculateStrategy 1 instead, for "+
			"2 (rate limiter) controlBehavior 1, for 3 both; the defaults there are warmUpPeriodSec 10 and maxQueueingTimeMs 500")
	}
	r.checkFlow(at, f, has(seen, fields, "threshold"))
	r.guard(at, f.Resource, f.Regex)
	r.finish(at, &f.ID, r.count() == before, f)
}

func (r *rules) checkFlow(at *place, f *rule.Flow, hasThreshold bool) {
	if !hasThreshold && f.TokenCalculateStrategy != rule.MemoryAdaptive {
		r.add(at.at("threshold"), "missing")
	}
	if f.RelationStrategy == rule.AssociatedResource && f.RefResource == "" {
		r.add(at.at("refResource"), "must not be empty with AssociatedResource")
	}
	switch f.TokenCalculateStrategy {
	case rule.WarmUp:
		r.checkWarmUp(at, f, hasThreshold)
	case rule.MemoryAdaptive:
		r.checkMemory(at, f)
	}
}

func (r *rules) checkWarmUp(at *place, f *rule.Flow, hasThreshold bool) {
	if f.WarmUpPeriodSec == 0 {
		r.add(at.at("warmUpPeriodSec"), "must be > 0 with WarmUp")
	}
	if f.WarmUpColdFactor == 1 {
		r.add(at.at("warmUpColdFactor"), "must be > 1, or 0 for the default of ", strconv.Itoa(coldFactor))
	}
	if hasThreshold && f.Threshold == 0 { // upstream divides by it, and then admits by NaN
		r.add(at.at("threshold"), "must be > 0 with WarmUp")
	}
	if f.WarmUpColdFactor == 0 {
		f.WarmUpColdFactor = coldFactor
	}
}

// checkMemory leaves out upstream's comparison with the machine's memory, which a Wasm VM cannot see.
func (r *rules) checkMemory(at *place, f *rule.Flow) {
	for _, c := range []struct {
		key string
		v   int64
	}{
		{"lowMemUsageThreshold", f.LowMemUsageThreshold}, {"highMemUsageThreshold", f.HighMemUsageThreshold},
		{"memLowWaterMarkBytes", f.MemLowWaterMarkBytes}, {"memHighWaterMarkBytes", f.MemHighWaterMarkBytes},
	} {
		if c.v == 0 {
			r.add(at.at(c.key), "must be > 0 with MemoryAdaptive")
		}
	}
	if f.LowMemUsageThreshold > 0 && f.HighMemUsageThreshold >= f.LowMemUsageThreshold {
		r.add(at.at("highMemUsageThreshold"), "must be < lowMemUsageThreshold")
	}
	if f.MemHighWaterMarkBytes > 0 && f.MemLowWaterMarkBytes >= f.MemHighWaterMarkBytes {
		r.add(at.at("memLowWaterMarkBytes"), "must be < memHighWaterMarkBytes")
	}
}

func (r *rules) circuitBreaker(at *place, v value, c *rule.CircuitBreaker) {
	before := r.count()
	fields := r.common(&c.ID, &c.Resource, &c.Regex,
		field{"strategy", enum(r.parser, &c.Strategy, rule.SlowRequestRatio, rule.ErrorRatio, rule.ErrorCount)},
		field{"retryTimeoutMs", integer(r.parser, &c.RetryTimeoutMs, 1, maxUint32)},
		field{"minRequestAmount", integer(r.parser, &c.MinRequestAmount, 0, maxExact)},
		field{"statIntervalMs", integer(r.parser, &c.StatIntervalMs, 1, maxInterval)},
		field{"statSlidingWindowBucketCount", integer(r.parser, &c.StatSlidingWindowBucketCount, 0, maxBuckets)},
		field{"maxAllowedRtMs", integer(r.parser, &c.MaxAllowedRtMs, 0, maxExact)},
		field{"threshold", r.number(&c.Threshold)},
		field{"probeNum", integer(r.parser, &c.ProbeNum, 0, maxExact)},
	)
	seen := r.object(at, v, fields)
	r.javaDefaults(at, seen, fields, "minRequestAmount", "5", "statIntervalMs", "1000")
	r.require(at, seen, fields, "resource", "retryTimeoutMs", "statIntervalMs", "threshold")
	r.checkCircuitBreaker(at, c)
	r.guard(at, c.Resource, c.Regex)
	r.finish(at, &c.ID, r.count() == before, c)
}

func (r *rules) checkCircuitBreaker(at *place, c *rule.CircuitBreaker) {
	isRatio := c.Strategy == rule.SlowRequestRatio || c.Strategy == rule.ErrorRatio
	if isRatio && c.Threshold > 1 {
		r.add(at.at("threshold"), "must be from 0 to 1 with ", c.Strategy.String())
	}
	if c.StatSlidingWindowBucketCount == 0 {
		c.StatSlidingWindowBucketCount = 1
	}
	if c.StatIntervalMs%c.StatSlidingWindowBucketCount != 0 { // upstream would silently use 1
		r.add(at.at("statSlidingWindowBucketCount"), "must divide statIntervalMs")
	}
}

func (r *rules) isolation(at *place, v value, i *rule.Isolation) {
	before := r.count()
	fields := r.common(&i.ID, &i.Resource, &i.Regex,
		field{"metricType", enum(r.parser, &i.MetricType, rule.IsolationConcurrency)},
		field{"threshold", integer(r.parser, &i.Threshold, 1, maxUint32)},
	)
	seen := r.object(at, v, fields)
	r.require(at, seen, fields, "resource", "threshold")
	r.guard(at, i.Resource, i.Regex)
	r.finish(at, &i.ID, r.count() == before, i)
}

func (r *rules) hotspot(at *place, v value, h *rule.Hotspot) {
	before := r.count()
	fields := r.common(&h.ID, &h.Resource, &h.Regex,
		field{"metricType", enum(r.parser, &h.MetricType, rule.HotspotConcurrency, rule.HotspotQPS)},
		field{"controlBehavior", enum(r.parser, &h.ControlBehavior, rule.Reject, rule.Throttling)},
		field{"threshold", integer(r.parser, &h.Threshold, 0, maxExact)},
		field{"maxQueueingTimeMs", integer(r.parser, &h.MaxQueueingTimeMs, 0, maxUint32)},
		field{"burstCount", integer(r.parser, &h.BurstCount, 0, maxExact)},
		field{"durationInSec", integer(r.parser, &h.DurationInSec, 0, maxSeconds)},
		field{"paramsMaxCapacity", integer(r.parser, &h.ParamsMaxCapacity, 0, maxValues)},
		field{"specificItems", func(at *place, v value) { r.items(at, v, h) }},
	)
	fields = append(fields, r.paramFields(h)...)
	seen := r.object(at, v, fields)
	r.javaDefaults(at, seen, fields, "metricType", "1 (QPS)", "durationInSec", "1")
	if seen&elsewhere != 0 && h.ControlBehavior != rule.Reject {
		r.add(at, "controlBehavior differs from Java Sentinel's: for 1 (warm up) write 0, as it rejects there, for 2 (rate limiter) 1")
	}
	r.require(at, seen, fields, "resource", "threshold")
	if h.MetricType == rule.HotspotQPS && h.DurationInSec == 0 {
		r.add(at.at("durationInSec"), "must be > 0 with QPS")
	}
	if h.ParamIndex != 0 && h.ParamKey != "" {
		r.add(at.at("paramKey"), "must be empty when paramIndex is given")
	}
	r.checkParam(at, h, has(seen, fields, "paramIndex"))
	r.guard(at, h.Resource, h.Regex)
	r.finish(at, &h.ID, r.count() == before, h)
}

// items reads the values that have a threshold of their own.
func (r *rules) items(at *place, v value, h *rule.Hotspot) {
	seen := map[string]bool{} // a request's parameter is text, whatever kind the item says
	r.list(at, v, func(at *place, v value) bool {
		if len(h.SpecificItems) == maxItems {
			r.add(at, "more than ", strconv.Itoa(maxItems), " specific items")
			return false
		}
		before := r.count()
		var item rule.SpecificItem
		fields := []field{
			{"valKind", enum(r.parser, &item.ValKind, rule.KindInt, rule.KindString, rule.KindBool, rule.KindFloat64)},
			{"valStr", r.text(&item.ValStr, maxResource)},
			{"threshold", integer(r.parser, &item.Threshold, 0, maxExact)},
		}
		r.require(at, r.object(at, v, fields), fields, "valStr", "threshold")
		if r.count() > before {
			return true
		}
		if !isKind(item.ValStr, item.ValKind) { // upstream would silently leave it out
			r.add(at.at("valStr"), "must be a ", item.ValKind.String(), ", got ", quote(item.ValStr))
		}
		if seen[item.ValStr] {
			r.add(at.at("valStr"), quote(item.ValStr), " is given twice")
		}
		seen[item.ValStr] = true
		h.SpecificItems = append(h.SpecificItems, item)
		return true
	})
}

// isKind says whether sentinel-golang's data source could read s as a value of the kind.
func isKind(s string, kind rule.ParamKind) bool {
	var err error
	switch kind {
	case rule.KindInt:
		_, err = strconv.ParseInt(s, 10, 64)
	case rule.KindBool:
		_, err = strconv.ParseBool(s)
	case rule.KindFloat64:
		_, err = strconv.ParseFloat(s, 64)
	}
	return err == nil
}

func (r *rules) system(at *place, v value, s *rule.System) {
	before := r.count()
	zero := rule.AdaptiveStrategy(0)
	fields := []field{
		{"id", r.label(&s.ID, maxID)},
		{"metricType", enum(r.parser, &s.MetricType, rule.SystemLoad, rule.SystemAvgRT, rule.SystemConcurrency,
			rule.SystemInboundQPS, rule.SystemCPUUsage)},
		{"triggerCount", r.number(&s.TriggerCount)},
		{"strategy", enum(r.parser, &s.Strategy, rule.NoAdaptive, rule.BBR, zero)},
	}
	seen := r.object(at, v, fields)
	if s.Strategy == zero {
		s.Strategy = rule.NoAdaptive
	}
	r.require(at, seen, fields, "triggerCount")
	if s.MetricType == rule.SystemCPUUsage && s.TriggerCount > 1 {
		r.add(at.at("triggerCount"), "must be from 0 to 1 with ", s.MetricType.String())
	}
	r.finish(at, &s.ID, r.count() == before, s)
}
