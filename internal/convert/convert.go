// Package convert makes configurations of this plugin of what other products have: each rule with a comment that says what
// it was, and what cannot be converted with its place and reason.
package convert

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"sentinel-envoy/internal/configfile"
	"sentinel-envoy/shared/config"
	"sentinel-envoy/shared/rule"
)

// Result is a configuration in the making.
type Result struct {
	file     string
	lists    map[string][]entry // by key; rules, and entries of resources
	mistakes []configfile.Mistake
	needs    []string // keys that the configuration needs, and what to write there
}

// entry is one element of a list.
type entry struct {
	text string // flow style
	was  string // what it was made of
}

// From reads a file of one of the products and writes our configuration, as YAML. The error tells every mistake, a line
// each.
func From(product, file string, text []byte, rules string) (string, error) {
	docs, err := configfile.Read(text)
	if err != nil {
		return "", fmt.Errorf("%s: %w", file, err)
	}
	r := &Result{file: file, lists: map[string][]entry{}}
	switch product {
	case "java":
		for _, d := range docs {
			r.java(d, rules)
		}
	case "gateway":
		r.gateway(docs)
	case "crd":
		r.crds(docs)
	case "opensergo":
		r.openSergo(docs)
	case "ratelimit":
		r.rateLimit(docs)
	default:
		return "", fmt.Errorf("%q is not java, gateway, crd, opensergo or ratelimit", product)
	}
	if len(r.mistakes) > 0 {
		return "", configfile.Error(r.mistakes)
	}
	return r.yaml(), nil
}

// wrong notes a mistake in a document.
func (r *Result) wrong(at configfile.Document, reason string, args ...any) {
	r.mistakes = append(r.mistakes, configfile.Mistake{File: r.file, Line: at.Line(), Reason: fmt.Sprintf(reason, args...)})
}

// add adds an element of a list, which was made of a document.
func (r *Result) add(key string, of configfile.Document, text string) {
	r.lists[key] = append(r.lists[key], entry{text, strings.Join(strings.Fields(string(of.JSON())), " ")})
}

// need notes a key that the configuration needs, once.
func (r *Result) need(text string) {
	if !slices.Contains(r.needs, text) {
		r.needs = append(r.needs, text)
	}
}

// yaml is what was converted.
func (r *Result) yaml() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Made of %s; each entry stands below what it was.\n", r.file)
	for _, need := range r.needs {
		b.WriteString(need + "\n")
	}
	keys := []string{"resources"}
	for _, f := range rule.Families {
		keys = append(keys, f.Key)
	}
	for _, key := range keys {
		if len(r.lists[key]) > 0 {
			b.WriteString(key + ":\n")
		}
		for _, e := range r.lists[key] {
			fmt.Fprintf(&b, "  # %s\n  - %s\n", e.was, e.text)
		}
	}
	return b.String()
}

// java reads a list of one family's rules, or an object with such lists.
func (r *Result) java(d configfile.Document, key string) {
	if d.IsList() {
		r.javaList(d, key)
		return
	}
	d.Members(func(key string, list configfile.Document) { r.javaList(list, key) })
}

func (r *Result) javaList(d configfile.Document, key string) {
	if key == "" {
		r.wrong(d, "is a list: say with --rules of which family, as --rules flowRules")
		return
	}
	if _, known := config.RuleKey(key); !known {
		r.wrong(d, "%s is no family's list", key)
		return
	}
	for i, item := range d.Items() {
		r.rule(item, key, i, config.Guess)
	}
}

