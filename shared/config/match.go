package config

import (
	"errors"
	"net/netip"
	"regexp/syntax"
	"strconv"
	"strings"

	"github.com/buger/jsonparser"

	"sentinel-envoy/shared/pattern"
	"sentinel-envoy/shared/request"
)

const (
	maxExpression = 1024 // bytes
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
			{"block", p.ownBlock(&r.Block)},
		}
		seen := p.object(at, v, fields)
		if v.typ == jsonparser.Object && !has(seen, fields, "name") {
			p.add(at.at("name"), "missing")
		}
		if v.typ == jsonparser.Object && !has(seen, fields, "match") {
			p.add(at.at("match"), "missing; the resource of everything else is resource_name")
		}
		p.oneBlock(at, &r, cfg)
		cfg.Resources = append(cfg.Resources, r)
		return true
	})
}

// oneBlock finds entries of one resource that have an answer each: which of them it is by, its rules do not know.
func (p *parser) oneBlock(at *place, r *Resource, cfg *Config) {
	if r.Block == nil {
		return
	}
	for i := range cfg.Resources {
		if other := &cfg.Resources[i]; other.Name == r.Name && other.Block != nil {
			p.add(at.at("block"), "the entry ", strconv.Itoa(i), " has the block of the resource ", quote(r.Name), " already")
			return
		}
	}
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

// path reads a condition on the path, which is compared in its normal form.
func (p *parser) path(at *place, v value, dst *Text) {
	if v.typ == jsonparser.String {
		p.add(at, "must be an object, got ", v.describe(), "; write {\"prefix\": \"",
			printable(string(v.raw)), "\"}, or exact, regex or template in place of prefix")
		return
	}
	p.oneOf(at, v, dst, maxPath, []Op{Exact, Prefix, Regex, Template})
	if dst.Op == Regex && encoded(dst.Value) {
		p.add(at.at("regex"), "must have no percent-encoding: a path is matched decoded, \"/a b\" for \"/a%20b\"")
	}
	if dst.Op == Regex && strings.Contains(dst.Value, ";") {
		p.warn(at.at("regex"), "no path has a semicolon: paths are matched without the parameters of their segments")
	}
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
	dst.Value = pattern.NormalPath(dst.Value)
}

// encoded is whether a text has percent-encoding that a path in its normal form has not.
func encoded(s string) bool {
	for i := range len(s) {
		if _, ok := pattern.Unhex(s[i:]); ok && pattern.NormalPath(s[i:i+3]) != strings.ToUpper(s[i:i+3]) {
			return true
		}
	}
	return false
}

func (p *parser) headers(at *place, v value, r *Resource) {
	p.nonEmptyList(at, v, func(at *place, v value) {
		var h Header
		var name string
		before := p.count()
		p.oneOf(at, v, &h.Value, maxHeaderValue, []Op{Exact, Prefix, Regex, Present}, field{"name", p.text(&name, 128)})
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
var opKeys = [...]string{Exact: "exact", Prefix: "prefix", Regex: "regex", Template: "template", Present: "present"}

// oneOf reads an object with exactly one key of some Ops, and with other fields.
func (p *parser) oneOf(at *place, v value, dst *Text, limit int, ops []Op, others ...field) {
	read := [...]setter{
		Exact: p.text(&dst.Value, limit), Prefix: p.text(&dst.Value, limit),
		Regex:    func(at *place, v value) { p.regex(at, v, dst) },
		Template: func(at *place, v value) { p.template(at, v, dst) },
		Present: func(at *place, v value) {
			if v.typ != jsonparser.Boolean || v.raw[0] != 't' {
				p.add(at, "must be true, got ", v.describe())
			}
		},
	}
	n, fields, choice := 0, others, make([]string, len(ops))
	for i, op := range ops {
		choice[i] = opKeys[op]
		fields = append(fields, field{opKeys[op], func(at *place, v value) {
			n++
			dst.Op = op
			read[op](at, v)
		}})
	}
	before := p.count()
	p.object(at, v, fields)
	if n != 1 {
		dst.Op = Any
		if p.count() == before {
			p.add(at, "needs exactly one of ", strings.Join(choice, ", "))
		}
	}
}

func (p *parser) regex(at *place, v value, dst *Text) {
	var s string
	before := p.count()
	p.text(&s, maxExpression)(at, v)
	if p.count() == before {
		dst.Value, dst.Expression = s, p.expression(at, s)
	}
}

// template reads a path pattern.
func (p *parser) template(at *place, v value, dst *Text) {
	before := p.count()
	p.text(&dst.Value, maxPath)(at, v)
	if p.count() == before {
		dst.Template = p.pathPattern(at, dst.Value)
	}
}

// pathPattern compiles a path pattern.
func (p *parser) pathPattern(at *place, s string) *pattern.Path {
	t, err := pattern.ParsePath(s)
	if err != nil {
		p.add(at, "not a path pattern such as /users/{id}, /files/*.png or /api/**: ", err.Error())
		return nil
	}
	return t
}

// expression compiles an RE2 expression for whole strings.
func (p *parser) expression(at *place, s string) *pattern.Expression {
	e, err := pattern.Compile(s)
	var bad *syntax.Error
	switch {
	case errors.As(err, &bad):
		p.add(at, "not a regular expression (RE2): ", printable(string(bad.Code)+": `"+bad.Expr+"`"))
	case err != nil:
		p.add(at, err.Error())
	}
	return e
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

// parsePrefix reads a network, or an address as the network that has only it.
func parsePrefix(s string) (netip.Prefix, bool) {
	if prefix, ok := request.ParseNetwork(s); ok {
		return prefix, true
	}
	ip, err := netip.ParseAddr(s)
	if err != nil || ip.Zone() != "" {
		return netip.Prefix{}, false
	}
	ip = ip.Unmap()
	return netip.PrefixFrom(ip, ip.BitLen()), true
}
