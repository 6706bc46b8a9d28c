package config

import (
	"math/bits"
	"slices"
	"strconv"

	"github.com/buger/jsonparser"

	"sentinel-envoy/shared/pattern"
	"sentinel-envoy/shared/rule"
)

const (
	maxInterval = 3600 * 1000 // milliseconds, of breakers and what a service counts
	maxSeconds  = rule.LongestMs / 1000
	maxWindow   = rule.LongestMs
	maxUint32   = 1<<32 - 1
	maxBuckets  = 60
	maxItems    = 1024 // specificItems of a hotspot rule
	coldFactor  = 3    // Sentinel's default
)

// rules reads the families' lists and keeps what is said of all of them together.
type rules struct {
	*parser
	cfg     *Config
	format  Format
	n       int
	places  []*place          // of cfg.Rules
	ids     map[string]*place // the rule that has the id
	unnamed map[string]*place // the rule without an id that has the content
	doubles map[string]int    // how many rules without an id have one name
	targets []target
	// clustered are those in cluster mode.
	clustered []clustered
	// beside are rules of the filter's own, where documents are read.
	beside []rule.Rule

	// before is how many mistakes there were before the rule that is being read; javaID is the number that it has for an id.
	before int
	javaID value
}

func newRules(p *parser, cfg *Config, format Format) *rules {
	return &rules{
		parser: p, cfg: cfg, format: format,
		ids: map[string]*place{}, unnamed: map[string]*place{}, doubles: map[string]int{},
	}
}

// fields are the families' lists: a family is read where its key stands here.
func (r *rules) fields() []field {
	return []field{
		listOf(r, rule.AuthorityFamily, r.authorityWords, r.authority),
		listOf(r, rule.FlowFamily, r.flowWords, r.flow),
		listOf(r, rule.BreakerFamily, r.breakerWords, r.circuitBreaker),
		listOf(r, rule.IsolationFamily, r.isolationWords, r.isolation),
		listOf(r, rule.HotspotFamily, r.hotspotWords, r.hotspot),
		listOf(r, rule.SystemFamily, r.systemWords, r.system),
	}
}

// words are the keys of a rule: those that we share with Java Sentinel, those that it has not, and those that we have not.
type words struct{ both, own, java []field }

// saying is a rule as it was read.
type saying struct {
	at     *place
	fields []field
	seen   uint64
	java   bool // whether it is in Java Sentinel's words
}

// has is whether the rule has the key.
func (s *saying) has(key string) bool { return has(s.seen, s.fields, key) }

// key is the place of one of two keys: ours, or what Java Sentinel calls it.
func (s *saying) key(own, java string) *place {
	if s.java {
		return s.at.at(java)
	}
	return s.at.at(own)
}

// listOf reads one family: its keys, each rule into the same draft, because their setters cost more than a rule, and then
// what complete makes of it.
func listOf[D any](r *rules, of *rule.Family, keys func(*D) words, complete func(*saying, *D)) field {
	return field{of.Key, func(at *place, v value) {
		draft, empty := new(D), *new(D)
		known := keys(draft)
		r.readAll(at, v, &known, func() { *draft = empty }, func(s *saying) { complete(s, draft) })
	}}
}

// readAll reads a list of rules; it stands by itself because each family has a listOf.
func (r *rules) readAll(at *place, v value, known *words, begin func(), complete func(*saying)) {
	fields := slices.Concat(known.both, known.own, known.java)
	r.list(at, v, func(at *place, v value) bool {
		if r.n++; r.n > MaxRules {
			r.add(at, "more than ", strconv.Itoa(MaxRules), " rules in one configuration")
			return false
		}
		if v.typ != jsonparser.Object {
			r.add(at, "must be an object, got ", v.describe())
			return true
		}
		begin()
		r.before, r.javaID = r.count(), value{}
		s := &saying{at: at, fields: fields, seen: r.object(at, v, fields)}
		r.tellApart(s, known)
		complete(s)
		return true
	})
}

