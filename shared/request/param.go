package request

import (
	"slices"
	"strings"
	"unsafe"

	"sentinel-envoy/shared/pattern"
	"sentinel-envoy/shared/rule"
)

// Param is what a rule calls a parameter. Equal ones have the same values.
type Param struct {
	Source rule.ParamSource
	// Name is that of a header, query parameter or cookie, or an attribute's path with zero bytes between its parts; Index
	// counts query parameters or path segments, from the end where negative; Hops is which address of x-forwarded-for is
	// the client's, from its end, 0 for none.
	Name  string
	Index int
	Hops  uint32
	// V4 and V6 are how many bits of an address are its value, 0 for all; Lowercase is whether the case of letters is none of
	// it.
	V4, V6    int
	Lowercase bool
	// Empty is whether a stream that has none has "" for its value.
	Empty bool
	// Numbers and Booleans say that the rule has items of these kinds: values that are such have one form.
	Numbers, Booleans bool
}

// ParamOf is a parameter of a rule, without what the rule's items say of its values.
func ParamOf(of *rule.Param) Param {
	p := Param{
		Source: of.ParamSource, Name: of.ParamKey, Index: of.ParamIndex, Hops: of.TrustedHops, V4: of.V4PrefixLen,
		V6: of.V6PrefixLen, Lowercase: of.Lowercase, Empty: of.Missing == rule.EmptyMissing,
	}
	switch p.Source {
	case rule.Header:
		p.Name = strings.ToLower(p.Name)
	case rule.Property:
		p.ofAttribute(AttributeOf(of))
	}
	return p
}

// ParamsOf are the parameters of a rule. Its items are about the first.
func ParamsOf(r *rule.Hotspot) (all []Param) {
	for _, of := range r.Each() {
		all = append(all, ParamOf(&of))
	}
	first := &all[0]
	for _, item := range r.SpecificItems {
		if item.Pattern != rule.NoPattern {
			continue
		}
		first.Numbers = first.Numbers || item.ValKind == rule.KindInt || item.ValKind == rule.KindFloat64
		first.Booleans = first.Booleans || item.ValKind == rule.KindBool
	}
	return all
}

// ofAttribute sets the name. A request header is one by whatever way it is named: Envoy joins its lines.
func (p *Param) ofAttribute(path []string) {
	if len(path) == 3 && path[0] == "request" && path[1] == "headers" {
		p.Source, p.Name = rule.Header, strings.ToLower(path[2])
		return
	}
	p.Name = strings.Join(path, "\x00")
}

// String says in a few words what the parameter is.
func (p Param) String() string {
	switch p.Source {
	case rule.Header, rule.Cookie:
		return strings.ToLower(p.Source.String()) + " " + p.Name
	case rule.Property:
		return "property " + strings.ReplaceAll(p.Name, "\x00", ".")
	case rule.Query:
		return "query parameter " + p.Name
	case rule.PathSegment:
		return "path segment"
	case rule.Host:
		return "host"
	case rule.SourceAddress:
		return "source address"
	}
	return p.Source.String()
}

// Parameter is a parameter of a Stream.
type Parameter struct {
	Param
	stream    *Stream
	header    *Header    // where it is found
	attribute *Attribute // where it is found
	source    *Source    // where it is found
	values    Values
	text      []byte // of an address
	callback  uint64 // that values are of
}

// Parameter registers a parameter.
func (s *Stream) Parameter(of Param) *Parameter {
	if i := slices.IndexFunc(s.parameters, func(p *Parameter) bool { return p.Param == of }); i >= 0 {
		return s.parameters[i]
	}
	p := &Parameter{Param: of, stream: s}
	switch of.Source {
	case rule.Header:
		p.header = s.Header(of.Name)
	case rule.Cookie:
		p.header = s.Header("cookie")
	case rule.Query, rule.PathSegment:
		p.header = s.path
	case rule.Host:
		p.header = s.Header(":authority")
	case rule.SourceAddress:
		p.source = s.Source(of.Hops)
	case rule.SNI:
		p.attribute = s.Attribute("connection", "requested_server_name")
	case rule.Property:
		p.attribute = s.Attribute(strings.Split(of.Name, "\x00")...)
	}
	s.parameters = append(s.parameters, p)
	return p
}

