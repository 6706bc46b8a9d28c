package config

import (
	"slices"
	"strings"

	"sentinel-envoy/shared/request"
	"sentinel-envoy/shared/rule"
)

// origin reads where a request says whom it comes from.
func (r *rules) origin(at *place, v value) {
	o := &rule.Origin{}
	fields := []field{
		{"from", enum(r.parser, &o.Source, rule.Header, rule.Query, rule.Cookie, rule.Host, rule.SourceAddress, rule.SNI,
			rule.Property)},
		{"name", r.label(&o.Name, maxResource)},
		{"trusted_hops", integer(r.parser, &o.TrustedHops, 0, maxHops)},
	}
	before := r.count()
	r.object(at, v, fields)
	if r.count() == before {
		r.checkOrigin(at, o)
	}
	r.cfg.Origin = o
}

// checkOrigin finds what does not go together.
func (r *rules) checkOrigin(at *place, o *rule.Origin) {
	named := o.Source == rule.Header || o.Source == rule.Query || o.Source == rule.Cookie || o.Source == rule.Property
	isProperty := o.Source == rule.Property
	switch {
	case o.Source == rule.NoParam:
		r.add(at.at("from"), "missing")
	case r.kind == KindTCP && !isProperty && o.Source != rule.SourceAddress && o.Source != rule.SNI:
		r.add(at.at("from"), "must be SourceAddress, SNI or Property: a connection has no ", o.Source.String())
	case named && o.Name == "":
		r.add(at.at("name"), "missing: which ", o.Source.String(), "?")
	case !named && o.Name != "":
		r.add(at.at("name"), "must be left out with ", o.Source.String())
	case o.Source == rule.Header && !isToken(strings.TrimPrefix(o.Name, ":")):
		r.add(at.at("name"), "must be a header's name, got ", quote(o.Name))
	case o.TrustedHops != 0 && (o.Source != rule.SourceAddress || r.kind == KindTCP):
		r.add(at.at("trusted_hops"), "is for SourceAddress in the HTTP filter only")
	case isProperty:
		if err := request.CheckAttribute(request.AttributeOf(o.Param()), r.kind == KindTCP); err != nil {
			r.add(at.at("name"), quote(o.Name), ": ", err.Error())
		}
	}
}

// limitApp is the key that says whose requests a rule is about.
func (r *rules) limitApp(dst *string) field { return field{"limitApp", r.text(dst, maxResource)} }

// limit makes a rule one about some origins, unless it is about all.
func (r *rules) limit(s *saying, of *rule.Target) {
	if of.LimitApp == rule.AnyOrigin {
		of.LimitApp = ""
	}
	if of.LimitApp == "" {
		return
	}
	if strings.Contains(of.LimitApp, ",") {
		r.add(s.at.at("limitApp"), "must be one name, default or other; write a rule for each")
	}
	of.Only = r.origins(s, of.LimitApp)
	if of.Only != nil && of.LimitApp == rule.OtherOrigin {
		of.Only.Others, of.Only.Names = true, nil
	}
}

// origins are those of a list with commas.
func (r *rules) origins(s *saying, limitApp string) *rule.Origins {
	switch {
	case r.cfg.Origin != nil:
	case r.kind == KindVM:
		r.add(s.at.at("limitApp"), "needs to know where a request names its origin: write the rule in a filter's configuration")
		return nil
	default:
		r.add((&place{index: -1}).at("origin"), "missing: ", s.at.at("limitApp").String(),
			` needs to know where a request names it, as {"from": "Header", "name": "x-app"}`)
		return nil
	}
	o := &rule.Origins{From: *r.cfg.Origin}
	param := request.ParamOf(o.From.Param())
	for name := range strings.SplitSeq(limitApp, ",") {
		if name != "" {
			o.Names = append(o.Names, param.Canonical(name))
		}
	}
	return o
}

// ignoreLimitApp forgets the limitApp of a rule of a family whose rules are about all requests, in Java Sentinel, too.
func (r *rules) ignoreLimitApp(s *saying, of *rule.Target) {
	if of.LimitApp != "" && of.LimitApp != rule.AnyOrigin {
		r.warn(s.at.at("limitApp"), "has no effect on such a rule, in Java Sentinel neither")
	}
	of.LimitApp = ""
}

// nameOthers says who the others are of rules for OtherOrigin: whom no other rule of the resource names, the filter's own
// beside a document's included.
func (r *rules) nameOthers() {
	named := map[string][]string{}
	for _, one := range slices.Concat(r.cfg.Rules, r.beside) {
		if of := one.For(); of.Only != nil && !of.Only.Others {
			named[of.Resource] = append(named[of.Resource], of.Only.Names...)
		}
	}
	for _, one := range r.cfg.Rules {
		if of := one.For(); of.Only != nil && of.Only.Others {
			of.Only.Names = named[of.Resource]
		}
	}
}

// authorityWords are the keys of an authority rule. Java Sentinel has the same, but for emptyOrigin.
func (r *rules) authorityWords(a *rule.Authority) words {
	return words{both: r.targetFields(&a.Target,
		field{"limitApp", r.text(&a.LimitApp, maxHeaderValue)},
		field{"strategy", enum(r.parser, &a.Strategy, rule.Allow, rule.Deny)},
		field{"emptyOrigin", enum(r.parser, &a.EmptyOrigin, rule.PassEmpty, rule.BlockEmpty)},
	)}
}

// authority completes an authority rule, and finds what is wrong with it.
func (r *rules) authority(s *saying, draft *rule.Authority) {
	a := *draft // a copy: the draft is the next rule's, too
	r.require(s, "resource", "limitApp")
	if s.has("limitApp") {
		a.Refused = r.origins(s, a.LimitApp)
	}
	if a.Refused != nil {
		a.Refused.Others = a.Strategy == rule.Allow
		if len(a.Refused.Names) == 0 {
			r.add(s.at.at("limitApp"), "must name an origin")
		}
	}
	r.checkResource(s.at, &a.Target)
	if a.Refused != nil {
		r.include(s, &a)
	}
}
