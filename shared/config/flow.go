package config

import (
	"strconv"

	"sentinel-envoy/shared/rule"
)

// flowDraft is a flow rule as it is read.
type flowDraft struct {
	rule.Flow
	behavior value // controlBehavior, whose numbers Java Sentinel has for other things
	java     javaFlow
}

// flowWords are the keys of a flow rule.
func (r *rules) flowWords(d *flowDraft) words {
	f := &d.Flow
	return words{
		both: append(r.targetFields(&f.Target,
			r.limitApp(&f.LimitApp),
			r.candidates(&f.Target),
			field{"controlBehavior", func(_ *place, v value) { d.behavior = v }},
			field{"refResource", r.text(&f.RefResource, maxResource)},
			field{"maxQueueingTimeMs", integer(r.parser, &f.MaxQueueingTimeMs, 0, maxUint32)},
			field{"warmUpPeriodSec", integer(r.parser, &f.WarmUpPeriodSec, 0, maxUint32)},
			field{"clusterMode", r.clusterMode(&f.Cluster)},
			field{"clusterConfig", r.clusterConfig(&f.Cluster)},
			r.countOnly(&f.CountOnly),
			r.batchCount(&f.Cost),
		), r.calendarFields(&f.Calendar)...),
		own: []field{
			{"threshold", r.number(&f.Threshold)},
			{"statIntervalInMs", integer(r.parser, &f.StatIntervalInMs, 0, maxWindow)},
			{"burst", integer(r.parser, &f.Burst, 1, maxExact)},
			{"token_bucket", func(at *place, v value) { r.tokenBucket(at, v, f) }},
			{"window", enum(r.parser, &f.Window, rule.SlidingWindow, rule.FixedWindow, rule.ExactWindow)},
			{"tokenCalculateStrategy", enum(r.parser, &f.TokenCalculateStrategy, rule.Direct, rule.WarmUp, rule.MemoryAdaptive)},
			{"relationStrategy", enum(r.parser, &f.RelationStrategy, rule.CurrentResource, rule.AssociatedResource)},
			{"warmUpColdFactor", integer(r.parser, &f.WarmUpColdFactor, 0, maxUint32)},
			{"lowMemUsageThreshold", integer(r.parser, &f.LowMemUsageThreshold, 0, maxExact)},
			{"highMemUsageThreshold", integer(r.parser, &f.HighMemUsageThreshold, 0, maxExact)},
			{"memLowWaterMarkBytes", integer(r.parser, &f.MemLowWaterMarkBytes, 0, maxExact)},
			{"memHighWaterMarkBytes", integer(r.parser, &f.MemHighWaterMarkBytes, 0, maxExact)},
		},
		java: r.javaFlowFields(&d.java),
	}
}

// flow completes a flow rule, and finds what is wrong with it.
func (r *rules) flow(s *saying, d *flowDraft) {
	f := d.Flow // a copy: the draft is the next rule's, too
	r.require(s, "resource")
	r.limit(s, &f.Target)
	switch {
	case s.java:
		if !r.fromJavaFlow(s, d, &f) {
			return
		}
	case s.has("controlBehavior"):
		enum(r.parser, &f.ControlBehavior, rule.Reject, rule.Throttling)(s.at.at("controlBehavior"), d.behavior)
	}
	if f.StatIntervalInMs == 0 && f.Unit == rule.NoUnit {
		f.StatIntervalInMs = 1000
	}
	r.checkFlow(s, &f)
	r.checkFraction(s, &f)
	r.checkQueueing(s, &f.Target, f.ControlBehavior, int64(f.MaxQueueingTimeMs))
	r.checkWindow(s.at, &f)
	r.checkBurst(s, &f)
	r.checkFlowCost(s, &f)
	r.checkCluster(s.at, &f)
	r.checkCounts(s, &f)
	r.checkResource(s.at, &f.Target)
	r.include(s, &f)
}

