// Package pattern has the patterns for what clients send: expressions and path patterns, whose cost is bounded, and the one
// form of a path that they are compared in.
package pattern

import (
	"errors"
	"regexp"
	"regexp/syntax"
	"strings"
)

// MaxText is how many bytes an expression looks at: three ordinary expressions on such a text take up to 1 ms in Wasm.
const MaxText = 2048

// maxProgram bounds an expression's instructions: what has no counted repetition fits.
const maxProgram = 2048

// Expression is an RE2 expression for whole texts.
type Expression struct {
	re *regexp.Regexp
	// prefix is what every text begins with that the expression matches.
	prefix string
}

// Compile reads an expression. An error that repeats parts of it is a *syntax.Error.
func Compile(source string) (*Expression, error) {
	// By itself first: "a)|(b" is no expression, but would be one inside the anchors.
	tree, err := syntax.Parse(source, syntax.Perl)
	if err != nil {
		return nil, err
	}
	if program(tree) > maxProgram {
		return nil, errors.New("too large a regular expression: each byte of a text would cost thousands of steps; repeat less")
	}
	re, err := regexp.Compile(`\A(?:` + source + `)\z`)
	if err != nil {
		return nil, errors.New("not a regular expression (RE2) that can be anchored")
	}
	return &Expression{re: re, prefix: beginning(tree.Simplify())}, nil
}

// Matches is whether the whole text matches. A text longer than MaxText is not read: it matches where it begins as every
// match does, since a client could else leave what the expression is there for by sending more.
func (e *Expression) Matches(text string) bool {
	if !strings.HasPrefix(text, e.prefix) {
		return false
	}
	return len(text) > MaxText || e.re.MatchString(text)
}

// Regexp is the expression, anchored at both ends.
func (e *Expression) Regexp() *regexp.Regexp { return e.re }

// program is how many instructions an expression takes, or more than maxProgram.
func program(re *syntax.Regexp) int {
	n := 1
	if re.Op == syntax.OpLiteral {
		n = len(re.Rune)
	}
	for _, sub := range re.Sub {
		n += program(sub)
	}
	if re.Op == syntax.OpRepeat {
		n *= max(re.Min, re.Max, 1)
	}
	return min(n, maxProgram+1)
}

// beginning is the literal text that an expression begins with, as far as it is plain.
func beginning(re *syntax.Regexp) string {
	switch re.Op {
	case syntax.OpLiteral:
		if re.Flags&syntax.FoldCase == 0 {
			return string(re.Rune)
		}
	case syntax.OpCapture:
		return beginning(re.Sub[0])
	case syntax.OpConcat:
		var b strings.Builder
		for _, sub := range re.Sub {
			part := beginning(sub)
			b.WriteString(part)
			if sub.Op != syntax.OpLiteral || part == "" {
				break
			}
		}
		return b.String()
	}
	return ""
}
