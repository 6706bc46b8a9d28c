package config

import "sentinel-envoy/shared/rule"

// isolationFields are the keys of an isolation rule.
func (r *rules) isolationFields(i *rule.Isolation) []field {
	return r.targetFields(&i.Target,
		field{"metricType", enum(r.parser, &i.MetricType, rule.IsolationConcurrency)},
		field{"threshold", integer(r.parser, &i.Threshold, 1, maxUint32)},
	)
}

// isolation completes an isolation rule, and finds what is wrong with it.
func (r *rules) isolation(at *place, seen uint64, fields []field, i *rule.Isolation) {
	r.require(at, seen, fields, "resource", "threshold")
	r.checkResource(at, &i.Target)
	r.include(at, i)
}
