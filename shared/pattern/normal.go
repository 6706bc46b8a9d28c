package pattern

import "strings"

// NormalPath is the one form of a path, or a part of one, in which paths are compared: without percent-encoding, so that
// "/%6Frders" is "/orders" and "/%e8%ae%a2" is "/订", and without the parameters that a segment may have, so that
// "/orders;v=1" is "/orders": many servers look a path up without them. What would mean something else decoded stays, in
// upper case: a slash, a semicolon, a percent sign, and what begins a query or a fragment. A percent sign that encodes
// nothing stands for itself, "%25".
func NormalPath(path string) string {
	i := 0
	for i < len(path) && path[i] != '%' && path[i] != ';' {
		i++
	}
	if i == len(path) {
		return path
	}
	b := append(make([]byte, 0, len(path)+len("%25")), path[:i]...)
	for i < len(path) {
		if path[i] == ';' {
			i += len(parameters(path[i:]))
			continue
		}
		c, encoded := Unhex(path[i:])
		switch {
		case !encoded && path[i] == '%':
			b = append(b, "%25"...)
		case !encoded:
			b = append(b, path[i])
		case strings.IndexByte("/;%?#", c) >= 0:
			const digits = "0123456789ABCDEF"
			b = append(b, '%', digits[c>>4], digits[c&15])
		default:
			b = append(b, c)
		}
		if encoded {
			i += 2
		}
		i++
	}
	return string(b)
}

// parameters are those of a segment, from their semicolon to its end.
func parameters(s string) string {
	if end := strings.IndexByte(s, '/'); end >= 0 {
		return s[:end]
	}
	return s
}

// WithoutParameters cuts the parameters off a segment.
func WithoutParameters(segment string) string {
	name, _, _ := strings.Cut(segment, ";")
	return name
}

// Unhex is the byte that a text's first three bytes encode, as "%2f", and whether they do.
func Unhex(s string) (byte, bool) {
	if len(s) < 3 || s[0] != '%' || !isHex(s[1]) || !isHex(s[2]) {
		return 0, false
	}
	return hex(s[1])<<4 | hex(s[2]), true
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

func hex(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c&^0x20 - 'A' + 10
}
