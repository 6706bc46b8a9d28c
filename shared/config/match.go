package config

import (
	"net/netip"
	"regexp"
	re2 "regexp/syntax"
	"strconv"
	"strings"

	"github.com/buger/jsonparser"
)

const (
	maxExpression = 1024 // bytes
	maxProgram    = 2048 // instructions: what has no counted repetition fits
	maxPath       = 4096 // bytes
	maxHost       = 255  // bytes
	maxList       = 256  // methods, headers or CIDRs of one match
)

func (p *parser) resources(at *place, v value, cfg *Config) {
	p.list(at, v, func(at *place, v value) bool {
		if len(cfg.Resources) == maxEntries {
			p.add(at, "more than ", strconv.Itoa(maxEntries), " entries")
			return false
		}
		var r Resource
		fields := []field{
			{"name", p.label(&r.Name, maxResource)},
			{"match", func(at *place, v value) { p.match(at, v, &r) }},
		}
		seen := p.object(at, v, fields)
		if v.typ == jsonparser.Object && !has(seen, fields, "name") {
			p.add(at.at("name"), "missing")
		}
		if v.typ == jsonparser.Object && !has(seen, fields, "match") {
			p.add(at.at("match"), "missing; the resource of everything else is resource_name")
		}
		cfg.Resources = append(cfg.Resources, r)
		return true
	})
}

func (p *parser) match(at *place, v value, r *Resource) {
	before := p.count()
	seen := p.object(at, v, []field{
		{"method", p.only(KindHTTP, func(at *place, v value) { p.methods(at, v, r) })},
		{"host", p.only(KindHTTP, p.name(&r.Host))},
		{"path", p.only(KindHTTP, func(at *place, v value) { p.path(at, v, &r.Path) })},
		{"headers", p.only(KindHTTP, func(at *place, v value) { p.headers(at, v, r) })},
		{"sni", p.only(KindTCP, p.name(&r.SNI))},
		{"source_ip", p.only(KindTCP, func(at *place, v value) { p.sources(at, v, r) })},
		{"destination_port", p.only(KindTCP, integer(p, &r.DestinationPort, 1, 65535))},
	})
	if seen == 0 && p.count() == before {
		p.add(at, "needs a condition; the resource of everything else is resource_name")
	}
}

// nonEmptyList reads a list of 1 to maxList elements.
func (p *parser) nonEmptyList(at *place, v value, f func(at *place, v value)) {
	n, before := 0, p.count()
	p.list(at, v, func(at *place, v value) bool {
		if n++; n > maxList {
			p.add(at, "more than ", strconv.Itoa(maxList), " elements")
			return false
		}
		f(at, v)
		return true
	})
	if n == 0 && p.count() == before {
		p.add(at, "must not be empty; leave it out to match all")
	}
}

func (p *parser) methods(at *place, v value, r *Resource) {
	p.nonEmptyList(at, v, func(at *place, v value) {
		var m string
		before := p.count()
		p.text(&m, 64)(at, v)
		switch {
		case p.count() > before:
		case !isToken(m) || m != strings.ToUpper(m):
			p.add(at, "must be a method in upper case, got ", quote(m))
		default:
			r.Method = append(r.Method, m)
		}
	})
}

// name reads a host name or "*." and a host name.
func (p *parser) name(dst *Name) setter {
	return func(at *place, v value) {
		var s string
		before := p.count()
		p.text(&s, maxHost)(at, v)
		if p.count() > before {
			return
		}
		host := strings.ToLower(s)
		suffix := strings.HasPrefix(host, "*.")
		if suffix {
			host = host[1:]
		}
		if !isHost(strings.TrimPrefix(host, ".")) || !suffix && host[0] == '.' {
			p.add(at, "must be a host name without a port, or \"*.\" and one, got ", quote(s))
			return
		}
		*dst = Name{Value: host, Suffix: suffix}
	}
}

// isHost takes names, and addresses as they stand in a Host header: v6 in brackets.
func isHost(s string) bool {
	if inner, ok := strings.CutPrefix(s, "["); ok {
		inner, ok = strings.CutSuffix(inner, "]")
		ip, err := netip.ParseAddr(inner)
		return ok && err == nil && ip.Is6()
	}
	ends := strings.HasPrefix(s, ".") || strings.HasSuffix(s, ".")
	return s != "" && !ends && !strings.Contains(s, "..") &&
		!strings.ContainsFunc(s, func(r rune) bool { return !isWord(r) && r != '.' })
}

func (p *parser) path(at *place, v value, dst *Text) {
	p.oneOf(at, v, dst, maxPath, false)
	absolute := strings.HasPrefix(dst.Value, "/") || dst.Op == Exact && dst.Value == "*" // OPTIONS *
	if dst.Op != Exact && dst.Op != Prefix {
		return
	}
	at = at.at(opKeys[dst.Op])
	if !absolute {
		p.add(at, "must begin with \"/\", got ", quote(dst.Value))
	}
	if strings.ContainsAny(dst.Value, "?#") {
		p.add(at, "must have no query and no fragment: a path is matched without them")
	}
}

