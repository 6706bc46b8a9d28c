package pattern

import (
	"strings"

	"sentinel-envoy/shared/percent"
)

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
		c, encoded := percent.Decode(path[i:])
		switch {
		case !encoded && path[i] == '%':
			b = append(b, "%25"...)
		case !encoded:
			b = append(b, path[i])
		case strings.IndexByte("/;%?#", c) >= 0:
			b = percent.AppendByte(b, c)
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
