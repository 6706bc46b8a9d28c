package pattern

import (
	"errors"
	"regexp"
	"strings"
)

const (
	maxSegments  = 64 // of a path pattern
	maxWildcards = 8  // in one segment
)

// Path is a path pattern, such as "/users/{id}", "/files/*.png" or "/api/**". "{name}" is any text without a slash, at
// least a byte; "*" is the same, or nothing where its segment has other characters; "**" is any number of segments, and
// stands once.
type Path struct {
	head, tail []segment // before and after "**"
	rest       bool      // whether there is a "**"
}

// segment is what stands between two slashes: literals with wildcards between them.
type segment struct {
	pieces []string // one where there is no wildcard
	some   []bool   // of each wildcard, whether it needs at least a byte
}

// IsPattern is whether a path is a pattern: it has a wildcard.
func IsPattern(path string) bool { return strings.ContainsAny(path, "*{}") }

// ParsePath reads a path pattern. The error says what is wrong with it.
func ParsePath(text string) (*Path, error) {
	if !strings.HasPrefix(text, "/") {
		return nil, errors.New(`must begin with "/"`)
	}
	if strings.ContainsAny(text, "?#") {
		return nil, errors.New("must have no query and no fragment: paths are taken without them")
	}
	parts := strings.Split(text[1:], "/")
	if len(parts) > maxSegments {
		return nil, errors.New("must have at most 64 segments")
	}
	p := &Path{}
	for i, part := range parts {
		if part == "**" || strings.HasPrefix(part, "{*") && strings.HasSuffix(part, "}") && i == len(parts)-1 {
			if p.rest {
				return nil, errors.New("must have ** at most once")
			}
			p.rest = true
			continue
		}
		s, err := parseSegment(part)
		if err != nil {
			return nil, err
		}
		if p.rest {
			p.tail = append(p.tail, s)
		} else {
			p.head = append(p.head, s)
		}
	}
	return p, nil
}

func parseSegment(text string) (s segment, err error) {
	if strings.Contains(text, "**") {
		return s, errors.New("** must be a segment of its own")
	}
	for {
		i := strings.IndexAny(text, "*{}")
		if i < 0 {
			s.pieces = append(s.pieces, NormalPath(text))
			break
		}
		if len(s.some) == maxWildcards {
			return s, errors.New("must have at most 8 wildcards in a segment")
		}
		s.pieces, s.some = append(s.pieces, NormalPath(text[:i])), append(s.some, text[i] == '{')
		end := i
		if text[i] != '*' {
			if end, err = variable(text, i); err != nil {
				return s, err
			}
		}
		text = text[end+1:]
	}
	if len(s.some) == 1 && s.pieces[0] == "" && s.pieces[1] == "" {
		s.some[0] = true
	}
	return s, nil
}

// variable is the end of the {name} that begins at i.
func variable(text string, i int) (end int, err error) {
	if text[i] == '}' {
		return 0, errors.New("has a } without its {")
	}
	n := strings.IndexByte(text[i:], '}')
	if n < 0 {
		return 0, errors.New("has a { without its }")
	}
	name := text[i+1 : i+n]
	if strings.ContainsAny(name, ":=*{") {
		return 0, errors.New("must have names only between { and }; for a condition on the text there is match.path.regex")
	}
	return i + n, nil
}

// literals counts the bytes of a segment that are no wildcards.
func (s *segment) literals() (n int) {
	for _, p := range s.pieces {
		n += len(p)
	}
	return n
}

// matches is whether the wildcards can stand for what is between the pieces. Each piece is taken where it comes first.
func (s *segment) matches(text string) bool {
	if len(s.some) == 0 {
		return text == s.pieces[0]
	}
	last := len(s.some)
	if !strings.HasPrefix(text, s.pieces[0]) || len(text) < len(s.pieces[0])+len(s.pieces[last]) ||
		!strings.HasSuffix(text, s.pieces[last]) {
		return false
	}
	text = text[len(s.pieces[0]) : len(text)-len(s.pieces[last])]
	for i := range last {
		from := 0
		if s.some[i] {
			from = 1
		}
		if from > len(text) {
			return false
		}
		if i == last-1 {
			return true
		}
		at := strings.Index(text[from:], s.pieces[i+1])
		if at < 0 {
			return false
		}
		text = text[from+at+len(s.pieces[i+1]):]
	}
	return true
}

// Matches is whether a path, in its normal form, is one of the pattern's.
func (p *Path) Matches(path string) bool {
	if path == "" {
		return false
	}
	for i := range p.head {
		part, rest, ok := next(path)
		if !ok || !p.head[i].matches(part) {
			return false
		}
		path = rest
	}
	if !p.rest {
		return path == ""
	}
	return endsWith(path, p.tail)
}

// Expression is an RE2 expression for the paths that the pattern matches, for whom a letter's case is not to matter.
func (p *Path) Expression() string {
	var b strings.Builder
	for i := range p.head {
		p.head[i].express(&b)
	}
	if p.rest {
		b.WriteString("(?:/.*)?")
	}
	for i := range p.tail {
		p.tail[i].express(&b)
	}
	return b.String()
}

func (s *segment) express(b *strings.Builder) {
	b.WriteByte('/')
	for i, piece := range s.pieces {
		b.WriteString(regexp.QuoteMeta(piece))
		switch {
		case i == len(s.some):
		case s.some[i]:
			b.WriteString("[^/]+")
		default:
			b.WriteString("[^/]*")
		}
	}
}

// next cuts the first segment off a path, and reports whether there is one.
func next(path string) (part, rest string, ok bool) {
	if path == "" || path[0] != '/' {
		return "", "", false
	}
	path = path[1:]
	if end := strings.IndexByte(path, '/'); end >= 0 {
		return path[:end], path[end:], true
	}
	return path, "", true
}

// endsWith is whether the last segments of a path match.
func endsWith(path string, tail []segment) bool {
	if path != "" && path[0] != '/' {
		return false
	}
	for i := len(tail) - 1; i >= 0; i-- {
		slash := strings.LastIndexByte(path, '/')
		if slash < 0 || !tail[i].matches(path[slash+1:]) {
			return false
		}
		path = path[:slash]
	}
	return true
}