func (p *parser) headers(at *place, v value, r *Resource) {
	p.nonEmptyList(at, v, func(at *place, v value) {
		var h Header
		var name string
		before := p.count()
		p.oneOf(at, v, &h.Value, maxHeaderValue, true, field{"name", p.text(&name, 128)})
		if p.count() > before {
			return
		}
		h.Name = strings.ToLower(name)
		switch {
		case h.Name == "":
			p.add(at.at("name"), "missing")
		case h.Name == "host" || h.Name == ":authority":
			p.add(at.at("name"), "use match.host")
		case !isToken(h.Name):
			p.add(at.at("name"), "must be a header's name, got ", quote(name))
		}
		r.Headers = append(r.Headers, h)
	})
}

// opKeys are the keys of a Text, by its Op.
var opKeys = [...]string{Exact: "exact", Prefix: "prefix", Regex: "regex", Present: "present"}

// oneOf reads an object with exactly one of exact, prefix, regex and, where it may be, present; and with other fields.
func (p *parser) oneOf(at *place, v value, dst *Text, limit int, mayBePresent bool, others ...field) {
	n := 0
	set := func(op Op, read setter) field {
		return field{opKeys[op], func(at *place, v value) {
			n++
			dst.Op = op
			read(at, v)
		}}
	}
	fields := append(others, set(Exact, p.text(&dst.Value, limit)), set(Prefix, p.text(&dst.Value, limit)),
		set(Regex, func(at *place, v value) { p.regex(at, v, dst) }))
	choice := "exact, prefix, regex"
	if mayBePresent {
		choice += ", present"
		fields = append(fields, set(Present, func(at *place, v value) {
			if v.typ != jsonparser.Boolean || v.raw[0] != 't' {
				p.add(at, "must be true, got ", v.describe())
			}
		}))
	}
	before := p.count()
	p.object(at, v, fields)
	if n != 1 {
		dst.Op = Any
		if p.count() == before {
			p.add(at, "needs exactly one of ", choice)
		}
	}
}

func (p *parser) regex(at *place, v value, dst *Text) {
	var s string
	before := p.count()
	p.text(&s, maxExpression)(at, v)
	if p.count() == before {
		dst.Regexp = p.expression(at, s)
	}
}

// expression compiles an RE2 expression for whole strings.
func (p *parser) expression(at *place, s string) *regexp.Regexp {
	// By itself first: "a)|(b" is no expression, but would be one inside the anchors.
	tree, err := re2.Parse(s, re2.Perl)
	if err != nil {
		p.add(at, "not a regular expression (RE2): ", printable(strings.TrimPrefix(err.Error(), "error parsing regexp: ")))
		return nil
	}
	if program(tree) > maxProgram {
		p.add(at, "too large a regular expression: each byte of a text would cost thousands of steps; repeat less")
		return nil
	}
	re, err := regexp.Compile(`\A(?:` + s + `)\z`)
	if err != nil {
		p.add(at, "not a regular expression (RE2) that can be anchored")
		return nil
	}
	return re
}

// program is how many instructions an expression takes, or more than maxProgram.
func program(re *re2.Regexp) int {
	n := 1
	if re.Op == re2.OpLiteral {
		n = len(re.Rune)
	}
	for _, sub := range re.Sub {
		n += program(sub)
	}
	if re.Op == re2.OpRepeat {
		n *= max(re.Min, re.Max, 1)
	}
	return min(n, maxProgram+1)
}

// sources reads a CIDR or an address, or a list of them.
func (p *parser) sources(at *place, v value, r *Resource) {
	one := func(at *place, v value) {
		var s string
		before := p.count()
		p.text(&s, 128)(at, v)
		if p.count() > before {
			return
		}
		prefix, ok := parsePrefix(s)
		if !ok {
			p.add(at, "must be a CIDR such as 10.0.0.0/8, or an address, got ", quote(s))
			return
		}
		r.SourceIP = append(r.SourceIP, prefix)
	}
	if v.typ == jsonparser.Array {
		p.nonEmptyList(at, v, one)
		return
	}
	one(at, v)
}

// parsePrefix takes v4 in v6 for v4, as the addresses it is compared with.
func parsePrefix(s string) (netip.Prefix, bool) {
	prefix, err := netip.ParsePrefix(s)
	if err != nil {
		ip, err := netip.ParseAddr(s)
		if err != nil || ip.Zone() != "" {
			return netip.Prefix{}, false
		}
		prefix = netip.PrefixFrom(ip, ip.BitLen())
	}
	if ip := prefix.Addr(); ip.Is4In6() {
		prefix = netip.PrefixFrom(ip.Unmap(), prefix.Bits()-96) // shorter than 96 bits is no v4: invalid
	}
	return prefix.Masked(), prefix.IsValid()
}
