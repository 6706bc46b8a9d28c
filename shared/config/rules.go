package config

import (
	"strconv"

	"github.com/buger/jsonparser"

	"sentinel-envoy/shared/pattern"
	"sentinel-envoy/shared/rule"
)

const (
	maxInterval = 3600 * 1000 // milliseconds
	maxSeconds  = 3600
	maxUint32   = 1<<32 - 1
	maxBuckets  = 20
	maxItems    = 1024 // specificItems of a hotspot rule
	coldFactor  = 3    // Sentinel's default
)

// rules reads the five lists and keeps what is said of all of them together.
type rules struct {
	*parser
	n       int
	ids     map[string]*place // the rule that has the id
	unnamed map[string]*place // the rule without an id that has the content
	doubles map[string]int    // how many rules without an id have one name
	hash    uint64
	targets []target
	before  int // how many mistakes there were before the rule that is being read
}

// fields are the families' lists: a family is read where its key stands here.
func (r *rules) fields(cfg *Config) []field {
	return []field{
		listOf(r, cfg, rule.FlowFamily, r.flowFields, r.flow),
		listOf(r, cfg, rule.BreakerFamily, r.breakerFields, r.circuitBreaker),
		listOf(r, cfg, rule.IsolationFamily, r.isolationFields, r.isolation),
		listOf(r, cfg, rule.HotspotFamily, r.hotspotFields, r.hotspot),
		listOf(r, cfg, rule.SystemFamily, r.systemFields, r.system),
	}
}

// ruleOf is a pointer to a rule of the type T.
type ruleOf[T any] interface {
	*T
	rule.Rule
}

// listOf reads one family: its keys, each rule into the same draft, because their setters cost more than a rule, and then
// what check completes and finds in a copy of it. A rule with mistakes keeps its place in the list, so that indices stay the
// document's.
func listOf[T any, R ruleOf[T]](
	r *rules, cfg *Config, of *rule.Family,
	keys func(draft R) []field, check func(at *place, seen uint64, fields []field, one R),
) field {
	return field{of.Key, func(at *place, v value) {
		draft := R(new(T))
		fields := keys(draft)
		r.list(at, v, func(at *place, v value) bool {
			if r.n++; r.n > MaxRules {
				r.add(at, "more than ", strconv.Itoa(MaxRules), " rules in one configuration")
				return false
			}
			one := R(new(T))
			cfg.Rules = append(cfg.Rules, one)
			if v.typ != jsonparser.Object {
				r.add(at, "must be an object, got ", v.describe())
				return true
			}
			r.before, *draft = r.count(), *one
			seen := r.object(at, v, fields)
			*one = *draft
			check(at, seen, fields, one)
			return true
		})
	}}
}

// targetFields are the keys of every rule that guards a resource.
func (r *rules) targetFields(of *rule.Target, others ...field) []field {
	return append([]field{
		{"id", r.label(&of.ID, rule.MaxID)},
		{"resource", r.label(&of.Resource, maxResource)},
		{"regex", r.boolean(&of.Regex)},
	}, others...)
}

// require adds a mistake for each of the keys that is not there.
func (r *rules) require(at *place, seen uint64, fields []field, keys ...string) {
	for _, key := range keys {
		if !has(seen, fields, key) {
			r.add(at.at(key), "missing")
		}
	}
}

// checkResource keeps a resource for checkReach, and compiles the expression or the path pattern that stands for it.
func (r *rules) checkResource(at *place, of *rule.Target) {
	t := target{at: at.at("resource"), of: of}
	switch {
	case of.Resource == "": // has been said
		return
	case of.Regex:
		if e := r.expression(t.at, of.Resource); e != nil {
			of.Pattern = e.Regexp()
		}
	case of.Resource[0] == '/' && pattern.IsPattern(of.Resource):
		t.pattern, t.problem = pattern.ParsePath(of.Resource)
	}
	r.targets = append(r.targets, t)
}

// include gives the rule an id when it has none, and counts it in.
func (r *rules) include(at *place, content rule.Rule) {
	id := &content.For().ID
	switch {
	case *id != "":
		if first := r.ids[*id]; first != nil {
			r.add(at.at("id"), quote(*id), " is the id of ", first.String(), " already")
			return
		}
	case r.count() > r.before: // it has mistakes: its content means nothing
		return
	case !r.name(at, content):
		return
	}
	r.ids[*id] = at
	r.hash += rule.Hash(*id, content)
}

// name gives a rule the id that follows from its content: the next of its name that no other rule has. A rule that says what
// another has said is a mistake.
func (r *rules) name(at *place, content rule.Rule) bool {
	same := content.Family().Name + string(content.Canonical(nil))
	if first := r.unnamed[same]; first != nil {
		r.add(at, "is the same as ", first.String(), "; leave one out or give each an id")
		return false
	}
	r.unnamed[same] = at
	name := rule.IDOf(content, 1)
	id := name
	for n := r.doubles[name]; ; n++ {
		if id = rule.IDOf(content, 1+n); r.ids[id] == nil {
			r.doubles[name] = n + 1
			break
		}
	}
	content.For().ID = id
	return true
}
