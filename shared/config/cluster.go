package config

import "sentinel-envoy/shared/rule"

// maxClusterSize bounds how many Envoys a rule may count with.
const maxClusterSize = 10_000

// rateLimitService reads who counts for the rules in cluster mode.
func (p *parser) rateLimitService(at *place, v value, cfg *Config) {
	s := &rule.RateLimitService{Domain: "sentinel", TimeoutMs: 50}
	before := p.count()
	fields := []field{
		{"cluster", p.label(&s.Cluster, maxResource)},
		{"domain", p.label(&s.Domain, maxResource)},
		{"timeout_ms", integer(p, &s.TimeoutMs, 1, 10_000)},
	}
	seen := p.object(at, v, fields)
	if p.count() == before && !has(seen, fields, "cluster") {
		p.add(at.at("cluster"), "missing")
	}
	cfg.RateLimitService = s
}

// clusterMode reads whether a rule is for several Envoys.
func (p *parser) clusterMode(dst **rule.Cluster) setter {
	return func(at *place, v value) {
		var on bool
		p.boolean(&on)(at, v)
		if on {
			*dst = withDefaults(*dst)
			(*dst).On = true
		}
	}
}

// clusterConfig reads how it is. It stands beside clusterMode, before or after it, and means nothing without.
func (p *parser) clusterConfig(dst **rule.Cluster) setter {
	return func(at *place, v value) {
		c := withDefaults(*dst)
		*dst = c
		var unused uint32 // of Sentinel's token server alone
		fields := []field{
			{"flowId", integer(p, &c.FlowID, 1, maxExact)},
			{"thresholdType", enum(p, &c.ThresholdType, rule.AvgLocal, rule.Global)},
			{"fallbackToLocalWhenFail", p.boolean(&c.FallbackToLocalWhenFail)},
			{"clusterSize", integer(p, &c.ClusterSize, 1, maxClusterSize)},
			{"windowIntervalMs", integer(p, &c.WindowIntervalMs, 1, maxInterval)},
			{"sampleCount", integer(p, &unused, 0, maxUint32)},
			{"strategy", integer(p, &unused, 0, maxUint32)},
			{"resourceTimeout", integer(p, &unused, 0, maxUint32)},
			{"resourceTimeoutStrategy", integer(p, &unused, 0, maxUint32)},
			{"acquireRefuseStrategy", integer(p, &unused, 0, maxUint32)},
			{"clientOfflineTime", integer(p, &unused, 0, maxUint32)},
		}
		p.object(at, v, fields)
	}
}

// withDefaults is what Sentinel takes where nothing is said.
func withDefaults(c *rule.Cluster) *rule.Cluster {
	if c == nil {
		c = &rule.Cluster{FallbackToLocalWhenFail: true, ClusterSize: 1}
	}
	return c
}

// cluster completes what is said of several Envoys of a rule whose interval is given in milliseconds, and finds what is wrong
// with it.
func (r *rules) cluster(at *place, of *rule.Target, c **rule.Cluster, intervalMs uint32) {
	if *c == nil || !(*c).On {
		*c = nil
		return
	}
	if (*c).WindowIntervalMs == 0 {
		(*c).WindowIntervalMs = intervalMs
	}
	switch (*c).WindowIntervalMs {
	case 1000, 60_000, 3600_000:
	default:
		r.add(at.at("clusterMode"), "needs an interval of 1000, 60000 or 3600000 ms: the rate limit service counts by seconds, "+
			"minutes and hours")
	}
	r.clustered = append(r.clustered, clustered{at.at("clusterMode"), *c})
	if of.Regex {
		r.add(at.at("clusterMode"), "needs one resource: with regex each has a budget of its own, which the service does not know")
	}
}

// clustered is a rule in cluster mode, with the place where it says so.
type clustered struct {
	at *place
	*rule.Cluster
}

// joinService tells the rules in cluster mode who counts for them.
func (r *rules) joinService() {
	for _, c := range r.clustered {
		if r.cfg.RateLimitService == nil {
			r.add(c.at, "needs a rate_limit_service in the same configuration")
			continue
		}
		c.Service = *r.cfg.RateLimitService
	}
}
