// Package request is what a stream, a request or a connection, says of itself: its headers and Envoy's attributes, each
// asked of the host at most once, and the parameters that rules find in them.
package request

import (
	"slices"
	"strings"

	"sentinel-envoy/shared/pattern"
)

// Host answers for the stream whose callback is running. What it returns may be void once the callback has ended.
type Host interface {
	// Header is ":method", ":path", ":authority" or a request header by its lower-case name, of several lines the first;
	// false where it is absent. A connection has none.
	Header(name string) (value string, ok bool)
	// Lines appends the values of all lines of a request header to dst. It costs by the size of all headers.
	Lines(dst []string, name string) []string
	// Property is an Envoy attribute by its path, as its bytes; false where it is absent.
	Property(path []string) (value string, ok bool)
}

// Stream is the stream that a filter is asked about. There is one for all streams of a filter, one after the other: the
// headers, attributes and parameters that may be needed are registered once, and none is asked for twice in a callback.
type Stream struct {
	// Nth is which of a parameter's values a rule is asked about: where a stream gives several, it is asked about each.
	Nth  int
	host Host
	// callback counts Begin: what was read in an earlier one is void.
	callback   uint64
	path       *Header
	normal     cell
	headers    []*Header
	attributes []*Attribute
	parameters []*Parameter
}

// cell is a value that is asked for once.
type cell struct {
	callback uint64
	value    string
	there    bool
}

// NewStream returns a stream of which nothing is known: until Of, everything is absent.
func NewStream() *Stream {
	s := &Stream{callback: 1}
	s.path = s.Header(":path")
	return s
}

// Len is how many headers, attributes and parameters are registered.
func (s *Stream) Len() int { return len(s.headers) + len(s.attributes) + len(s.parameters) }

// Of says whom to ask from now on, and begins a callback.
func (s *Stream) Of(h Host) {
	s.host = h
	s.Begin()
}

// Begin must be called in each callback before anything is read: it is another stream's, or what was read is void.
func (s *Stream) Begin() { s.callback++ }

// fresh is whether a cell was not asked for in this callback, and that there is somebody to ask. The cell is now empty.
func (s *Stream) fresh(c *cell) bool {
	if c.callback == s.callback {
		return false
	}
	*c = cell{callback: s.callback}
	return s.host != nil
}

// Header is a request header of a Stream.
type Header struct {
	stream *Stream
	name   string
	joined *Attribute // nil for :path and its like, which have one line
	cell   cell
	lines  []string
	split  uint64 // the callback that lines is of
}

// Header registers a header by its lower-case name, or ":method", ":path" or ":authority".
func (s *Stream) Header(name string) *Header {
	if i := slices.IndexFunc(s.headers, func(h *Header) bool { return h.name == name }); i >= 0 {
		return s.headers[i]
	}
	h := &Header{stream: s, name: name}
	if !strings.HasPrefix(name, ":") {
		h.joined = s.Attribute("request", "headers", name)
	}
	s.headers = append(s.headers, h)
	return h
}

// Value is the header's value, and whether there is one. That of several lines is all of them, with commas between: the
// host knows a header's first line for the same price, but a client could hide others behind it.
func (h *Header) Value() (string, bool) {
	if h.joined != nil {
		return h.joined.Value()
	}
	if h.stream.fresh(&h.cell) {
		h.cell.value, h.cell.there = h.stream.host.Header(h.name)
	}
	return h.cell.value, h.cell.there
}

// Lines are the values of all lines of the header. What is returned is void with the callback.
func (h *Header) Lines() []string {
	if h.split == h.stream.callback {
		return h.lines
	}
	h.split, h.lines = h.stream.callback, h.lines[:0]
	all, ok := h.Value()
	if !ok {
		return nil
	}
	if h.joined != nil && strings.Contains(all, ",") && !h.isOneLine(all) {
		h.lines = h.stream.host.Lines(h.lines, h.name)
	}
	if len(h.lines) == 0 {
		h.lines = append(h.lines, all)
	}
	return h.lines
}

// isOneLine is whether a value with commas is that of one line.
func (h *Header) isOneLine(all string) bool {
	first, ok := h.stream.host.Header(h.name)
	return ok && first == all
}

// Path is :path without query and fragment, in the form of pattern.NormalPath, and whether there is one.
func (s *Stream) Path() (string, bool) {
	if s.fresh(&s.normal) {
		path, ok := s.path.Value()
		s.normal.value, s.normal.there = pattern.NormalPath(withoutQuery(path)), ok
	}
	return s.normal.value, s.normal.there
}

// Attribute is an Envoy attribute of a Stream.
type Attribute struct {
	stream *Stream
	path   []string
	cell   cell
}

// Attribute registers an attribute by its path, such as "source", "address".
func (s *Stream) Attribute(path ...string) *Attribute {
	if i := slices.IndexFunc(s.attributes, func(a *Attribute) bool { return slices.Equal(a.path, path) }); i >= 0 {
		return s.attributes[i]
	}
	a := &Attribute{stream: s, path: path}
	s.attributes = append(s.attributes, a)
	return a
}

// Value is the attribute's value as Envoy's bytes, and whether there is one.
func (a *Attribute) Value() (string, bool) {
	if a.stream.fresh(&a.cell) {
		a.cell.value, a.cell.there = a.stream.host.Property(a.path)
	}
	return a.cell.value, a.cell.there
}

// Int is the value of an attribute that is a whole number, and whether there is one.
func (a *Attribute) Int() (int64, bool) {
	text, ok := a.Value()
	if !ok || len(text) != 8 {
		return 0, false
	}
	return int64(word(text)), true
}

// word are 8 bytes as a number, as Envoy gives numbers.
func word(b string) (n uint64) {
	for i := range 8 {
		n |= uint64(b[i]) << (8 * i)
	}
	return n
}

// WithoutPort cuts the port off an authority; a v6 address keeps its brackets.
func WithoutPort(authority string) string {
	from := 0
	if strings.HasPrefix(authority, "[") {
		from = strings.IndexByte(authority, ']') + 1
	}
	if colon := strings.IndexByte(authority[from:], ':'); colon >= 0 {
		return authority[:from+colon]
	}
	return authority
}

// withoutQuery cuts the query and the fragment off a path.
func withoutQuery(path string) string {
	for i := range len(path) {
		if path[i] == '?' || path[i] == '#' {
			return path[:i]
		}
	}
	return path
}
