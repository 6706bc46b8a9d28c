package resource

import (
	"errors"
	"slices"
	"strconv"
	"strings"

	"sentinel-envoy/shared/config"
	"sentinel-envoy/shared/lookup"
	"sentinel-envoy/shared/pattern"
	"sentinel-envoy/shared/request"
)

// HTTP resolves the requests of one filter.
type HTTP struct {
	stream    *request.Stream
	method    *request.Header
	authority *request.Header
	exempt    []step // of the entries that are unlimited: they are asked first
	steps     []step
	paths     lookup.Table  // of paths that are rules' resources, in their normal form
	named     []string      // are the resources of paths
	patterns  pattern.Paths // that are rules' resources
	before    []string      // of the stream that is being resolved
	taken     Taken
	// from is whose name is a resource where it is one of names; nil is nobody's.
	from  *request.Attribute
	names lookup.Table
	known []string // by the number of their name
	// hasPaths is whether there is a path or a pattern at all.
	hasPaths bool
	fallback string
}

// step is one entry of `resources`, or a run of entries with exact paths: those are looked up, not tried one by one.
type step struct {
	paths  *lookup.Table // nil for a single entry
	byPath [][]entry     // by the number of their path
	entry  entry
}

// entry is one of `resources`.
type entry struct {
	name   string
	match  *match
	goesOn bool // to the entries after it
}

// NewHTTP prepares a resolver of a stream. rules are resources that are known: those that are paths, "/orders", or path
// patterns need no entry; nor do others where resource_from says so. It fails when the configuration has conditions of TCP,
// or a pattern mistakes.
func NewHTTP(cfg *config.Config, rules []string, s *request.Stream) (*HTTP, error) {
	h := &HTTP{stream: s, method: s.Header(":method"), authority: s.Header(":authority"), fallback: cfg.ResourceName}
	named := map[string]bool{}
	for i := range cfg.Resources {
		r := &cfg.Resources[i]
		if r.OfTCP() {
			return nil, errKind(i, "a request")
		}
		e := entry{name: r.Name, match: newMatch(&r.Match, s), goesOn: r.Continue}
		if r.Unlimited {
			h.exempt = add(h.exempt, e)
			continue
		}
		h.steps = add(h.steps, e)
		named[r.Name] = true
	}
	h.nameFrom(cfg.ResourceFrom, rules)
	for _, name := range rules {
		if !strings.HasPrefix(name, "/") || named[name] { // an entry says itself what it takes
			continue
		}
		if err := h.addPath(name); err != nil {
			return nil, err
		}
	}
	return h, nil
}

// nameFrom lets names in Envoy be resources.
func (h *HTTP) nameFrom(from config.ResourceFrom, known []string) {
	switch from {
	case config.FromNothing:
		return
	case config.FromRoute:
		h.from = h.stream.Attribute("xds", "route_name")
	case config.FromCluster:
		h.from = h.stream.Attribute("xds", "cluster_name")
	case config.FromVirtualHost:
		h.from = h.stream.Attribute("xds", "virtual_host_name")
	}
	for _, name := range known {
		if h.names.Add(name) == len(h.known) {
			h.known = append(h.known, name)
		}
	}
}

// byEnvoy is the name in Envoy that is a resource, "" where there is none.
func (h *HTTP) byEnvoy() string {
	if h.from == nil {
		return ""
	}
	name, _ := h.from.Value()
	if n := h.names.Find(name); n != lookup.None {
		return h.known[n]
	}
	return ""
}

// addPath adds a path, or a path pattern, that is a resource.
func (h *HTTP) addPath(name string) error {
	h.hasPaths = true
	if !pattern.IsPattern(name) {
		if n := h.paths.Add(pattern.NormalPath(name)); n == len(h.named) {
			h.named = append(h.named, name)
		} else {
			h.named[n] = name
		}
		return nil
	}
	p, err := pattern.ParsePath(name)
	if err != nil {
		return errors.New("resource " + strconv.Quote(name) + ": " + err.Error())
	}
	h.patterns.Add(p, name)
	return nil
}

