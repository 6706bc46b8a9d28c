package resource

import (
	"net/netip"
	"slices"

	"sentinel-envoy/shared/config"
	"sentinel-envoy/shared/request"
	"sentinel-envoy/shared/rule"
)

// match is a match with what its conditions are about.
type match struct {
	*config.Match
	headers        []*request.Header // of Headers, in their order
	query, cookies []*request.Parameter
	source         *request.Source
	not            *match
}

// newMatch registers with a stream what a match looks at.
func newMatch(of *config.Match, s *request.Stream) *match {
	m := &match{
		Match: of, query: parameters(of.Query, rule.Query, s), cookies: parameters(of.Cookies, rule.Cookie, s),
	}
	for i := range of.Headers {
		m.headers = append(m.headers, s.Header(of.Headers[i].Name))
	}
	if len(of.SourceIP) > 0 {
		m.source = s.Source(of.TrustedHops)
	}
	if of.Not != nil {
		m.not = newMatch(of.Not, s)
	}
	return m
}

// parameters are those that conditions look at.
func parameters(conditions []config.Field, from rule.ParamSource, s *request.Stream) (list []*request.Parameter) {
	for _, c := range conditions {
		list = append(list, s.Parameter(request.Param{Source: from, Name: c.Name}))
	}
	return list
}

// meets is whether a text meets a condition; negated is whether that spares a stream something: it takes it out of an
// entry, or into one that is unlimited.
func meets(t *config.Text, s string, there, negated bool) bool {
	if negated {
		return t.Surely(s, there)
	}
	return t.Matches(s, there)
}

// holds is whether a condition holds of the values that a client gives, more of them than were read where more. In an
// entry's match any of them may meet it, in a negated one all must: a client that adds a value can so come into an entry,
// but not leave one, nor come into one that is unlimited.
func holds(c *config.Field, values []string, more, negated bool) bool {
	if c.Invert {
		return !anyMeets(&c.Value, values, more, !negated)
	}
	return anyMeets(&c.Value, values, more, negated)
}

func anyMeets(t *config.Text, values []string, more, negated bool) bool {
	if negated {
		other := func(s string) bool { return !meets(t, s, true, true) }
		return len(values) > 0 && (!more || t.Op == config.Present) && !slices.ContainsFunc(values, other)
	}
	return more || slices.ContainsFunc(values, func(s string) bool { return meets(t, s, true, false) })
}

// fromOneOf is whether an address is in one of some networks, or there are none. The zero Addr is in none.
func fromOneOf(prefixes []netip.Prefix, source *request.Source) bool {
	if len(prefixes) == 0 {
		return true
	}
	a := source.Addr()
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(a) })
}