// tellApart finds whose words a rule is in, and those that do not go together.
func (r *rules) tellApart(s *saying, known *words) {
	ours := s.seen >> len(known.both)
	javas := ours >> len(known.own)
	ours &= 1<<len(known.own) - 1
	s.java = r.format == Java || javas != 0
	switch {
	case javas != 0 && r.format == Sentinel:
		r.add(s.at.at(known.java[bits.TrailingZeros64(javas)].key), "is Java Sentinel's; write format java, or leave format out")
	case s.java && ours != 0 && javas != 0:
		r.add(s.at.at(known.own[bits.TrailingZeros64(ours)].key), "does not go with ",
			known.java[bits.TrailingZeros64(javas)].key, ", which is Java Sentinel's: write the rule in its words or in ours")
	case s.java && ours != 0:
		r.add(s.at.at(known.own[bits.TrailingZeros64(ours)].key), "is not Java Sentinel's, which the format is")
	case !s.java && r.javaID.typ == jsonparser.Number && s.at.parent.key != rule.AuthorityFamily.Key: // their words are ours
		r.add(s.at.at("id"), "must be a string, got ", r.javaID.describe(), inQuotes(r.javaID.typ))
	}
}

// targetFields are the keys of every rule that guards a resource.
func (r *rules) targetFields(of *rule.Target, others ...field) []field {
	return append(r.ruleFields(of,
		field{"resource", r.label(&of.Resource, maxResource)},
		field{"regex", r.boolean(&of.Regex)},
	), others...)
}

// ruleFields are the keys of every rule.
func (r *rules) ruleFields(of *rule.Target, others ...field) []field {
	return append([]field{
		r.idField(&of.ID),
		{"block", r.ownBlock(&of.Block)},
		{"mode", r.trial(of, func(t *rule.Trial) setter { return enum(r.parser, &t.Mode, rule.Enforce, rule.Shadow) })},
		{"action", r.only(KindHTTP, r.trial(of, func(t *rule.Trial) setter { return enum(r.parser, &t.Action, rule.Refuse, rule.Annotate) }))},
		{"enabledPercent", r.trial(of, func(t *rule.Trial) setter { return r.percent(&t.EnabledPercent) })},
		{"enforcedPercent", r.trial(of, func(t *rule.Trial) setter { return r.percent(&t.EnforcedPercent) })},
	}, others...)
}

// idField is the key of a rule's id. Java Sentinel has numbers, which are rows of its dashboard's memory and name nothing.
func (r *rules) idField(dst *string) field {
	return field{"id", func(at *place, v value) {
		if v.typ == jsonparser.Number {
			r.javaID = v
			return
		}
		r.label(dst, rule.MaxID)(at, v)
	}}
}

// require adds a mistake for each of the keys that is not there.
func (r *rules) require(s *saying, keys ...string) {
	for _, key := range keys {
		if !s.has(key) {
			r.add(s.at.at(key), "missing")
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

// include keeps a rule, and gives it an id when it has none.
func (r *rules) include(s *saying, content rule.Rule) {
	r.checkTrial(s.at, content)
	id := &content.For().ID
	switch {
	case *id != "":
		if first := r.ids[*id]; first != nil {
			r.add(s.at.at("id"), quote(*id), " is the id of ", first.String(), " already")
			return
		}
	case r.count() > r.before: // it has mistakes: its content means nothing
		return
	case !r.name(s, content):
		return
	}
	r.ids[*id] = s.at
	r.cfg.Rules, r.places = append(r.cfg.Rules, content), append(r.places, s.at)
}

// name gives a rule the id that follows from its content: the next of its name that no other rule has. A rule that says what
// another has said is a mistake; Java Sentinel, and so we of its rules, leave it out.
func (r *rules) name(s *saying, content rule.Rule) bool {
	same := string(rule.AppendContent(nil, content))
	switch first := r.unnamed[same]; {
	case first == nil:
	case s.java:
		r.warn(s.at, "is the same as ", first.String(), ", and left out as by Java Sentinel")
		return false
	default:
		r.add(s.at, "is the same as ", first.String(), "; leave one out or give each an id")
		return false
	}
	r.unnamed[same] = s.at
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

// eachOf calls f for every rule of one type, with its place.
func eachOf[T any](r *rules, f func(at *place, one *T)) {
	for i, one := range r.cfg.Rules {
		if t, ok := one.(any).(*T); ok {
			f(r.places[i], t)
		}
	}
}
