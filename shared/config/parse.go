package config

import (
	"bytes"
	"slices"
	"strconv"
	"strings"

	"github.com/buger/jsonparser"
)

// Bounds of one configuration.
const (
	MaxRules       = 16384 // of all families together
	maxID          = 128   // bytes
	maxResource    = 256   // bytes
	maxEntries     = 4096  // of resources
	maxBody        = 64 << 10
	maxHeaders     = 64
	maxHeaderValue = 4096 // bytes
)

// Parse reads a configuration of the given kind. The error, if any, is of type Errors and tells every mistake.
// No bytes at all, `null` and `{}` are a configuration without rules.
func Parse(data []byte, kind Kind) (*Config, error) {
	p := &parser{kind: kind}
	cfg := p.config(data)
	if err := p.err(); err != nil {
		return nil, err
	}
	return cfg, nil
}

func (p *parser) config(data []byte) *Config {
	cfg := &Config{Block: Block{Status: 429, GRPCStatus: 8}, Failures: defaultFailures()}
	top := &place{index: -1}
	if data = bytes.TrimSpace(data); len(data) == 0 || string(data) == "null" {
		return cfg
	}
	if problem := syntax(data); problem != "" {
		p.add(top, problem)
		return cfg
	}
	if data[0] == '[' {
		p.add(top, "must be an object, got a list; a list of Sentinel's rules goes under its family's key, as flowRules")
		return cfg
	}
	if data[0] != '{' {
		p.add(top, "must be an object")
		return cfg
	}
	r := &rules{parser: p, ids: map[string]*place{}}
	fields := append(r.fields(cfg), p.filterFields(cfg)...)
	fields = append(fields, field{"system_source", func(at *place, v value) { p.systemSource(at, v, cfg) }})
	p.object(top, value{data, jsonparser.Object}, fields)
	cfg.RuleHash = r.hash
	p.reachable(cfg, r.resources)
	p.sourced(cfg, top)
	return cfg
}

// filterFields are the keys that say how a filter finds resources and answers.
func (p *parser) filterFields(cfg *Config) []field {
	fields := []field{
		{"resource_name", p.label(&cfg.ResourceName, maxResource)},
		{"resources", func(at *place, v value) { p.resources(at, v, cfg) }},
		{"block", func(at *place, v value) { p.block(at, v, &cfg.Block) }},
		{"failures", func(at *place, v value) { p.failures(at, v, &cfg.Failures) }},
		{"mode", word(p, &cfg.Mode, "enforce", "shadow")},
		{"failure_mode", word(p, &cfg.FailureMode, "open", "closed")},
	}
	if p.kind == KindVM {
		for i := range fields {
			fields[i].set = func(at *place, _ value) {
				p.add(at, "belongs in a filter's configuration; the VM's has rules only")
			}
		}
	}
	return fields
}

// only is set for a kind of filter; in another's configuration the key is a mistake.
func (p *parser) only(kind Kind, set setter) setter {
	if p.kind == kind {
		return set
	}
	filter := "HTTP"
	if kind == KindTCP {
		filter = "TCP"
	}
	return func(at *place, _ value) { p.add(at, "is for the ", filter, " filter only") }
}

func (p *parser) block(at *place, v value, b *Block) {
	p.object(at, v, []field{
		{"status", p.only(KindHTTP, integer(p, &b.Status, 200, 599))},
		{"body", p.text(&b.Body, maxBody)},
		{"headers", p.only(KindHTTP, func(at *place, v value) { p.blockHeaders(at, v, b) })},
		{"grpc_status", p.only(KindHTTP, integer(p, &b.GRPCStatus, 1, 16))},
		{"tcp_message", p.only(KindTCP, p.boolean(&b.TCPMessage))},
	})
}

// blockHeaders sorts them by name: a protobuf Struct keeps no order.
func (p *parser) blockHeaders(at *place, v value, b *Block) {
	seen := map[string]bool{}
	p.each(at, v, func(key string, v value) {
		at, name := at.at(key), strings.ToLower(key)
		if len(seen) == maxHeaders || !isToken(name) || seen[name] {
			p.add(at, "must be a header's name, given once, of at most ", strconv.Itoa(maxHeaders))
			return
		}
		seen[name] = true
		var s string
		p.text(&s, maxHeaderValue)(at, v)
		if strings.ContainsFunc(s, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
			p.add(at, "must have no control characters, got ", quote(s))
			return
		}
		b.Headers = append(b.Headers, [2]string{name, s})
	})
	slices.SortFunc(b.Headers, func(x, y [2]string) int { return strings.Compare(x[0], y[0]) })
}

// isToken says whether s can be the name of a header.
func isToken(s string) bool {
	return s != "" && len(s) <= 128 && !strings.ContainsFunc(s, func(r rune) bool {
		return !isWord(r) && !strings.ContainsRune("!#$%&'*+.^`|~", r)
	})
}

// target is a rule's resource, with its place.
type target struct {
	at       *place
	resource string
}

// reachable finds the rules of a filter that can never apply. The VM's rules are for filters it does not know.
func (p *parser) reachable(cfg *Config, targets []target) {
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
