package config

import (
	"strings"

	"sentinel-envoy/shared/rule"
)

// maxHops bounds trustedHops.
const maxHops = 64

// paramFields are the keys that say which parameter a hotspot rule is about.
func (r *rules) paramFields(h *rule.Hotspot) []field {
	return []field{
		{"paramIndex", integer(r.parser, &h.ParamIndex, -1000, 1000)},
		{"paramKey", r.text(&h.ParamKey, maxResource)},
		{"paramSource", enum(r.parser, &h.ParamSource, rule.Header, rule.Query, rule.Cookie, rule.PathSegment, rule.Host,
			rule.SourceAddress, rule.SNI, rule.Property)},
		{"trustedHops", integer(r.parser, &h.TrustedHops, 0, maxHops)},
	}
}

// checkParam finds what does not go together. hasIndex is whether paramIndex was given.
func (r *rules) checkParam(at *place, h *rule.Hotspot, hasIndex bool) {
	source := h.ParamSource
	named := source == rule.Header || source == rule.Cookie || source == rule.Property
	placed := source == rule.PathSegment || source == rule.Query
	switch {
	case source == undefined:
		return
	case source == rule.NoParam:
		r.add(at.at("paramSource"), "missing; say where the parameter comes from: Header, Query, Cookie, PathSegment, Host, "+
			"SourceAddress, SNI or Property")
		return
	case named && h.ParamKey == "":
		r.add(at.at("paramKey"), "missing: which ", source.String(), "?")
	case source == rule.Query && h.ParamKey == "" && !hasIndex:
		r.add(at.at("paramKey"), "missing: which query parameter? paramIndex would say it by its place")
	case !named && source != rule.Query && h.ParamKey != "":
		r.add(at.at("paramKey"), "must be empty with ", source.String())
	}
	if h.ParamIndex != 0 && !placed {
		r.add(at.at("paramIndex"), "must be left out with ", source.String())
	}
	if source == rule.Header && h.ParamKey != "" && !isToken(strings.TrimPrefix(h.ParamKey, ":")) {
		r.add(at.at("paramKey"), "must be a header's name, got ", quote(h.ParamKey))
	}
	if h.TrustedHops != 0 && source != rule.SourceAddress {
		r.add(at.at("trustedHops"), "must be left out with ", source.String())
	}
	if r.kind != KindTCP {
		return
	}
	if source != rule.SourceAddress && source != rule.SNI && source != rule.Property {
		r.add(at.at("paramSource"), "must be SourceAddress, SNI or Property: a connection has no ", source.String())
	}
	if h.TrustedHops != 0 {
		r.add(at.at("trustedHops"), "is for the HTTP filter only: a connection has no x-forwarded-for")
	}
}
