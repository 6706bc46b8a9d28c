package config

import (
	"errors"
	"net/netip"
	"regexp"
	"regexp/syntax"
	"strconv"
	"strings"

	"github.com/buger/jsonparser"

	"sentinel-envoy/shared/pattern"
	"sentinel-envoy/shared/percent"
	"sentinel-envoy/shared/request"
)

const (
	maxExpression = 1024 // bytes
	maxPath       = 4096 // bytes
	maxHost       = 255  // bytes
	maxContinue   = 16   // entries with continue
	maxList       = 256  // elements of one condition
)

func (p *parser) resources(at *place, v value, cfg *Config) {
	going := 0
	p.list(at, v, func(at *place, v value) bool {
		if len(cfg.Resources) == maxEntries {
			p.add(at, "more than ", strconv.Itoa(maxEntries), " entries")
			return false
		}
		var r Resource
		fields := []field{
			{"name", p.label(&r.Name, maxResource)},
			{"match", func(at *place, v value) { p.match(at, v, &r.Match, false) }},
			{"block", p.ownBlock(&r.Block)},
			{"unlimited", p.boolean(&r.Unlimited)},
			{"continue", p.boolean(&r.Continue)},
		}
		seen := p.object(at, v, fields)
		if v.typ == jsonparser.Object && !has(seen, fields, "name") {
			p.add(at.at("name"), "missing")
		}
		if v.typ == jsonparser.Object && !has(seen, fields, "match") {
			p.add(at.at("match"), "missing; the resource of everything else is resource_name")
		}
		p.oneBlock(at, &r, cfg)
		if r.Continue {
			going++
			p.checkContinue(at.at("continue"), &r, going)
		}
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

// checkContinue looks at the nth entry that goes on.
func (p *parser) checkContinue(at *place, r *Resource, nth int) {
	switch {
	case r.Unlimited:
		p.add(at, "does not go with unlimited: nothing else is asked about what is taken")
	case nth > maxContinue:
		p.add(at, "more than ", strconv.Itoa(maxContinue), " entries with continue: a request may be in all of their resources")
	}
}

// match reads the conditions of an entry, or within those of a `not`.
func (p *parser) match(at *place, v value, m *Match, within bool) {
	before := p.count()
	fields := []field{
		{"method", p.only(KindHTTP, func(at *place, v value) { p.methods(at, v, m) })},
		{"host", p.only(KindHTTP, p.name(&m.Host))},
		{"path", p.only(KindHTTP, func(at *place, v value) { p.path(at, v, &m.Path) })},
		{"headers", p.only(KindHTTP, func(at *place, v value) { p.fieldList(at, v, &m.Headers, headerName) })},
		{"query", p.only(KindHTTP, func(at *place, v value) { p.fieldList(at, v, &m.Query, anyName) })},
		{"cookies", p.only(KindHTTP, func(at *place, v value) { p.fieldList(at, v, &m.Cookies, cookieName) })},
		{"sni", p.only(KindTCP, p.name(&m.SNI))},
		{"source_ip", func(at *place, v value) { p.sources(at, v, m) }},
		{"trusted_hops", p.only(KindHTTP, integer(p, &m.TrustedHops, 0, maxHops))},
		{"destination_port", p.only(KindTCP, integer(p, &m.DestinationPort, 1, 65535))},
	}
	if !within {
		fields = append(fields, field{"not", func(at *place, v value) {
			m.Not = &Match{}
			p.match(at, v, m.Not, true)
		}})
	}
	seen := p.object(at, v, fields)
	switch {
	case p.count() > before:
	case has(seen, fields, "trusted_hops") && len(m.SourceIP) == 0:
		p.add(at.at("source_ip"), "missing: trusted_hops says whose address it is about")
	case seen == 0 && within:
		p.add(at, "needs a condition")
	case seen == 0:
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

func (p *parser) methods(at *place, v value, m *Match) {
	p.nonEmptyList(at, v, func(at *place, v value) {
		var name string
		before := p.count()
		p.text(&name, 64)(at, v)
		switch {
		case p.count() > before:
		case !isToken(name) || name != strings.ToUpper(name):
			p.add(at, "must be a method in upper case, got ", quote(name))
		default:
			m.Method = append(m.Method, name)
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
	before := p.count()
	p.oneOf(at, v, dst, maxPath, []Op{Exact, Prefix, Suffix, Contains, Regex, Template},
		field{"ignore_trailing_slash", p.boolean(&dst.Trim)})
	if p.count() > before {
		return
	}
	p.checkTrim(at.at("ignore_trailing_slash"), dst)
	at = at.at(opKeys[dst.Op])
	if dst.Op == Regex {
		p.checkPathRegex(at, dst)
	}
	if dst.Op == Regex || dst.Op == Template {
		return
	}
	absolute := strings.HasPrefix(dst.Value, "/") || dst.Op == Exact && dst.Value == "*" // OPTIONS *
	switch {
	case !absolute && (dst.Op == Exact || dst.Op == Prefix):
		p.add(at, "must begin with \"/\", got ", quote(dst.Value))
	case strings.ContainsAny(dst.Value, "?#"):
		p.add(at, "must have no query and no fragment: a path is matched without them")
	case dst.Value == "":
		p.add(at, "must not be empty: leave path out to match all")
	}
	dst.Value = pattern.NormalPath(dst.Value)
}

// checkTrim wants a condition that can be about the end of a path, and brings what it names into the form that paths have.
func (p *parser) checkTrim(at *place, t *Text) {
	switch {
	case !t.Trim:
	case t.Op == Prefix:
		p.add(at, "goes with exact, suffix, regex or template; for a path and all below it write {\"template\": \"/orders/**\"}")
	case t.Op == Contains:
		p.add(at, "goes with exact, suffix, regex or template")
	case t.Op == Template:
		t.Template, _ = pattern.ParsePath(withoutSlash(t.Value))
	case t.Op == Regex && strings.HasSuffix(t.Value, "/"):
		p.add(at, "takes the slash off that the expression wants at the end")
	case t.Op != Regex:
		t.Value = withoutSlash(t.Value)
	}
}

// checkPathRegex finds what no path has in its normal form.
func (p *parser) checkPathRegex(at *place, t *Text) {
	if encoded(t.Value) {
		p.add(at, "must have no percent-encoding: a path is matched decoded, \"/a b\" for \"/a%20b\"")
	}
	if strings.Contains(t.Value, ";") {
		p.warn(at, "no path has a semicolon: paths are matched without the parameters of their segments")
	}
}

// encoded is whether a text has percent-encoding that a path in its normal form has not.
func encoded(s string) bool {
	for i := range len(s) {
		if _, ok := percent.Decode(s[i:]); ok && pattern.NormalPath(s[i:i+3]) != strings.ToUpper(s[i:i+3]) {
			return true
		}
	}
	return false
}

// fieldList reads conditions on what clients name: headers, parameters of the query, cookies. bad is what is wrong with a
// name.
func (p *parser) fieldList(at *place, v value, dst *[]Field, bad func(name *string) string) {
	p.nonEmptyList(at, v, func(at *place, v value) {
		var f Field
		before := p.count()
		p.oneOf(at, v, &f.Value, maxHeaderValue, []Op{Exact, Prefix, Suffix, Contains, Regex, Present},
			field{"name", p.text(&f.Name, 128)}, field{"invert", p.boolean(&f.Invert)})
		if p.count() > before {
			return
		}
		if f.Name == "" {
			p.add(at.at("name"), "missing")
		} else if problem := bad(&f.Name); problem != "" {
			p.add(at.at("name"), problem)
		}
		*dst = append(*dst, f)
	})
}

// headerName brings a header's name into lower case.
func headerName(name *string) string {
	given := *name
	*name = strings.ToLower(given)
	switch {
	case *name == "host" || *name == ":authority":
		return "use match.host"
	case !isToken(*name):
		return "must be a header's name, got " + quote(given)
	}
	return ""
}

func cookieName(name *string) string {
	if strings.ContainsAny(*name, "=; ,\t") {
		return "must be a cookie's name, got " + quote(*name)
	}
	return ""
}

func anyName(*string) string { return "" }

// opKeys are the keys of a Text, by its Op.
var opKeys = [...]string{
	Exact: "exact", Prefix: "prefix", Suffix: "suffix", Contains: "contains", Regex: "regex", Template: "template",
	Present: "present",
}

// oneOf reads an object with exactly one key of some Ops, and with other fields.
func (p *parser) oneOf(at *place, v value, dst *Text, limit int, ops []Op, others ...field) {
	literal := p.text(&dst.Value, limit)
	read := [...]setter{
		Exact: literal, Prefix: literal, Suffix: literal, Contains: literal,
		Regex:    func(at *place, v value) { p.regex(at, v, dst) },
		Template: func(at *place, v value) { p.template(at, v, dst) },
		Present: func(at *place, v value) {
			if v.typ != jsonparser.Boolean || v.raw[0] != 't' {
				p.add(at, "must be true, got ", v.describe())
			}
		},
	}
	n, choice := 0, make([]string, len(ops))
	fields := append(others, field{"case_insensitive", p.boolean(&dst.Fold)})
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
	switch {
	case n != 1:
		dst.Op = Any
		if p.count() == before {
			p.add(at, "needs exactly one of ", strings.Join(choice, ", "))
		}
	case p.count() == before && dst.Fold:
		p.fold(at, dst)
	}
}

// fold makes a Text one for upper and lower case alike.
func (p *parser) fold(at *place, t *Text) {
	switch t.Op {
	case Present:
		p.add(at.at("case_insensitive"), "does not go with present")
	case Template:
		t.Expression = p.expression(at.at(opKeys[t.Op]), "(?is:"+t.Template.Expression()+")")
	case Contains:
		t.Expression = p.expression(at.at(opKeys[t.Op]), "(?is:.*"+regexp.QuoteMeta(t.Value)+".*)")
	case Regex:
		t.Expression = p.expression(at.at(opKeys[t.Op]), "(?i:"+t.Value+")")
	}
}

// regex reads an expression.
func (p *parser) regex(at *place, v value, dst *Text) {
	before := p.count()
	p.text(&dst.Value, maxExpression)(at, v)
	if p.count() == before {
		dst.Expression = p.expression(at, dst.Value)
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
func (p *parser) sources(at *place, v value, m *Match) {
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
		m.SourceIP = append(m.SourceIP, prefix)
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
