package config

import (
	"bytes"
	"strings"

	"github.com/buger/jsonparser"

	"sentinel-envoy/shared/outcome"
	"sentinel-envoy/shared/rule"
)

// Bounds of one configuration.
const (
	MaxRules       = 16384 // of all families together
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
	cfg.Warnings = p.warnings
	return cfg, nil
}

func (p *parser) config(data []byte) *Config {
	cfg := &Config{Block: defaultBlock(), Failures: outcome.DefaultFailures()}
	top := &place{index: -1}
	if data = bytes.TrimSpace(data); len(data) == 0 || string(data) == "null" {
		return cfg
	}
	if problem := malformed(data); problem != "" {
		if looksLikeYAML(data) {
			problem = "no JSON; is it YAML? A StringValue holds JSON, and YAML goes into a google.protobuf.Struct"
		}
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
	r := newRules(p, cfg, Guess)
	r.first(top, value{data, jsonparser.Object}, "arguments", r.arguments)
	r.first(top, value{data, jsonparser.Object}, "origin", r.origin)
	fields := append(r.fields(), p.filterFields(cfg)...)
	fields = append(fields,
		field{"system_source", func(at *place, v value) { p.systemSource(at, v, cfg) }},
		field{"rate_limit_service", func(at *place, v value) { p.rateLimitService(at, v, cfg) }},
		field{"arguments", func(*place, value) {}}, // these have been read
		field{"origin", r.parser.notOfVM(func(*place, value) {})},
	)
	p.object(top, value{data, jsonparser.Object}, fields)
	r.check(top)
	p.checkRequired(cfg, top)
	return cfg
}

// first reads a key before all others, wherever it stands.
func (p *parser) first(at *place, v value, key string, set setter) {
	p.each(at, v, func(k string, v value) {
		if k == key && v.typ != jsonparser.Null {
			set(at.at(key), v)
		}
	})
}

// check finds what is wrong with all rules together.
func (r *rules) check(top *place) {
	r.seal()
	r.checkCapacity(top)
	r.checkReach()
	r.checkTraffic(top)
	r.checkSources()
}

// checkTraffic wants no system rules of a filter's own that they do not apply to.
func (r *rules) checkTraffic(top *place) {
	if r.cfg.Traffic == Outbound && len(rule.Of[rule.System](r.cfg.Rules)) > 0 {
		r.add(top.at(rule.SystemFamily.Key), "must be left out with traffic_type outbound: they are about what comes in")
	}
}

// seal completes what of a rule depends on others, and then counts all in.
func (r *rules) seal() {
	r.nameOthers()
	r.joinService()
	for _, one := range r.cfg.Rules {
		r.cfg.RuleHash += rule.Hash(one.For().ID, one)
	}
}

// looksLikeYAML is whether the first line of a text that is no JSON has a key, an element of a list, or a comment.
func looksLikeYAML(data []byte) bool {
	line, _, _ := bytes.Cut(data, []byte("\n"))
	word, _, isKey := bytes.Cut(line, []byte(":"))
	isKey = isKey && !bytes.ContainsAny(word, "{[\"")
	return isKey || bytes.HasPrefix(line, []byte("- ")) || bytes.HasPrefix(line, []byte("#")) || bytes.HasPrefix(line, []byte("---"))
}

// filterFields are the keys that say how a filter finds resources and answers.
func (p *parser) filterFields(cfg *Config) []field {
	fields := []field{
		{"resource_name", p.label(&cfg.ResourceName, maxResource)},
		{"resource_from", p.only(KindHTTP, p.resourceFrom(&cfg.ResourceFrom))},
		{"traffic_type", word(p, &cfg.Traffic, "inbound", "outbound")},
		{"resources", func(at *place, v value) { p.resources(at, v, cfg) }},
		{"block", func(at *place, v value) { p.block(at, v, &cfg.Block) }},
		{"failures", func(at *place, v value) { p.failures(at, v, &cfg.Failures) }},
		{"rate_limit_headers", p.only(KindHTTP, word(p, &cfg.RateLimitHeaders, "off", "draft_03", "draft_11"))},
		{"mode", word(p, &cfg.Mode, "enforce", "shadow")},
		{"failure_mode", word(p, &cfg.FailureMode, "open", "closed")},
		{"datasource", func(at *place, v value) { p.dataSources(at, v, cfg) }},
		{"persist", func(at *place, v value) { p.persist(at, v, cfg) }},
	}
	for i := range fields {
		fields[i].set = p.notOfVM(fields[i].set)
	}
	return fields
}

// resourceFrom reads whose name is a resource.
func (p *parser) resourceFrom(dst *ResourceFrom) setter {
	return func(at *place, v value) {
		word(p, dst, "route_name", "cluster_name", "virtual_host")(at, v)
		*dst++ // the zero value is nothing
	}
}

// notOfVM is set but for the VM's configuration, in which the key is a mistake.
func (p *parser) notOfVM(set setter) setter {
	if p.kind != KindVM {
		return set
	}
	return func(at *place, _ value) { p.add(at, "belongs in a filter's configuration; the VM's has rules only") }
}

// only is set for a kind of filter; in another's configuration the key is a mistake.
func (p *parser) only(kind Kind, set setter) setter {
	if p.kind == kind || p.kind == KindVM { // the VM's rules are for both
		return set
	}
	filter := "HTTP"
	if kind == KindTCP {
		filter = "TCP"
	}
	return func(at *place, _ value) { p.add(at, "is for the ", filter, " filter only") }
}

// isToken says whether s can be the name of a header.
func isToken(s string) bool {
	return s != "" && len(s) <= 128 && !strings.ContainsFunc(s, func(r rune) bool {
		return !isWord(r) && !strings.ContainsRune("!#$%&'*+.^`|~", r)
	})
}
