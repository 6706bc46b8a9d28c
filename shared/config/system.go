package config

import "sentinel-envoy/shared/rule"

// noStrategy is that of a rule that says none, or 0.
const noStrategy = rule.AdaptiveStrategy(0)

// systemDraft is a system rule as it is read.
type systemDraft struct {
	rule.System
	java javaSystem
}

// systemWords are the keys of a system rule.
func (r *rules) systemWords(d *systemDraft) words {
	s := &d.System
	return words{
		both: r.ruleFields(&s.Target, r.limitApp(new(string))),
		own: []field{
			{"metricType", enum(r.parser, &s.MetricType, rule.SystemLoad, rule.SystemAvgRT, rule.SystemConcurrency,
				rule.SystemInboundQPS, rule.SystemCPUUsage)},
			{"triggerCount", r.number(&s.TriggerCount)},
			{"strategy", enum(r.parser, &s.Strategy, rule.NoAdaptive, rule.BBR, noStrategy)},
		},
		java: r.javaSystemFields(&d.java),
	}
}

// system completes a system rule, and finds what is wrong with it.
func (r *rules) system(s *saying, d *systemDraft) {
	if s.java {
		r.fromJavaSystem(s, d)
		return
	}
	one := d.System // a copy: the draft is the next rule's, too
	if one.Strategy == noStrategy {
		one.Strategy = rule.NoAdaptive
	}
	r.require(s, "triggerCount")
	if one.MetricType == rule.SystemCPUUsage && one.TriggerCount > 1 {
		r.add(s.at.at("triggerCount"), "must be from 0 to 1 with ", one.MetricType.String())
	}
	r.include(s, &one)
}