// rule converts one rule, the ith of a list, by the parser of the plugin: one of Java Sentinel's may be several, or in
// another family.
func (r *Result) rule(d configfile.Document, key string, i int, format config.Format) {
	doc := config.Document{Key: key, Format: format, Text: slices.Concat([]byte("["), d.JSON(), []byte("]"))}
	cfg, err := config.ParseRules([]config.Document{doc}, config.KindVM, configfile.Lenient())
	own, _ := config.RuleKey(key)
	if err != nil {
		found := d.Mistakes(r.file, own+"[0]", err)
		for n := range found {
			found[n].Path = strings.Replace(found[n].Path, "[0]", fmt.Sprintf("[%d]", i), 1)
		}
		r.mistakes = append(r.mistakes, found...)
		return
	}
	for _, w := range cfg.Warnings {
		r.need("# " + strings.Replace(w.String(), "[0]", fmt.Sprintf("[%d]", i), 1))
	}
	for _, one := range cfg.Rules {
		r.add(one.Family().Key, d, write(one))
		r.needsOf(one)
	}
}

// needsOf notes what a rule needs beside it.
func (r *Result) needsOf(one rule.Rule) {
	if one.For().LimitApp != "" {
		r.need("origin: {from: Header, name: x-app}      # where a request says whom it comes from: change it")
	}
	switch one := one.(type) {
	case *rule.System:
		if one.MetricType == rule.SystemLoad || one.MetricType == rule.SystemCPUUsage {
			r.need("system_source: {cluster: node}           # a cluster of Envoy's that answers like node_exporter: change it")
		}
	case *rule.Hotspot:
		if one.ParamKey == "x-arg" {
			r.need("# paramKey x-arg stands for the arguments of Java's methods: write what they are here")
		}
	}
}

// write is a rule as one writes it: without its id, unless it was given one, and without what is left out as well.
func write(one rule.Rule) string {
	text, err := json.Marshal(one)
	if err != nil {
		panic(err) // a rule always is JSON
	}
	bare := *one.For()
	one.For().ID = ""
	made := rule.IDOf(one, 1) == bare.ID
	*one.For() = bare
	var parts []string
	docs, err := configfile.Read(text)
	if err != nil {
		panic(err)
	}
	docs[0].Members(func(key string, v configfile.Document) {
		value := v.JSON()
		switch s := string(value); {
		case key == "id" && made, s == `""`, s == "false", s == "null", defaults[key] == s:
		case s == "0" && !says(one.Family(), key):
		case one.Family() == rule.SystemFamily && key == "strategy" && s == "-1":
		default:
			parts = append(parts, key+": "+named(one.Family(), key, value))
		}
	})
	return "{" + strings.Join(parts, ", ") + "}"
}

// says is whether a key of a rule says something where it is 0.
func says(of *rule.Family, key string) bool {
	switch key {
	case "threshold", "triggerCount", "strategy":
		return true
	case "metricType":
		return of != rule.IsolationFamily
	}
	return false
}

// defaults are values that are as good as left out.
var defaults = map[string]string{"statIntervalInMs": "1000", "statSlidingWindowBucketCount": "1"}

// named is a value with the name that an enumeration has for it.
func named(of *rule.Family, key string, value []byte) string {
	var n int32
	if json.Unmarshal(value, &n) != nil {
		return string(value)
	}
	name := ""
	switch key {
	case "controlBehavior":
		name = rule.ControlBehavior(n).String()
	case "tokenCalculateStrategy":
		name = rule.TokenCalculateStrategy(n).String()
	case "relationStrategy":
		name = rule.RelationStrategy(n).String()
	case "paramSource":
		name = rule.ParamSource(n).String()
	case "emptyOrigin":
		name = rule.EmptyOrigin(n).String()
	case "metricType":
		if name = rule.HotspotMetric(n).String(); of == rule.SystemFamily {
			name = rule.SystemMetric(n).String()
		}
	case "strategy":
		switch of {
		case rule.AuthorityFamily:
			name = rule.AuthorityStrategy(n).String()
		case rule.SystemFamily:
			name = rule.AdaptiveStrategy(n).String()
		default:
			name = rule.BreakerStrategy(n).String()
		}
	}
	if name == "" {
		return string(value)
	}
	return name
}
