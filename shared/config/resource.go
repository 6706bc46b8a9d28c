package config

import (
	"net/netip"
	"strings"
	"unicode/utf8"

	"sentinel-envoy/shared/answer"
	"sentinel-envoy/shared/pattern"
)

// Resource is an entry of `resources`: what its match takes is the resource Name.
type Resource struct {
	Name string
	Match
	// Block is what the answer is in place of the filter's where a rule of the resource refuses; nil is nothing.
	Block *answer.Block
	// Unlimited takes before all other entries, and out of what any rule limits.
	Unlimited bool
	// Continue adds the resource and lets the entries after it be asked as well.
	Continue bool
}

// Match takes a stream that meets all of its conditions.
type Match struct {
	// Conditions of HTTP.
	Method  []string // any of these, upper case; empty matches all
	Host    Name
	Path    Text // for paths in the form of pattern.NormalPath
	Headers []Field
	Query   []Field // for parameters of the query, decoded
	Cookies []Field
	// TrustedHops says which address of x-forwarded-for SourceIP is about, from its end; 0 is the connection's.
	TrustedHops uint32

	// Conditions of TCP.
	SNI             Name
	DestinationPort int // 0 matches all

	// Conditions of both.
	SourceIP []netip.Prefix // any of these; v4-mapped addresses are v4
	Not      *Match         // takes none that this one takes; nil is no condition
}

// OfHTTP and OfTCP are whether a match has conditions that only a request, or only a connection, can meet.
func (m *Match) OfHTTP() bool {
	own := len(m.Method)+len(m.Headers)+len(m.Query)+len(m.Cookies) > 0 || m.Host.Value != "" || m.Path.Op != Any
	return own || m.Not != nil && m.Not.OfHTTP()
}

// OfTCP is described with OfHTTP.
func (m *Match) OfTCP() bool {
	return m.SNI.Value != "" || m.DestinationPort != 0 || m.Not != nil && m.Not.OfTCP()
}

// hasOnlyPath is whether a match looks at nothing but the path.
func (m *Match) hasOnlyPath() bool {
	others := len(m.Method) + len(m.Headers) + len(m.Query) + len(m.Cookies) + len(m.SourceIP)
	return m.Path.Op != Any && others == 0 && m.Host.Value == "" && m.Not == nil
}

// Name matches a host name, in lower case and without a port. The zero Name matches everything.
type Name struct {
	Value  string // "api.example.com"; with Suffix ".example.com"
	Suffix bool   // given as "*.example.com": any name that ends in Value and is longer
}

// Field matches a header, a parameter of the query or a cookie by its name; a header's is in lower case. One that comes
// several times meets it with any of its values.
type Field struct {
	Name  string
	Value Text
	// Invert takes what does not meet Value, or is absent.
	Invert bool
}

// Text matches a string. The zero Text matches everything.
type Text struct {
	Op         Op
	Value      string              // as it was given; of a path with Exact, Prefix, Suffix and Contains in its normal form
	Expression *pattern.Expression // with Regex, and with Contains and Template where Fold
	Template   *pattern.Path       // with Template
	// Fold says that upper and lower case are the same, Trim that a path counts without the slashes that it ends in.
	Fold, Trim bool
}

// Op is how a Text matches.
type Op int

const (
	Any      Op = iota // everything, even what is absent
	Exact              // the whole string
	Prefix             // its beginning
	Suffix             // its end
	Contains           // a part of it
	Regex              // an RE2 expression for the whole string, as Envoy's safe_regex
	Template           // a path pattern
	Present            // everything that is there, "" included
)

// IsExact is whether one string meets t, and no other.
func (t *Text) IsExact() bool { return t.Op == Exact && !t.Fold && !t.Trim }

// Matches is whether s, which is there or not, meets t. A text that is too long for an expression meets it where it begins
// as a match does.
func (t *Text) Matches(s string, there bool) bool { return t.matches(s, there, false) }

// Surely is Matches, but for a text that is too long for an expression: it does not meet it. Where what meets t is spared
// something, it must be this one: nobody is spared for sending more.
func (t *Text) Surely(s string, there bool) bool { return t.matches(s, there, true) }

func (t *Text) matches(s string, there, surely bool) bool {
	if !there {
		return t.Op == Any
	}
	if t.Trim {
		s = withoutSlash(s)
	}
	switch t.Op {
	case Any, Present:
		return true
	case Template:
		if t.Fold {
			return t.meetsExpression(s, surely)
		}
		return t.Template != nil && t.Template.Matches(s)
	case Regex:
		return t.meetsExpression(s, surely)
	}
	if t.Fold {
		return t.folded(s, surely)
	}
	switch t.Op {
	case Exact:
		return s == t.Value
	case Prefix:
		return strings.HasPrefix(s, t.Value)
	case Suffix:
		return strings.HasSuffix(s, t.Value)
	}
	return strings.Contains(s, t.Value)
}

func (t *Text) meetsExpression(s string, surely bool) bool {
	return t.Expression != nil && !(surely && len(s) > pattern.MaxText) && t.Expression.Matches(s)
}

// folded is Matches whatever the case of letters. It looks at no more of s than it must: clients send long ones.
func (t *Text) folded(s string, surely bool) bool {
	switch t.Op {
	case Exact:
		return strings.EqualFold(s, t.Value)
	case Prefix:
		return strings.EqualFold(s[:runes(s, utf8.RuneCountInString(t.Value))], t.Value)
	case Suffix:
		cut := len(s)
		for range utf8.RuneCountInString(t.Value) {
			_, size := utf8.DecodeLastRuneInString(s[:cut])
			cut -= size
		}
		return strings.EqualFold(s[cut:], t.Value)
	}
	return t.meetsExpression(s, surely) // Contains
}

// runes is how many bytes the first n characters of s have, or all.
func runes(s string, n int) (end int) {
	for ; n > 0 && end < len(s); n-- {
		_, size := utf8.DecodeRuneInString(s[end:])
		end += size
	}
	return end
}

// withoutSlash is a path without the slashes that it ends in, but for the one that it begins with.
func withoutSlash(path string) string {
	for len(path) > 1 && path[len(path)-1] == '/' {
		path = path[:len(path)-1]
	}
	return path
}

// covers is whether every path that meets other meets t, as far as that can be told.
func (t *Text) covers(other *Text) bool {
	plain := !other.Fold && !other.Trim
	switch {
	case other.IsExact():
		return t.Matches(other.Value, true)
	case t.Fold || t.Trim:
		return t.Op == other.Op && t.Value == other.Value && t.Fold == other.Fold && t.Trim == other.Trim
	case !plain && !(t.Op == Prefix && !other.Fold): // it takes more than its value says
		return false
	case t.Op == Prefix && other.Op == Template:
		beginning, _, _ := strings.Cut(other.Value, "*")
		beginning, _, _ = strings.Cut(beginning, "{")
		return strings.HasPrefix(pattern.NormalPath(beginning), t.Value)
	case t.Op == Prefix && (other.Op == Prefix || other.Op == Exact):
		return strings.HasPrefix(other.Value, t.Value)
	}
	return t.Op == other.Op && other.Op != Any && t.Value == other.Value
}
