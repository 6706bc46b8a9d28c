package config

import (
	"bytes"
	"strconv"

	"github.com/buger/jsonparser"

	"sentinel-envoy/shared/rule"
)

// Document is what a data source has: rules, as a text.
type Document struct {
	// Source is the index of its source in the filter's datasource, Format and Rules what that says of it.
	Source int
	Format Format
	Rules  string
	Text   []byte
}

// ParseWith is Parse of a filter's configuration together with the documents of its data sources: their rules are added to
// its own, and one with the id of a rule of its own takes that one's place. Mistakes in a document are told with the place
// of its source, as "datasource[0].flowRules[2].threshold". A rule of a document for what this filter does not know is a
// warning, for documents are shared by filters.
func ParseWith(data []byte, kind Kind, documents []Document) (*Config, error) {
	p := &parser{kind: kind}
	cfg := p.config(data, documents)
	if err := p.err(); err != nil {
		return nil, err
	}
	cfg.Warnings = p.warnings
	return cfg, nil
}

// newRules returns what reads lists of rules, of which there may be n already.
func newRules(p *parser, n int) *rules {
	return &rules{parser: p, n: n, ids: map[string]*place{}, unnamed: map[string]*place{}, doubles: map[string]int{}}
}

// keys are the families' keys.
func (r *rules) keys() (keys []string) {
	for _, f := range r.fields(&Config{}) {
		keys = append(keys, f.key)
	}
	return keys
}

// documents reads the documents of a configuration whose own rules r has read, and puts all rules together in cfg.
func (r *rules) documents(cfg *Config, documents []Document) {
	live, all := newRules(r.parser, r.n), &Config{SystemSource: cfg.SystemSource}
	for i := range documents {
		from := len(all.Rules)
		live.document(&documents[i], all)
		live.checkSources(&Config{Rules: all.Rules[from:], SystemSource: cfg.SystemSource}, placeOf(&documents[i]))
	}
	for _, t := range live.targets {
		t.live = true
		r.targets = append(r.targets, t)
	}
	for _, own := range cfg.Rules {
		if id := own.For().ID; live.ids[id] == nil {
			all.Rules = append(all.Rules, own)
			continue
		}
		r.hash -= rule.Hash(own.For().ID, own)
	}
	r.hash += live.hash
	cfg.Rules = all.Rules
}

func placeOf(d *Document) *place {
	return &place{key: "datasource[" + strconv.Itoa(d.Source) + "]", index: -1}
}

// document reads one document.
func (r *rules) document(d *Document, cfg *Config) {
	at, data := placeOf(d), bytes.TrimSpace(d.Text)
	if len(data) == 0 || string(data) == "null" {
		r.add(at, "is empty; to have no rules write {}, or [] for one family's list")
		return
	}
	if problem := malformed(data); problem != "" {
		r.add(at, problem)
		return
	}
	fields := r.fields(cfg)
	switch {
	case d.Rules != "" && data[0] == '[':
		fields[index(fields, d.Rules)].set(at.at(d.Rules), value{data, jsonparser.Array})
	case d.Rules != "":
		r.add(at, "must be a list of ", d.Rules, ", as its rules says; for an object with several lists leave rules out")
	case data[0] == '{':
		r.object(at, value{data, jsonparser.Object}, append(fields, r.foreign(cfg)...))
	default:
		r.add(at, "must be an object with lists of rules; for a list say in rules which family's it is, as flowRules")
	}
}

// foreign are the keys of a configuration that no document has.
func (r *rules) foreign(cfg *Config) []field {
	fields := append(r.filterFields(cfg), field{key: "system_source"})
	for i := range fields {
		fields[i].set = func(at *place, _ value) {
			r.add(at, "belongs in the filter's configuration; a document has rules only")
		}
	}
	return fields
}
