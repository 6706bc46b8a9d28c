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
		fields := []field{{"status", func(at *place, v value) { r.statuses(at, v, &a.Status) }}}
		r.object(at, v, fields)
		switch {
		case r.count() > before:
		case a.Status.Empty():
			r.add(at.at("status"), "missing: which statuses are counted? For failed logins write [401, 403]")
		default:
			*dst = a
		}
	})}
}

// countsEntries finds what does not go with counting answers: a rule that does more than count. Each key is told what it
// must be.
func (r *rules) countsEntries(at *place, keys ...must) {
	for _, k := range keys {
		if !k.is {
			r.add(at.at(k.key), "must be ", k.what, " with countOnly, which only counts")
		}
	}
}

// must is what a key has to be, and whether it is.
type must struct {
	is        bool
	key, what string
}

func (r *rules) checkCountOnly(at *place, f *rule.Flow) {
	if f.CountOnly != nil {
		r.countsEntries(at, must{f.TokenCalculateStrategy == rule.Direct, "tokenCalculateStrategy", "Direct"},
			must{f.ControlBehavior == rule.Reject, "controlBehavior", "Reject"},
			must{f.RelationStrategy == rule.CurrentResource, "relationStrategy", "CurrentResource"},
			must{f.Window != rule.ExactWindow, "window", "fixed or sliding"}, // what is counted late was in some interval before
			must{f.Cost == nil, "batchCount", "1"}, must{f.Cluster == nil, "clusterMode", "false"})
	}
}

func (r *rules) checkCountOnlyHotspot(at *place, h *rule.Hotspot) {
	if h.CountOnly != nil {
		r.countsEntries(at, must{h.MetricType == rule.HotspotQPS, "metricType", "QPS"},
			must{h.ControlBehavior == rule.Reject, "controlBehavior", "Reject"}, must{h.Cost == nil, "batchCount", "1"},
			must{h.Cluster == nil, "clusterMode", "false"})
	}
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
	case h.BanMs <= h.DurationInSec*1000 && h.DurationInSec > 0:
		r.warn(ms, label(&h.Target), ": a ban of ", strconv.FormatInt(h.BanMs, 10), " ms is over before the interval of ",
			strconv.FormatInt(h.DurationInSec*1000, 10), " ms in which the refusals are counted; it adds nothing much")
	}
}
