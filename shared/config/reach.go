package config

import "strings"

// target is a rule's resource, with its place.
type target struct {
	at       *place
	resource string
}

// checkReach finds the rules of a filter that can never apply. The VM's rules are for filters it does not know.
func (p *parser) checkReach(cfg *Config, targets []target) {
	if p.kind == KindVM {
		return
	}
	names := map[string]bool{cfg.ResourceName: true}
	for _, r := range cfg.Resources {
		names[r.Name] = true
	}
	for _, t := range targets {
		isPath := t.resource[0] == '/'
		switch {
		case names[t.resource]:
		case isPath && p.kind == KindTCP:
			p.add(t.at, "nothing here is the resource ", quote(t.resource), ": a connection has no path; ", remedy)
		case isPath && strings.ContainsAny(t.resource, "?#"):
			p.add(t.at, "nothing here is the resource ", quote(t.resource), ": paths are taken without query and fragment")
		case isPath:
		case p.kind == KindHTTP:
			p.add(t.at, "nothing here is the resource ", quote(t.resource), ": ", remedy, ", or use a path (\"/…\")")
		default:
			p.add(t.at, "nothing here is the resource ", quote(t.resource), ": ", remedy)
		}
	}
}

const remedy = "name it in resource_name or in an entry of resources"
