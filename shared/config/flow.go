package config

import (
	"strconv"

	"sentinel-envoy/shared/rule"
)

// flowFields are the keys of a flow rule.
func (r *rules) flowFields(f *rule.Flow) []field {
	return r.targetFields(&f.Target,
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
}

// flow completes a flow rule, and finds what is wrong with it.
func (r *rules) flow(at *place, seen uint64, fields []field, f *rule.Flow) {
	if f.StatIntervalInMs == 0 {
		f.StatIntervalInMs = 1000
	}
	r.require(at, seen, fields, "resource")
	if seen&elsewhere != 0 && f.ControlBehavior != rule.Reject { // said of the rule: of a 2 or 3 the key's own mistake is told
		r.add(at, "controlBehavior differs from Java Sentinel's: for 1 (warm up) write tokenCalculateStrategy 1 instead, for "+
			"2 (rate limiter) controlBehavior 1, for 3 both; the defaults there are warmUpPeriodSec 10 and maxQueueingTimeMs 500")
	}
	r.checkFlow(at, f, has(seen, fields, "threshold"))
	r.checkFraction(at, f)
	r.checkResource(at, &f.Target)
	r.include(at, f)
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

// checkFraction warns of a rule that lets nothing in: in Sentinel, too, a request counts as a whole one.
func (r *rules) checkFraction(at *place, f *rule.Flow) {
	if f.Threshold <= 0 || f.Threshold >= 1 || f.ControlBehavior != rule.Reject || f.TokenCalculateStrategy != rule.Direct {
		return
	}
	hint := "write 1, or 0 to say so"
	if interval := float64(f.StatIntervalInMs) / f.Threshold; interval <= maxInterval {
		hint = "for one request in " + strconv.FormatFloat(interval/1000, 'g', 6, 64) +
			" s write threshold 1 and statIntervalInMs " + strconv.FormatFloat(interval, 'f', 0, 64)
	}
	r.warn(at.at("threshold"), label(&f.Target), " refuses everything: with Reject a threshold below 1 has no room for a request; ",
		hint)
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