// add adds an entry to steps.
func add(steps []step, e entry) []step {
	path := &e.match.Path
	if !path.IsExact() || e.goesOn {
		return append(steps, step{entry: e})
	}
	if n := len(steps); n == 0 || steps[n-1].paths == nil {
		steps = append(steps, step{paths: &lookup.Table{}})
	}
	run := &steps[len(steps)-1]
	n := run.paths.Add(path.Value)
	if n == len(run.byPath) {
		run.byPath = append(run.byPath, nil)
	}
	run.byPath[n] = append(run.byPath[n], e)
	return steps
}

// Resolve names the stream's resource: the first entry of `resources` that matches, or the path that is itself a rule's
// resource, or the most specific path pattern that is, or the name that Envoy has for where it goes, or resource_name.
// Entries that are unlimited are asked first. It asks for a header only when the answer hangs on it.
func (h *HTTP) Resolve() *Taken {
	if len(h.exempt) > 0 {
		if name := h.first(h.exempt, true); name != "" {
			return h.taken.isExempt(name)
		}
	}
	h.before = h.before[:0]
	name := ""
	if len(h.steps) > 0 {
		name = h.first(h.steps, false)
	}
	if name == "" {
		name = h.byPath()
	}
	if name == "" {
		name = h.byEnvoy()
	}
	if name == "" {
		name = h.fallback
	}
	return h.taken.is(h.before, name)
}

// first is the first entry that matches, spared of those that are: what a client adds must not bring it into one.
func (h *HTTP) first(steps []step, spared bool) string {
	for i := range steps {
		name := h.resolve(&steps[i], spared)
		switch {
		case name == "":
		case steps[i].entry.goesOn:
			h.before = also(h.before, name)
		default:
			return name
		}
	}
	return ""
}

// byPath is the path, or the most specific path pattern, that is a rule's resource.
func (h *HTTP) byPath() string {
	if !h.hasPaths {
		return ""
	}
	p, ok := h.stream.Path()
	if !ok {
		return ""
	}
	if n := h.paths.Find(p); n != lookup.None {
		return h.named[n]
	}
	return h.patterns.Find(p)
}

func (h *HTTP) resolve(s *step, spared bool) string {
	if s.paths == nil {
		if h.meets(s.entry.match, spared) {
			return s.entry.name
		}
		return ""
	}
	p, ok := h.stream.Path()
	if !ok {
		return ""
	}
	n := s.paths.Find(p)
	if n == lookup.None {
		return ""
	}
	for _, e := range s.byPath[n] {
		if h.meets(e.match, spared) {
			return e.name
		}
	}
	return ""
}

// meets is whether the request meets all conditions of a match; negated is described with meets and holds.
func (h *HTTP) meets(m *match, negated bool) bool {
	if m.Path.Op != config.Any {
		if p, ok := h.stream.Path(); !meets(&m.Path, p, ok, negated) {
			return false
		}
	}
	if len(m.Method) > 0 {
		if method, ok := h.method.Value(); !ok || !slices.Contains(m.Method, method) {
			return false
		}
	}
	if m.Host.Value != "" {
		if host, ok := h.authority.Value(); !ok || !matchName(&m.Host, request.WithoutPort(host)) {
			return false
		}
	}
	return h.meetsFields(m, negated) && fromOneOf(m.SourceIP, m.source) && (m.not == nil || !h.meets(m.not, !negated))
}

// meetsFields is whether what the client names meets its conditions.
func (h *HTTP) meetsFields(m *match, negated bool) bool {
	for i := range m.headers {
		if !holds(&m.Headers[i], m.headers[i].Lines(), false, negated) {
			return false
		}
	}
	return areMet(m.Query, m.query, negated) && areMet(m.Cookies, m.cookies, negated)
}

// areMet is whether parameters meet their conditions.
func areMet(conditions []config.Field, of []*request.Parameter, negated bool) bool {
	for i := range of {
		values := of[i].Values()
		if !holds(&conditions[i], values.All(), values.TooMany(), negated) {
			return false
		}
	}
	return true
}
