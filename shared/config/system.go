package config

import "sentinel-envoy/shared/rule"

// noStrategy is that of a rule that says none, or 0.
const noStrategy = rule.AdaptiveStrategy(0)

// systemFields are the keys of a system rule.
func (r *rules) systemFields(s *rule.System) []field {
	return []field{
		{"id", r.label(&s.ID, rule.MaxID)},
		{"metricType", enum(r.parser, &s.MetricType, rule.SystemLoad, rule.SystemAvgRT, rule.SystemConcurrency,
			rule.SystemInboundQPS, rule.SystemCPUUsage)},
		{"triggerCount", r.number(&s.TriggerCount)},
		{"strategy", enum(r.parser, &s.Strategy, rule.NoAdaptive, rule.BBR, noStrategy)},
	}
}

// system completes a system rule, and finds what is wrong with it.
func (r *rules) system(at *place, seen uint64, fields []field, s *rule.System) {
	if s.Strategy == noStrategy {
		s.Strategy = rule.NoAdaptive
	}
	r.require(at, seen, fields, "triggerCount")
	if s.MetricType == rule.SystemCPUUsage && s.TriggerCount > 1 {
		r.add(at.at("triggerCount"), "must be from 0 to 1 with ", s.MetricType.String())
	}
	r.include(at, s)
}
