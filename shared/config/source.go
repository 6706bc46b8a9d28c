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
func (r *rules) checkSources() {
	if r.cfg.SystemSource != nil {
		return
	}
	eachOf(r, func(at *place, s *rule.System) {
		if s.MetricType == rule.SystemLoad || s.MetricType == rule.SystemCPUUsage {
			if at.index >= 0 { // of Java Sentinel's rules it is the figure's place
				at = at.at("metricType")
			}
			r.add(at, s.MetricType.String(), invisible)
		}
	})
	eachOf(r, func(at *place, f *rule.Flow) {
		if f.TokenCalculateStrategy == rule.MemoryAdaptive {
			r.add(at.at("tokenCalculateStrategy"), "MemoryAdaptive: the memory in use", invisible)
		}
	})
}
