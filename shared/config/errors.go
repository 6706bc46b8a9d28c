package config

import (
	"strconv"
	"strings"
)

// Error is one mistake in a configuration.
type Error struct {
	Path   string // "flowRules[2].threshold"; "" is the configuration as a whole
	Reason string // "must be ≥ 0, got -1"
}

// Error is the place and the reason.
func (e Error) Error() string {
	if e.Path == "" {
		return e.Reason
	}
	return e.Path + ": " + e.Reason
}

// maxErrors bounds how many mistakes are told, and how many warnings; the rest is counted.
const maxErrors = 50

// Warning is something that a configuration may say and that hardly anybody means: a rule that is never asked, or that lets
// nothing in.
type Warning struct {
	Path   string // "flowRules[2].threshold"
	Reason string // names the rule, and says what to write
}

// String is the place and the reason.
func (w Warning) String() string { return Error(w).Error() }

// Errors is every mistake found: at most 50, then one that counts the rest.
type Errors []Error

// Error has one line per mistake.
func (e Errors) Error() string {
	var b strings.Builder
	for i, err := range e {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(err.Error())
	}
	return b.String()
}

// place is where in the document something stands. It becomes text only when there is a mistake to tell.
type place struct {
	parent *place // nil at the top
	key    string // at the top the document's name, empty for a configuration
	index  int    // of a list's element; -1 for a key
}

func (p *place) at(key string) *place { return &place{parent: p, key: key, index: -1} }

func (p *place) item(i int) *place { return &place{parent: p, index: i} }

func (p *place) String() string {
	if p.parent == nil {
		return p.key
	}
	before := p.parent.String()
	if p.index >= 0 {
		return before + "[" + strconv.Itoa(p.index) + "]"
	}
	key := p.key
	if key == "" || strings.ContainsFunc(key, func(r rune) bool { return !isWord(r) }) || len(key) > maxEcho {
		key = quote(key)
	}
	switch {
	case before == "":
		return key
	case p.parent.parent == nil:
		return before + ": " + key
	}
	return before + "." + key
}

func isWord(r rune) bool {
	return r == '_' || r == '-' || '0' <= r && r <= '9' || 'a' <= r|0x20 && r|0x20 <= 'z'
}

// mistakes collects what is wrong, and what is odd.
type mistakes struct {
	list     Errors
	more     int
	warnings []Warning
}

// warn notes a warning. Those beyond maxErrors are dropped: they are of one kind.
func (m *mistakes) warn(where *place, reason ...string) {
	if len(m.warnings) < maxErrors {
		m.warnings = append(m.warnings, Warning{Path: where.String(), Reason: strings.Join(reason, "")})
	}
}

// add notes a mistake, one per place: a second check of a bad value would only repeat the first. Texts are put together
// only while there is room: a document can hold millions of mistakes.
func (m *mistakes) add(where *place, reason ...string) {
	if len(m.list) >= maxErrors {
		m.more++
		return
	}
	path := where.String()
	for _, e := range m.list {
		if e.Path == path {
			return
		}
	}
	m.list = append(m.list, Error{Path: path, Reason: strings.Join(reason, "")})
}

func (m *mistakes) count() int { return len(m.list) + m.more }

// err is nil when there was no mistake.
func (m *mistakes) err() error {
	if len(m.list) == 0 {
		return nil
	}
	if m.more > 0 {
		return append(m.list, Error{Reason: "and " + strconv.Itoa(m.more) + " more"})
	}
	return m.list
}

// maxEcho bounds, in bytes, what an error repeats of the document.
const maxEcho = 64

// quote is s in double quotes, shortened, with control characters escaped.
func quote(s string) string { return `"` + printable(s) + `"` }

// printable is s, shortened, with control characters escaped.
func printable(s string) string {
	b := make([]byte, 0, maxEcho+8)
	for _, r := range s {
		escaped := strconv.QuoteRune(r)
		escaped = escaped[1 : len(escaped)-1]
		if len(b)+len(escaped) > maxEcho-len("…") {
			return string(b) + "…"
		}
		b = append(b, escaped...)
	}
	return string(b)
}
