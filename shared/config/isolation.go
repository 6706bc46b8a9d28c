package config

import "sentinel-envoy/shared/rule"

// isolation reads an isolation rule.
func (r *rules) isolation(at *place, v value, i *rule.Isolation) {
	before := r.count()
	fields := r.targetFields(&i.Target,
		field{"metricType", enum(r.parser, &i.MetricType, rule.IsolationConcurrency)},
		field{"threshold", integer(r.parser, &i.Threshold, 1, maxUint32)},
	)
	seen := r.object(at, v, fields)
	r.require(at, seen, fields, "resource", "threshold")
	r.checkResource(at, &i.Target)
	r.include(at, r.count() == before, i)
}
