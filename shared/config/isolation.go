package config

import "sentinel-envoy/shared/rule"

// isolationWords are the keys of an isolation rule. Java Sentinel has no such rules: there they are flow rules.
func (r *rules) isolationWords(i *rule.Isolation) words {
	return words{both: r.targetFields(&i.Target,
		r.limitApp(&i.LimitApp),
		r.candidates(&i.Target),
		field{"metricType", enum(r.parser, &i.MetricType, rule.IsolationConcurrency)},
		field{"threshold", integer(r.parser, &i.Threshold, 1, maxUint32)},
	)}
}

// isolation completes an isolation rule, and finds what is wrong with it.
func (r *rules) isolation(s *saying, draft *rule.Isolation) {
	i := *draft // a copy: the draft is the next rule's, too
	r.limit(s, &i.Target)
	r.require(s, "resource", "threshold")
	r.checkResource(s.at, &i.Target)
	r.include(s, &i)
}
