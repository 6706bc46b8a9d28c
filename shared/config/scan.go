package config

import (
	"strconv"
	"unicode/utf8"
)

// maxDepth bounds nesting; the deepest valid configuration has 6 levels (resources, entry, match, headers, header, value).
const maxDepth = 16

// malformed says what is wrong with data as a JSON document, or "". The parser that reads the values is lenient:
// it relies on this check.
func malformed(data []byte) string {
	if !utf8.Valid(data) {
		return "malformed JSON: not UTF-8"
	}
	s := scanner{data: data}
	if s.value(0); s.problem == "" && s.next() != 0 {
		s.fail("the end")
	}
	return s.problem
}

type scanner struct {
	data    []byte
	pos     int
	problem string
}

// fail keeps the first problem and makes every later step see the end of the data.
func (s *scanner) fail(expected string) {
	if s.problem != "" {
		return
	}
	got := "the end"
	if s.pos < len(s.data) {
		r, _ := utf8.DecodeRune(s.data[s.pos:])
		got = strconv.QuoteRune(r)
	}
	s.problem = "malformed JSON at " + s.where() + ": expected " + expected + ", got " + got
	s.pos = len(s.data)
}

func (s *scanner) where() string {
	line, column := 1, 1
	for _, c := range s.data[:s.pos] {
		column++
		if c == '\n' {
			line, column = line+1, 1
		}
	}
	return "line " + strconv.Itoa(line) + ", byte " + strconv.Itoa(column)
}

// peek is the byte here; 0 is the end, or a byte no JSON may have here.
func (s *scanner) peek() byte {
	if s.pos < len(s.data) {
		return s.data[s.pos]
	}
	return 0
}

// next is the first byte that is not white space.
func (s *scanner) next() byte {
	for s.pos < len(s.data) && isSpace(s.data[s.pos]) {
		s.pos++
	}
	if s.peek() == 0 && s.pos < len(s.data) {
		s.fail("no zero byte")
	}
	return s.peek()
}

func (s *scanner) value(depth int) {
	c := s.next()
	switch {
	case depth > maxDepth:
		s.fail("at most " + strconv.Itoa(maxDepth) + " levels of nesting")
	case c == '{':
		s.list('}', "a key", func() { s.member(depth) })
	case c == '[':
		s.list(']', "a value", func() { s.value(depth + 1) })
	case c == '"':
		s.str()
	case c == '-' || isDigit(c):
		s.number()
	case c == 't':
		s.word("true")
	case c == 'f':
		s.word("false")
	case c == 'n':
		s.word("null")
	default:
		s.fail("a value")
	}
}

func (s *scanner) list(end byte, what string, element func()) {
	s.pos++
	if s.next() == end {
		s.pos++
		return
	}
	for s.problem == "" {
		element()
		switch s.next() {
		case ',':
			s.pos++
			if s.next() == end {
				s.fail(what)
			}
		case end:
			s.pos++
			return
		default:
			s.fail("',' or '" + string(rune(end)) + "'")
		}
	}
}

func (s *scanner) member(depth int) {
	if s.next() != '"' {
		s.fail("a key in double quotes")
		return
	}
	s.str()
	if s.next() != ':' {
		s.fail("':' after a key")
		return
	}
	s.pos++
	s.value(depth + 1)
}

func (s *scanner) str() {
	for s.pos++; ; s.pos++ {
		switch c := s.peek(); {
		case c == '"':
			s.pos++
			return
		case c < ' ':
			s.fail("the closing '\"' of a string")
			return
		case c == '\\':
			s.pos++
			if !s.escape() {
				s.fail("a valid escape")
				return
			}
		}
	}
}

// escape leaves pos on the escape's last byte.
func (s *scanner) escape() bool {
	switch s.peek() {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return true
	case 'u':
		return s.unicode()
	}
	return false
}

// unicode takes uXXXX, and the second half of a surrogate pair with it; a half alone is no character.
func (s *scanner) unicode() bool {
	r, ok := s.hex4()
	if !ok || r >= 0xdc00 && r < 0xe000 {
		return false
	}
	if r < 0xd800 || r >= 0xe000 {
		return true
	}
	if s.pos+2 >= len(s.data) || s.data[s.pos+1] != '\\' || s.data[s.pos+2] != 'u' {
		return false
	}
	s.pos += 2
	low, ok := s.hex4()
	return ok && low >= 0xdc00 && low < 0xe000
}

// hex4 reads the digits after the 'u' at pos and leaves pos on the last.
func (s *scanner) hex4() (uint64, bool) {
	if s.pos+4 >= len(s.data) {
		return 0, false
	}
	for _, c := range s.data[s.pos+1 : s.pos+5] {
		if !isDigit(c) && (c|0x20 < 'a' || c|0x20 > 'f') {
			return 0, false
		}
	}
	r, err := strconv.ParseUint(string(s.data[s.pos+1:s.pos+5]), 16, 32)
	s.pos += 4
	return r, err == nil
}

func (s *scanner) number() {
	if s.peek() == '-' {
		s.pos++
	}
	if s.peek() == '0' {
		s.pos++
	} else {
		s.digits()
	}
	if s.peek() == '.' {
		s.pos++
		s.digits()
	}
	if s.peek()|0x20 == 'e' {
		s.pos++
		if c := s.peek(); c == '+' || c == '-' {
			s.pos++
		}
		s.digits()
	}
}

func (s *scanner) digits() {
	if !isDigit(s.peek()) {
		s.fail("a digit")
	}
	for isDigit(s.peek()) {
		s.pos++
	}
}

func (s *scanner) word(w string) {
	for i := 0; i < len(w); i++ {
		if s.peek() != w[i] {
			s.fail(w)
			return
		}
		s.pos++
	}
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }
