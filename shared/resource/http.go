package resource

import (
	"slices"

	"sentinel-envoy/shared/config"
	"sentinel-envoy/shared/request"
)

// HTTP resolves the requests of one filter.
type HTTP struct {
	stream    *request.Stream
	method    *request.Header
	authority *request.Header
	steps     []step
	paths     map[string]string // a path that is a rule's resource: itself
	fallback  string
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

// NewHTTP prepares a resolver of a stream. pathResources are the resources of rules that are paths, "/orders"; others are
// ignored. It fails when the configuration has conditions of TCP.
func NewHTTP(cfg *config.Config, pathResources []string, s *request.Stream) (*HTTP, error) {
	h := &HTTP{stream: s, method: s.Header(":method"), authority: s.Header(":authority"), fallback: cfg.ResourceName}
	for i, r := range cfg.Resources {
		if r.SNI.Value != "" || len(r.SourceIP) > 0 || r.DestinationPort != 0 {
			return nil, errKind(i, "a request")
		}
		h.add(entry{Resource: r, headers: registered(r.Headers, s)})
	}
	for _, p := range pathResources {
		if len(p) == 0 || p[0] != '/' {
			continue
		}
		if h.paths == nil {
			h.paths = map[string]string{}
		}
		h.paths[p] = p
	}
	return h, nil
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
// resource, or resource_name; "" is guarded by nothing. It asks for a header only when the answer hangs on it.
func (h *HTTP) Resolve() string {
	for i := range h.steps {
		if name := h.resolve(&h.steps[i]); name != "" {
			return name
		}
	}
	if h.paths != nil {
		if p, ok := h.stream.Path(); ok && h.paths[p] != "" {
			return h.paths[p]
		}
	}
	return h.fallback
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
		if v, ok := e.headers[i].Value(); !matchText(&e.Headers[i].Value, v, ok) {
			return false
		}
	}
	return true
}