// Values are the values that the stream gives for the parameter: none, one, or where a client names several all of them.
// They are read once a callback, and void with it.
func (p *Parameter) Values() *Values {
	if p.callback != p.stream.callback {
		p.callback, p.values.n, p.values.more = p.stream.callback, 0, false
		if p.read(); p.Empty && p.values.n == 0 {
			p.values.list[0], p.values.n = "", 1
		}
	}
	return &p.values
}

// add adds a value, in its one form.
func (p *Parameter) add(value string) { p.values.add(p.Canonical(value)) }

// addAddress is add of an address, which is written into memory that is kept: a stream has one at most.
func (p *Parameter) addAddress(value string) {
	if a, ok := parseAddress(value); ok {
		p.text = p.network(a).AppendTo(p.text[:0])
		value = unsafe.String(unsafe.SliceData(p.text), len(p.text))
	}
	p.values.add(value)
}

func (p *Parameter) read() {
	switch p.Source {
	case rule.Header:
		for _, line := range p.header.Lines() {
			p.add(line)
		}
	case rule.Query:
		path, _ := p.header.Value()
		p.readQuery(path)
	case rule.Cookie:
		for _, line := range p.header.Lines() {
			p.readCookies(line)
		}
	case rule.PathSegment:
		path, ok := p.header.Value()
		if value, ok := segment(withoutQuery(path), p.Index, ok); ok {
			p.add(value)
		}
	case rule.Host:
		if host, ok := p.header.Value(); ok {
			p.add(host)
		}
	case rule.SourceAddress:
		if text, ok := p.source.text(); ok {
			p.addAddress(text)
		}
	case rule.SNI:
		if name, ok := p.attribute.Value(); ok && name != "" {
			p.add(name)
		}
	case rule.Property:
		if value, ok := p.attribute.Value(); ok {
			p.add(attributeText(p.attribute.path, value))
		}
	}
}

// readQuery adds the query parameters of a name, or where the parameter has none the one at its place.
func (p *Parameter) readQuery(path string) {
	path, _, _ = strings.Cut(path, "#")
	_, query, _ := strings.Cut(path, "?")
	index := p.Index
	if p.Name == "" && index < 0 {
		index += 1 + strings.Count(query, "&")
	}
	for i := 0; query != "" && !p.values.more && (p.Name != "" || i <= index); i++ {
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		key, value, _ := strings.Cut(pair, "=")
		if p.Name != "" && unescape(key, true) == p.Name || p.Name == "" && i == index {
			p.add(unescape(value, true))
		}
	}
}

// readCookies adds the cookies of the parameter's name. Space around a name is none of it: servers cut it off.
func (p *Parameter) readCookies(line string) {
	for line != "" && !p.values.more {
		var pair string
		pair, line, _ = strings.Cut(line, ";")
		key, value, found := strings.Cut(pair, "=")
		if found && strings.TrimSpace(key) == p.Name {
			p.add(strings.Trim(strings.TrimSpace(value), `"`))
		}
	}
}

// segment is a part of a path between slashes, by its place.
func segment(path string, index int, ok bool) (string, bool) {
	path = strings.TrimPrefix(path, "/")
	if !ok || path == "" {
		return "", false
	}
	if index < 0 {
		index += 1 + strings.Count(path, "/")
	}
	for i := 0; index >= 0; i++ {
		part, rest, more := strings.Cut(path, "/")
		if i == index {
			return unescape(pattern.WithoutParameters(part), false), true
		}
		if !more {
			break
		}
		path = rest
	}
	return "", false
}