func (r *rules) checkFlow(s *saying, f *rule.Flow) {
	hasThreshold := s.java || s.has("threshold") || s.has("token_bucket")
	if !hasThreshold && f.TokenCalculateStrategy != rule.MemoryAdaptive {
		r.add(s.at.at("threshold"), "missing")
	}
	if f.RelationStrategy == rule.AssociatedResource && f.RefResource == "" {
		r.add(s.at.at("refResource"), "must not be empty with AssociatedResource")
	}
	switch f.TokenCalculateStrategy {
	case rule.WarmUp:
		r.checkWarmUp(s, f, hasThreshold)
	case rule.MemoryAdaptive:
		r.checkMemory(s.at, f)
	}
}

// checkWindow finds what the window of a rule cannot do.
func (r *rules) checkWindow(at *place, f *rule.Flow) {
	at = at.at("window")
	switch {
	case f.Window == rule.SlidingWindow:
	case f.Cluster != nil:
		r.add(at, "does not go with clusterMode: the service counts in windows of its own; leave it out")
	case f.ControlBehavior == rule.Throttling:
		r.add(at, "does not go with controlBehavior Throttling, which spaces entries and counts them in no window; leave it out")
	case f.Window != rule.ExactWindow:
	case f.TokenCalculateStrategy == rule.WarmUp:
		r.add(at, "must not be exact with tokenCalculateStrategy WarmUp, whose threshold follows from the entries of whole windows; ",
			"write fixed or sliding, or Direct")
	case f.RelationStrategy == rule.AssociatedResource:
		r.add(at, "must not be exact with relationStrategy AssociatedResource, whose entries are seen up to two ticks late; ",
			"write fixed or sliding, or CurrentResource")
	}
}

// checkCluster finds what a service that counts cannot do.
func (r *rules) checkCluster(at *place, f *rule.Flow) {
	r.cluster(at, &f.Target, &f.Cluster, uint32(min(f.StatIntervalInMs, maxUint32)))
	if f.Cluster == nil {
		return
	}
	if f.TokenCalculateStrategy != rule.Direct || f.ControlBehavior != rule.Reject || f.RelationStrategy != rule.CurrentResource {
		r.add(at.at("clusterMode"), "goes with tokenCalculateStrategy Direct, controlBehavior Reject and relationStrategy "+
			"CurrentResource: the service only counts")
	}
}

// checkFraction warns of a rule that lets nothing in: in Sentinel, too, a request counts as a whole one.
func (r *rules) checkFraction(s *saying, f *rule.Flow) {
	if f.Threshold <= 0 || f.Threshold >= 1 || f.Burst > 0 || f.ControlBehavior != rule.Reject || f.TokenCalculateStrategy != rule.Direct {
		return
	}
	hint := "write 1, or 0 to say so"
	if interval := float64(f.StatIntervalInMs) / f.Threshold; interval > 0 && interval <= maxWindow {
		hint = "for one request in " + strconv.FormatFloat(interval/1000, 'g', 6, 64) +
			" s write threshold 1 and statIntervalInMs " + strconv.FormatFloat(interval, 'f', 0, 64)
	}
	r.warn(s.key("threshold", "count"), label(&f.Target),
		" refuses everything: with Reject a threshold below 1 has no room for a request; ", hint)
}

// checkQueueing warns of a time to wait where nobody waits. Java Sentinel's documents have one in every rule.
func (r *rules) checkQueueing(s *saying, of *rule.Target, behavior rule.ControlBehavior, ms int64) {
	if ms > 0 && behavior == rule.Reject && !s.java {
		r.warn(s.at.at("maxQueueingTimeMs"), label(of), ": has no effect with controlBehavior Reject, with which nobody waits; ",
			"write Throttling, or leave it out")
	}
}

func (r *rules) checkWarmUp(s *saying, f *rule.Flow, hasThreshold bool) {
	if f.WarmUpPeriodSec == 0 {
		r.add(s.at.at("warmUpPeriodSec"), "must be > 0 with WarmUp")
	}
	if f.WarmUpColdFactor == 1 {
		r.add(s.at.at("warmUpColdFactor"), "must be > 1, or 0 for the default of ", strconv.Itoa(coldFactor))
	}
	if hasThreshold && f.Threshold == 0 { // upstream divides by it, and then admits by NaN
		r.add(s.key("threshold", "count"), "must be > 0 with WarmUp")
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
