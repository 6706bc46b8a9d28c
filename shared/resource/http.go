package resource

import (
	"errors"
	"slices"
	"strconv"
	"strings"

	"sentinel-envoy/shared/config"
	"sentinel-envoy/shared/pattern"
	"sentinel-envoy/shared/request"
)

// HTTP resolves the requests of one filter.
type HTTP struct {
	stream    *request.Stream
	method    *request.Header
	authority *request.Header
	steps     []step
	paths     map[string]string // of paths that are rules' resources, in their normal form
	patterns  pattern.Paths     // that are rules' resources
	// hasPaths is whether there is a path or a pattern at all.
	hasPaths bool
	fallback string
}

// step is one entry of `resources`, or a run of entries with exact paths: those are looked up, not tried one by one.
type step struct {
	byPath map[string][]entry // nil for a single entry
	entry  entry
}

type entry struct {
	config.Resource
	headers []*request.Header // of the conditions in Headers, in their order
}

// NewHTTP prepares a resolver of a stream. rules are resources of rules: those that are paths, "/orders", or path patterns
// need no entry; others are ignored. It fails when the configuration has conditions of TCP, or a pattern mistakes.
func NewHTTP(cfg *config.Config, rules []string, s *request.Stream) (*HTTP, error) {
	h := &HTTP{stream: s, method: s.Header(":method"), authority: s.Header(":authority"), fallback: cfg.ResourceName}
	named := map[string]bool{}
	for i, r := range cfg.Resources {
		if r.SNI.Value != "" || len(r.SourceIP) > 0 || r.DestinationPort != 0 {
			return nil, errKind(i, "a request")
		}
		h.add(entry{Resource: r, headers: registered(r.Headers, s)})
		named[r.Name] = true
	}
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

// addPath adds a path, or a path pattern, that is a resource.
func (h *HTTP) addPath(name string) error {
	h.hasPaths = true
	if !pattern.IsPattern(name) {
		if h.paths == nil {
			h.paths = map[string]string{}
		}
		h.paths[pattern.NormalPath(name)] = name
		return nil
	}
	p, err := pattern.ParsePath(name)
	if err != nil {
		return errors.New("resource " + strconv.Quote(name) + ": " + err.Error())
	}
	h.patterns.Add(p, name)
	return nil
}

func (h *HTTP) add(e entry) {
	if e.Path.Op != config.Exact {
		h.steps = append(h.steps, step{entry: e})
		return
	}
	if n := len(h.steps); n == 0 || h.steps[n-1].byPath == nil {
		h.steps = append(h.steps, step{byPath: map[string][]entry{}})
	}
	run := h.steps[len(h.steps)-1].byPath
	run[e.Path.Value] = append(run[e.Path.Value], e)
}

// registered are the headers that conditions look at.
func registered(conditions []config.Header, s *request.Stream) []*request.Header {
	list := make([]*request.Header, len(conditions))
	for i, c := range conditions {
		list[i] = s.Header(c.Name)
	}
	return list
}

// Resolve names the stream's resource: the first entry of `resources` that matches, or the path that is itself a rule's
// resource, or the most specific path pattern that is, or resource_name; "" is guarded by nothing. It asks for a header only when the answer hangs on it.
func (h *HTTP) Resolve() string {
	for i := range h.steps {
		if name := h.resolve(&h.steps[i]); name != "" {
			return name
		}
	}
	if name := h.byPath(); name != "" {
		return name
	}
	return h.fallback
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
	if name := h.paths[p]; name != "" {
		return name
	}
	return h.patterns.Find(p)
}

func (h *HTTP) resolve(s *step) string {
	if s.byPath == nil {
		if h.meets(&s.entry) {
			return s.entry.Name
		}
		return ""
	}
	p, ok := h.stream.Path()
	if !ok {
		return ""
	}
	run := s.byPath[p]
	for i := range run {
		if h.meets(&run[i]) {
			return run[i].Name
		}
	}
	return ""
}

// meets is whether the request meets all conditions of an entry.
func (h *HTTP) meets(e *entry) bool {
	if e.Path.Op != config.Any {
		if p, ok := h.stream.Path(); !matchText(&e.Path, p, ok) {
			return false
		}
	}
	if len(e.Method) > 0 {
		if m, ok := h.method.Value(); !ok || !slices.Contains(e.Method, m) {
			return false
		}
	}
	if e.Host.Value != "" {
		if host, ok := h.authority.Value(); !ok || !matchName(&e.Host, request.WithoutPort(host)) {
			return false
		}
	}
	for i := range e.Headers {
		if !anyMatches(&e.Headers[i].Value, e.headers[i].Lines()) {
			return false
		}
	}
	return true
}

// anyMatches is whether one of a header's lines meets a condition. A client that adds lines can so come into an entry, but
// not leave one.
func anyMatches(t *config.Text, lines []string) bool {
	return slices.ContainsFunc(lines, func(line string) bool { return matchText(t, line, true) })
}
