package request

import (
	"math"
	"net/netip"
	"strconv"
	"strings"

	"sentinel-envoy/shared/percent"
	"sentinel-envoy/shared/rule"
)

// Canonical is the one form of a value of the parameter: a host and a server name in lower case, an address as Go writes it,
// and where the rule has items that are numbers or booleans, these as Go writes them. Values of a rule and of clients are
// compared in it.
func (p *Param) Canonical(value string) string {
	if p.Lowercase {
		value = strings.ToLower(value)
	}
	switch p.Source {
	case rule.Host:
		return host(value)
	case rule.SNI:
		return strings.ToLower(strings.TrimRight(value, "."))
	case rule.SourceAddress:
		if a, ok := parseAddress(value); ok {
			return p.network(a).String()
		}
		return value
	}
	if p.Numbers {
		if n, ok := number(value); ok {
			return n
		}
	}
	if p.Booleans && len(value) <= len("false") {
		if b, err := strconv.ParseBool(value); err == nil {
			return strconv.FormatBool(b)
		}
	}
	return value
}

// network is as much of an address as is its value.
func (p Param) network(a netip.Addr) netip.Addr {
	bits := p.V6
	if a.Is4() {
		bits = p.V4
	}
	if bits == 0 {
		return a
	}
	prefix, err := a.Prefix(bits)
	if err != nil {
		return a
	}
	return prefix.Addr()
}

// host is an authority's host, without its port and the dots that may end a name; an address in its one form, with brackets
// where it is v6.
func host(authority string) string {
	if n := plainHost(authority); n >= 0 {
		return authority[:n]
	}
	if strings.Count(authority, ":") > 1 && authority[0] != '[' { // v6 as an item may have it
		authority = "[" + authority + "]"
	}
	host := WithoutPort(authority)
	if inner, ok := strings.CutPrefix(host, "["); ok {
		if a, ok := address(strings.TrimSuffix(inner, "]")); ok && strings.Contains(a, ":") {
			return "[" + a + "]"
		}
	}
	return strings.ToLower(strings.TrimRight(host, "."))
}

// plainHost is the length of an authority's host where that is in its one form, as most are, and has at most a port behind
// it; −1 where it is not.
func plainHost(authority string) int {
	n := 0
	for n < len(authority) && authority[n] != ':' {
		c := authority[n]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '.' {
			return -1
		}
		n++
	}
	if n > 0 && authority[n-1] == '.' {
		return -1
	}
	for i := n + 1; i < len(authority); i++ {
		if c := authority[i]; c < '0' || c > '9' {
			return -1
		}
	}
	return n
}

// address is an address in its one form, as text.
func address(text string) (string, bool) {
	a, ok := parseAddress(text)
	return a.String(), ok
}

// parseAddress reads an address: without port, brackets, quotes and zone, and v4 where it is v4 in v6.
func parseAddress(text string) (netip.Addr, bool) {
	text = strings.Trim(strings.TrimSpace(text), `"`)
	if inner, ok := strings.CutPrefix(text, "["); ok {
		text, _, _ = strings.Cut(inner, "]")
	} else if host, _, ok := strings.Cut(text, ":"); ok && !strings.Contains(text[len(host)+1:], ":") {
		text = host
	}
	if text == "" || text[0] == '/' { // a socket's path: at once, an error is an allocation
		return netip.Addr{}, false
	}
	a, err := netip.ParseAddr(text)
	return a.Unmap().WithZone(""), err == nil
}

// number is a number in its one form: a whole one by its digits.
func number(text string) (string, bool) {
	if text == "" || !strings.Contains("0123456789+-.", text[:1]) {
		return "", false // at once: an error is an allocation
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return strconv.FormatInt(n, 10), true
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsInf(f, 0) || math.IsNaN(f) {
		return "", false
	}
	return formatNumber(f), true
}

func formatNumber(f float64) string {
	if f == math.Trunc(f) && math.Abs(f) < 1<<63 {
		return strconv.FormatInt(int64(f), 10)
	}
	return strconv.FormatFloat(f, 'g', -1, 64)
}

// unescape undoes percent-encoding, so that a value has no second form; what is none stays as it is.
func unescape(s string, plusIsSpace bool) string {
	if !strings.Contains(s, "%") && !(plusIsSpace && strings.Contains(s, "+")) {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		c, encoded := percent.Decode(s[i:])
		switch {
		case encoded:
			b = append(b, c)
			i += 2
		case s[i] == '+' && plusIsSpace:
			b = append(b, ' ')
		default:
			b = append(b, s[i])
		}
	}
	return string(b)
}
