package request

import (
	"net/netip"
	"slices"
	"strings"

	"sentinel-envoy/shared/rule"
)

// Param is a parameter of requests or connections. Equal ones have the same value.
type Param struct {
	Source rule.ParamSource
	// Name is that of a header, query parameter, cookie or property; Index counts query parameters or path segments, from
	// the end where negative; Hops is which address of x-forwarded-for is the client's, from its end, 0 for none.
	Name  string
	Index int
	Hops  uint32
}

// ParamOf is the parameter of a rule.
func ParamOf(r *rule.Hotspot) Param {
	p := Param{Source: r.ParamSource, Name: r.ParamKey, Index: r.ParamIndex, Hops: r.TrustedHops}
	if p.Source == rule.Header {
		p.Name = strings.ToLower(p.Name)
	}
	return p
}

// String says in a few words what the parameter is.
func (p Param) String() string {
	switch p.Source {
	case rule.Header, rule.Cookie, rule.Property:
		return strings.ToLower(p.Source.String()) + " " + p.Name
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
	header    *Header    // where it is found, or a list of forwarded addresses
	attribute *Attribute // where it is found
	cell      cell
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
		p.header, p.attribute = s.Header("x-forwarded-for"), s.Attribute("source", "address")
	case rule.SNI:
		p.attribute = s.Attribute("connection", "requested_server_name")
	case rule.Property:
		p.attribute = s.Attribute(strings.Split(of.Name, ".")...)
	}
	s.parameters = append(s.parameters, p)
	return p
}

// Value is the parameter's value, and whether there is one.
func (p *Parameter) Value() (string, bool) {
	if p.stream.fresh(&p.cell) {
		p.cell.value, p.cell.there = p.read()
	}
	return p.cell.value, p.cell.there
}

func (p *Parameter) read() (string, bool) {
	switch p.Source {
	case rule.Header:
		return p.header.Value()
	case rule.Query:
		path, ok := p.header.Value()
		return queryParam(path, p.Name, p.Index, ok)
	case rule.Cookie:
		cookies, ok := p.header.Value()
		return cookie(cookies, p.Name, ok)
	case rule.PathSegment:
		path, ok := p.header.Value()
		return segment(withoutQuery(path), p.Index, ok)
	case rule.Host:
		host, ok := p.header.Value()
		return strings.ToLower(strings.TrimSuffix(WithoutPort(host), ".")), ok
	case rule.SourceAddress:
		return p.sourceAddress()
	case rule.SNI:
		name, ok := p.attribute.Value()
		return strings.ToLower(strings.TrimSuffix(name, ".")), ok && name != ""
	case rule.Property:
		return p.attribute.Value()
	}
	return "", false
}

// queryParam is a parameter of a query by its name, the first of that name, or where it has none by its place.
func queryParam(path, name string, index int, ok bool) (string, bool) {
	path, _, _ = strings.Cut(path, "#")
	_, query, found := strings.Cut(path, "?")
	if !ok || !found {
		return "", false
	}
	if name == "" && index < 0 {
		index += 1 + strings.Count(query, "&")
	}
	for i := 0; query != "" && (name != "" || i <= index); i++ {
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		key, value, _ := strings.Cut(pair, "=")
		if name != "" && unescape(key, true) == name || name == "" && i == index {
			return unescape(value, true), true
		}
	}
	return "", false
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
			return unescape(part, false), true
		}
		if !more {
			break
		}
		path = rest
	}
	return "", false
}

// cookie is the first cookie of that name.
func cookie(cookies, name string, ok bool) (string, bool) {
	for ok && cookies != "" {
		var pair string
		pair, cookies, _ = strings.Cut(cookies, ";")
		key, value, found := strings.Cut(strings.TrimSpace(pair), "=")
		if found && key == name {
			return strings.Trim(value, `"`), true
		}
	}
	return "", false
}

// sourceAddress is the client's address: that of x-forwarded-for at a place from its end, which proxies have written
// that are trusted, or where there is none what Envoy says.
func (p *Parameter) sourceAddress() (string, bool) {
	if p.Hops > 0 {
		if list, ok := p.header.Value(); ok {
			if a, ok := forwarded(list, int(p.Hops)); ok {
				return a, true
			}
		}
	}
	text, ok := p.attribute.Value()
	if !ok {
		return "", false
	}
	if a, ok := address(text); ok {
		return a, true
	}
	return text, text != ""
}

// forwarded is an address of x-forwarded-for, by its place from the end.
func forwarded(list string, fromEnd int) (string, bool) {
	for ; fromEnd > 1; fromEnd-- {
		comma := strings.LastIndexByte(list, ',')
		if comma < 0 {
			return "", false
		}
		list = list[:comma]
	}
	return address(strings.TrimSpace(list[strings.LastIndexByte(list, ',')+1:]))
}

// address is an address without its port, in its one form.
func address(text string) (string, bool) {
	if a, err := netip.ParseAddr(text); err == nil {
		return a.Unmap().WithZone("").String(), true
	}
	a, err := netip.ParseAddrPort(text)
	return a.Addr().Unmap().WithZone("").String(), err == nil
}

// unescape undoes percent-encoding, so that a value has no second form; what is none stays as it is.
func unescape(s string, plusIsSpace bool) string {
	if !strings.Contains(s, "%") && !(plusIsSpace && strings.Contains(s, "+")) {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '%' && i+2 < len(s) && isHex(s[i+1]) && isHex(s[i+2]):
			b = append(b, hex(s[i+1])<<4|hex(s[i+2]))
			i += 2
		case s[i] == '+' && plusIsSpace:
			b = append(b, ' ')
		default:
			b = append(b, s[i])
		}
	}
	return string(b)
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

func hex(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c&^0x20 - 'A' + 10
}
