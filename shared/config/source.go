package config

import (
	"strings"

	"sentinel-envoy/shared/rule"
)

// systemSource reads where the figures of the machine come from.
func (p *parser) systemSource(at *place, v value, cfg *Config) {
	s := &SystemSource{Path: "/metrics", IntervalMs: 1000}
	before := p.count()
	fields := []field{
		{"cluster", p.label(&s.Cluster, maxResource)},
		{"path", p.label(&s.Path, maxResource)},
		{"authority", p.label(&s.Authority, maxResource)},
		{"interval_ms", integer(p, &s.IntervalMs, 100, 60_000)},
	}
	seen := p.object(at, v, fields)
	if p.count() == before && !has(seen, fields, "cluster") {
		p.add(at.at("cluster"), "missing")
	}
	if !strings.HasPrefix(s.Path, "/") {
		p.add(at.at("path"), "must begin with /, got ", quote(s.Path))
	}
	if s.Authority == "" {
		s.Authority = s.Cluster
	}
	cfg.SystemSource = s
}

const invisible = " is not visible from inside Envoy: it needs a system_source in the same configuration"

// checkSources finds rules about figures that nothing here can tell.
func (p *parser) checkSources(cfg *Config, top *place) {
	if cfg.SystemSource != nil {
		return
	}
	for i, r := range rule.Of[rule.System](cfg.Rules) {
		if r.ID != "" && (r.MetricType == rule.SystemLoad || r.MetricType == rule.SystemCPUUsage) {
			p.add(top.at("systemRules").item(i).at("metricType"), r.MetricType.String(), invisible)
		}
	}
	for i, r := range rule.Of[rule.Flow](cfg.Rules) {
		if r.ID != "" && r.TokenCalculateStrategy == rule.MemoryAdaptive {
			p.add(top.at("flowRules").item(i).at("tokenCalculateStrategy"), "MemoryAdaptive: the memory in use", invisible)
		}
	}
}
