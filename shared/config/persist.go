package config

import "strings"

// Persist is where counts of long windows outlive the process: a document that a server keeps for one Envoy.
type Persist struct {
	Cluster   string // cluster: Envoy's name of it
	Authority string // authority of the requests; default Cluster
	// Path is path: what is put and got; NodePlace in it stands for Envoy's node.id.
	Path       string
	IntervalMs uint32 // interval_ms: how often the document is written, 1000 to 3,600,000 milliseconds; default 5000
	TimeoutMs  uint32 // timeout_ms: how long an answer may take, 50 to 60,000 milliseconds; default 1000
}

// NodePlace stands for Envoy's node.id in a path.
const NodePlace = "{node}"

// persist reads where counts outlive the process.
func (p *parser) persist(at *place, v value, cfg *Config) {
	s := &Persist{IntervalMs: 5000, TimeoutMs: 1000}
	before := p.count()
	fields := []field{
		{"cluster", p.label(&s.Cluster, maxResource)},
		{"authority", p.label(&s.Authority, maxResource)},
		{"path", p.label(&s.Path, maxResource)},
		{"interval_ms", integer(p, &s.IntervalMs, 1000, 3_600_000)},
		{"timeout_ms", integer(p, &s.TimeoutMs, 50, 60_000)},
	}
	seen := p.object(at, v, fields)
	if p.count() > before {
		return
	}
	for _, key := range []string{"cluster", "path"} {
		if !has(seen, fields, key) {
			p.add(at.at(key), "missing")
		}
	}
	if p.count() == before && s.Path[0] != '/' {
		p.add(at.at("path"), "must begin with /, got ", quote(s.Path))
	}
	if strings.ContainsFunc(s.Path, func(r rune) bool { return r <= ' ' || r == '#' || r > '~' }) {
		p.add(at.at("path"), "must be as it is sent, with %20 in place of a space and so on, got ", quote(s.Path))
	}
	if rest := strings.ReplaceAll(s.Path, NodePlace, ""); strings.ContainsAny(rest, "{}") {
		p.add(at.at("path"), "has a place other than ", NodePlace, ": ", quote(s.Path))
	}
	if s.Authority == "" {
		s.Authority = s.Cluster
	}
	cfg.Persist = s
}
