package config

import (
	"strconv"

	"sentinel-envoy/shared/rule"
)

const (
	// maxBanMs is the longest ban, in milliseconds: 366 days.
	maxBanMs = maxWindow
	// maxBanAfter bounds the refusals before one.
	maxBanAfter = 1_000_000
)

// countOnly is the key of the answers that a rule counts.
func (r *rules) countOnly(dst **rule.Answers) field {
	return field{"countOnly", r.only(KindHTTP, func(at *place, v value) {
		a, before := &rule.Answers{}, r.count()
		fields := []field{{"status", func(at *place, v value) { r.statuses(at, v, &a.Status) }},
			{"grpc", func(at *place, v value) { r.grpcStatuses(at, v, &a.GRPC) }}}
		r.object(at, v, fields)
		switch {
		case r.count() > before:
		case a.Status.Empty() && a.GRPC == 0:
			r.add(at, "has neither status nor grpc: which answers are counted? For failed logins write {status: [401, 403]}")
		default:
			*dst = a
		}
	})}
}

// must is what a key has to be, and whether it is.
type must struct {
	is        bool
	key, what string
}

// simply finds what does not go with a key of rules that do nothing but count entries in windows of their own.
func (r *rules) simply(at *place, with string, keys []must) {
	for _, k := range keys {
		if !k.is {
			r.add(at.at(k.key), "must be ", k.what, " with ", with)
		}
	}
}

// checkCounts finds what does not go with what a flow rule counts.
func (r *rules) checkCounts(s *saying, f *rule.Flow) {
	keys := []must{
		{f.TokenCalculateStrategy == rule.Direct, "tokenCalculateStrategy", "Direct"},
		{f.ControlBehavior == rule.Reject, "controlBehavior", "Reject"},
		{f.RelationStrategy == rule.CurrentResource, "relationStrategy", "CurrentResource"},
		{f.Window != rule.ExactWindow, "window", "fixed or sliding"}, // what is counted late was in some interval before
		{f.Cluster == nil, "clusterMode", "false"},
	}
	if f.CountOnly != nil {
		r.simply(s.at, "countOnly, which only counts", append(keys, must{f.Cost == nil, "batchCount", "1"}))
	}
	r.checkCalendar(s, &f.Calendar, "statIntervalInMs", f.StatIntervalInMs > 0, keys)
}

// checkCountsHotspot finds what does not go with what a hotspot rule counts.
func (r *rules) checkCountsHotspot(s *saying, h *rule.Hotspot) {
	keys := []must{
		{h.MetricType == rule.HotspotQPS, "metricType", "QPS"},
		{h.ControlBehavior == rule.Reject, "controlBehavior", "Reject"},
		{h.Cluster == nil, "clusterMode", "false"},
	}
	if h.CountOnly != nil {
		r.simply(s.at, "countOnly, which only counts", append(keys, must{h.Cost == nil, "batchCount", "1"}))
	}
	r.checkCalendar(s, &h.Calendar, "durationInSec", h.DurationInSec > 0, keys)
}

// checkBan finds what does not go with a ban.
func (r *rules) checkBan(s *saying, h *rule.Hotspot) {
	after, ms := s.at.at("banAfter"), s.at.at("banMs")
	switch {
	case h.BanAfter == 0 && h.BanMs == 0:
	case h.BanMs == 0:
		r.add(ms, "missing: for how many milliseconds is a value refused that was refused ",
			strconv.FormatInt(h.BanAfter, 10), " times?")
	case h.BanAfter == 0:
		r.add(after, "missing: after how many refusals of a value does banMs begin?")
	case h.MetricType != rule.HotspotQPS || h.ControlBehavior != rule.Reject:
		r.add(after, "goes with QPS and controlBehavior Reject: refusals are counted in durationInSec")
	case h.Cluster != nil:
		r.add(after, "does not go with clusterMode: a ban is this Envoy's")
	case h.BanMs <= h.DurationMs():
		r.warn(ms, label(&h.Target), ": a ban of ", strconv.FormatInt(h.BanMs, 10), " ms is over before the interval of ",
			strconv.FormatInt(h.DurationMs(), 10), " ms in which the refusals are counted; it adds nothing much")
	}
}
