package resource

import (
	"slices"

	"sentinel-envoy/shared/config"
)

// Request is what an HTTP resolver reads.
type Request interface {
	// Header is ":method", ":path", ":authority" or a header by its lower-case name; false when it is absent.
	Header(name string) (value string, ok bool)
}

// HTTP resolves requests. It does not change: any number of goroutines may use one.
type HTTP struct {
	steps    []step
	paths    map[string]string // a path that is a rule's resource: itself
	fallback string
	names    []string // the headers that matchers read; an entry says which by index
}

// The first of HTTP.names are always these.
const (
	method = iota
	path
	authority
)

// step is one entry of `resources`, or a run of entries with exact paths: those are looked up, not tried one by one.
type step struct {
	byPath map[string][]entry // nil for a single entry
	entry  entry
}

type entry struct {
	config.Resource
	headers []int // where in HTTP.names the names of Headers are
}

// NewHTTP prepares a resolver. pathResources are the resources of rules that are paths, "/orders"; others are ignored.
// It fails when the configuration has conditions of TCP.
func NewHTTP(cfg *config.Config, pathResources []string) (*HTTP, error) {
	h := &HTTP{fallback: cfg.ResourceName, names: []string{method: ":method", path: ":path", authority: ":authority"}}
	for i, r := range cfg.Resources {
		if r.SNI.Value != "" || len(r.SourceIP) > 0 || r.DestinationPort != 0 {
			return nil, errKind(i, "a request")
		}
		h.add(entry{Resource: r, headers: h.indices(r.Headers)})
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

func (h *HTTP) indices(headers []config.Header) []int {
	var list []int
	for _, header := range headers {
		i := slices.Index(h.names, header.Name)
		if i < 0 {
			i = len(h.names)
			h.names = append(h.names, header.Name)
		}
		list = append(list, i)
	}
	return list
}

// Resolve names the resource: the first entry of `resources` that matches, or the path that is itself a rule's
// resource, or resource_name; "" is guarded by nothing. It asks for a header when the answer hangs on it, and once.
func (h *HTTP) Resolve(r Request) string {
	if len(h.steps) == 0 && h.paths == nil {
		return h.fallback
	}
	l := lookups{request: r, names: h.names}
	if extra := len(h.names) - len(l.near); extra > 0 {
		l.far = make([]lookup, extra)
	}
	for i := range h.steps {
		if name := h.steps[i].resolve(&l); name != "" {
			return name
		}
	}
	if h.paths != nil {
		if p, ok := l.get(path); ok && h.paths[p] != "" {
			return h.paths[p]
		}
	}
	return h.fallback
}

func (s *step) resolve(l *lookups) string {
	if s.byPath == nil {
		if s.entry.matches(l) {
			return s.entry.Name
		}
		return ""
	}
	p, ok := l.get(path)
	if !ok {
		return ""
	}
	run := s.byPath[p]
	for i := range run {
		if run[i].matches(l) {
			return run[i].Name
		}
	}
	return ""
}

func (e *entry) matches(l *lookups) bool {
	if e.Path.Op != config.Any {
		if p, ok := l.get(path); !matchText(&e.Path, p, ok) {
			return false
		}
	}
	if len(e.Method) > 0 {
		if m, ok := l.get(method); !ok || !slices.Contains(e.Method, m) {
			return false
		}
	}
	if e.Host.Value != "" {
		if host, ok := l.get(authority); !ok || !matchName(&e.Host, host) {
			return false
		}
	}
	for i := range e.Headers {
		if v, ok := l.get(e.headers[i]); !matchText(&e.Headers[i].Value, v, ok) {
			return false
		}
	}
	return true
}

// lookups are the headers of one request as far as they were needed: each is a call to the host.
type lookups struct {
	request Request
	names   []string
	near    [16]lookup // no allocation for the usual number of headers
	far     []lookup
}

type lookup struct {
	value        string
	asked, there bool
}

// get is a header by its index in names; :path without its query, :authority without its port.
func (l *lookups) get(i int) (string, bool) {
	var k *lookup
	if i < len(l.near) {
		k = &l.near[i]
	} else {
		k = &l.far[i-len(l.near)]
	}
	if !k.asked {
		k.asked = true
		k.value, k.there = l.request.Header(l.names[i])
		switch i {
		case path:
			k.value = withoutQuery(k.value)
		case authority:
			k.value = withoutPort(k.value)
		}
	}
	return k.value, k.there
}
