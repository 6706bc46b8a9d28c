package resource

import (
	"net/netip"
	"strings"

	"sentinel-envoy/shared/rule"
)

// Context is what parameters are read from: the request or connection whose callback is running.
type Context interface {
	// Header is a request header by its lower-case name, as Request.Header. A connection has none.
	Header(name string) (value string, ok bool)
	// Property is an Envoy attribute by its path; false when it is absent.
	Property(path []string) (value string, ok bool)
}

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

// Read is the parameter's value, and whether there is one.
func (p Param) Read(c Context) (string, bool) {
	switch p.Source {
	case rule.Header:
		return c.Header(p.Name)
	case rule.Query:
		path, ok := c.Header(":path")
		return queryParam(path, p.Name, p.Index, ok)
	case rule.Cookie:
		cookies, ok := c.Header("cookie")
		return cookie(cookies, p.Name, ok)
	case rule.PathSegment:
		path, ok := c.Header(":path")
		return segment(withoutQuery(path), p.Index, ok)
	case rule.Host:
		host, ok := c.Header(":authority")
		return strings.ToLower(strings.TrimSuffix(withoutPort(host), ".")), ok
	case rule.SourceAddress:
		return sourceAddress(c, int(p.Hops))
	case rule.SNI:
		name, ok := c.Property(sniPath)
		return strings.ToLower(strings.TrimSuffix(name, ".")), ok && name != ""
	case rule.Property:
		return c.Property(strings.Split(p.Name, "."))
	}
	return "", false
}

var (
	sniPath    = []string{"connection", "requested_server_name"}
	sourcePath = []string{"source", "address"}
)

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
func sourceAddress(c Context, hops int) (string, bool) {
	if hops > 0 {
		if list, ok := c.Header("x-forwarded-for"); ok {
			if a, ok := forwarded(list, hops); ok {
				return a, true
			}
		}
	}
	text, ok := c.Property(sourcePath)
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
