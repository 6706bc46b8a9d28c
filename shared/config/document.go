package config

import (
	"bytes"

	"github.com/buger/jsonparser"

	"sentinel-envoy/shared/rule"
)

// Document is what a source of rules has: a list of rules of one family, or an object with such lists under our keys.
type Document struct {
	Name   string // what mistakes begin with
	Key    string // of the family whose list it is, ours or Java Sentinel's; "" where it is an object
	Format Format
	Text   []byte // JSON
}

// javaKeys are what Java Sentinel's users call lists that have other keys here.
var javaKeys = map[string]string{"degradeRules": "circuitBreakerRules", "paramFlowRules": "hotspotRules"}

// RuleKey is our key of a family's list by ours or Java Sentinel's name of it, and whether there is such a family.
func RuleKey(key string) (string, bool) {
	if own := javaKeys[key]; own != "" {
		key = own
	}
	for _, f := range rule.Families {
		if f.Key == key {
			return key, true
		}
	}
	return key, false
}

// ParseRules reads documents for a filter of the given kind, whose own configuration says what resources, parameters and
// origins are. The result is that configuration with the documents' rules besides its own: one with the id of a rule of its
// own takes that one's place. The documents are taken as one: no two rules of theirs have one id. A rule for what the filter
// does not know is a warning, for filters share documents. The error, if any, is of type Errors and tells every mistake, each
// with the name of its document.
func ParseRules(docs []Document, kind Kind, own *Config) (*Config, error) {
	cfg := *own
	cfg.Rules, cfg.RuleHash, cfg.Warnings = nil, 0, nil
	p := &parser{kind: kind}
	r := newRules(p, &cfg, Guess)
	r.n, r.beside = len(own.Rules), append([]rule.Rule{}, own.Rules...)
	for i := range docs {
		r.document(&docs[i])
	}
	r.checkReach()
	r.checkSources()
	r.joinService()
	r.seal()
	r.keep(own.Rules)
	r.checkCapacity(&place{index: -1})
	if err := p.err(); err != nil {
		return nil, err
	}
	cfg.Warnings = p.warnings
	return &cfg, nil
}

// keep adds a filter's own rules, but for those whose ids documents have given to theirs.
func (r *rules) keep(own []rule.Rule) {
	for _, one := range own {
		if id := one.For().ID; r.ids[id] == nil {
			r.cfg.Rules = append(r.cfg.Rules, one)
			r.cfg.RuleHash += rule.Hash(id, one)
		}
	}
}

// document reads one document.
func (r *rules) document(d *Document) {
	top := &place{key: d.Name, index: -1}
	text := bytes.TrimSpace(d.Text)
	if len(text) == 0 || string(text) == "null" { // what empties a document by mistake must not lift every limit
		r.add(top, "is empty; to have no rules write {}, or [] for one family's list")
		return
	}
	if problem := malformed(text); problem != "" {
		r.add(top, problem)
		return
	}
	r.format = d.Format
	fields := r.fields()
	switch key, known := RuleKey(d.Key); {
	case d.Key == "":
		if text[0] == '{' {
			r.object(top, value{text, jsonparser.Object}, append(fields, r.foreign()...))
		} else {
			r.add(top, "must be an object with flowRules or other lists of rules; for a list say in rules which family's it is")
		}
	case !known:
		r.add(top, quote(d.Key), " is no family's list")
	case text[0] != '[':
		r.add(top, "must be a list of rules; for an object with several lists leave rules out")
	default:
		fields[index(fields, key)].set(top.at(key), value{text, jsonparser.Array})
	}
}

// foreign are the keys of a configuration that no document has.
func (r *rules) foreign() []field {
	fields := append(r.filterFields(&Config{}), field{key: "system_source"}, field{key: "arguments"}, field{key: "origin"})
	for i := range fields {
		fields[i].set = func(at *place, _ value) {
			r.add(at, "belongs in the filter's configuration; a document has rules only")
		}
	}
	return fields
}
