package config

import "sentinel-envoy/shared/rule"

// system reads a system rule.
func (r *rules) system(at *place, v value, s *rule.System) {
	before := r.count()
	zero := rule.AdaptiveStrategy(0)
	fields := []field{
		{"id", r.label(&s.ID, rule.MaxID)},
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
	r.include(at, r.count() == before, s)
}
