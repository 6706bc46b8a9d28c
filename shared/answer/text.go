package answer

import (
	"strconv"
	"strings"
	"unicode/utf8"

	"sentinel-envoy/shared/percent"
)

// Placeholders are what a body may have in braces.
var Placeholders = [...]string{"rule", "kind", "resource", "retry_after", "request_id"}

const (
	ofRule = iota
	ofKind
	ofResource
	ofRetry
	ofRequest
)

// Text is a body with placeholders.
type Text struct {
	parts []part
	// Asks is whether the body has a placeholder, AsksRequest whether the request's id.
	Asks, AsksRequest bool
	escape            func(dst []byte, s string) []byte
	// none stands for what is not known.
	none string
}

// part is a text, and the placeholder behind it, −1 where there is none.
type part struct {
	text string
	of   int
}

// Values are what placeholders stand for.
type Values struct {
	Rule, Kind, Resource, RequestID string
	// RetryAfter is in seconds, negative where it is not known.
	RetryAfter int64
}

// NewText is a body in a content type, which says how values are written in it.
func NewText(body, contentType string) *Text {
	t := &Text{}
	t.escape, t.none = escaping(contentType)
	for {
		start, end, of := next(body)
		if of < 0 {
			t.parts = append(t.parts, part{body, -1})
			return t
		}
		t.parts = append(t.parts, part{body[:start], of})
		t.Asks, t.AsksRequest = true, t.AsksRequest || of == ofRequest
		body = body[end:]
	}
}

// next is where the next placeholder begins and ends, and which it is, −1 where there is none.
func next(s string) (start, end, of int) {
	for from := 0; ; {
		i := strings.IndexByte(s[from:], '{')
		if i < 0 {
			return 0, 0, -1
		}
		from += i + 1
		for n, name := range Placeholders {
			if rest, ok := strings.CutPrefix(s[from:], name); ok && strings.HasPrefix(rest, "}") {
				return from - 1, from + len(name) + 1, n
			}
		}
	}
}

// Append appends the body to dst.
func (t *Text) Append(dst []byte, v *Values) []byte {
	for _, p := range t.parts {
		dst = append(dst, p.text...)
		switch p.of {
		case ofRule:
			dst = t.escape(dst, v.Rule)
		case ofKind:
			dst = t.escape(dst, v.Kind)
		case ofResource:
			dst = t.escape(dst, v.Resource)
		case ofRequest:
			dst = t.escape(dst, v.RequestID)
		case ofRetry:
			if v.RetryAfter < 0 {
				dst = append(dst, t.none...)
			} else {
				dst = strconv.AppendInt(dst, v.RetryAfter, 10)
			}
		}
	}
	return dst
}

// escaping is how values are written in a content type, and what stands there for a number that is not known.
func escaping(contentType string) (escape func([]byte, string) []byte, none string) {
	media, _, _ := strings.Cut(strings.ToLower(contentType), ";")
	media = strings.TrimSpace(media)
	switch {
	case strings.HasSuffix(media, "json"), strings.HasSuffix(media, "javascript"):
		return AppendJSON, "null"
	case strings.HasSuffix(media, "html"), strings.HasSuffix(media, "xml"):
		return appendMarkup, ""
	case media == "application/x-www-form-urlencoded":
		return appendForm, ""
	}
	return appendPlain, ""
}

const hex = "0123456789abcdef"

// AppendJSON appends a text to dst as it stands between the quotes of a string of JSON or JavaScript, also within a page.
func AppendJSON(dst []byte, s string) []byte {
	for _, r := range s { // of what is no UTF-8 each byte is U+FFFD
		dst = appendRune(dst, r)
	}
	return dst
}

func appendRune(dst []byte, r rune) []byte {
	switch {
	case r == '"' || r == '\\':
		return append(dst, '\\', byte(r))
	case r < ' ' || r == '<' || r == '>' || r == '&' || r == '\'' || r == 0x7f || r == 0x2028 || r == 0x2029:
		return append(dst, '\\', 'u', hex[r>>12&15], hex[r>>8&15], hex[r>>4&15], hex[r&15])
	}
	return utf8.AppendRune(dst, r)
}

// appendMarkup is for text between tags and for values of attributes in quotes.
func appendMarkup(dst []byte, s string) []byte {
	for _, r := range s {
		switch {
		case r == '<' || r == '>' || r == '&' || r == '"' || r == '\'' || r == '`':
			dst = append(strconv.AppendInt(append(dst, "&#"...), int64(r), 10), ';')
		case r < ' ' || r == 0x7f:
			dst = append(dst, ' ')
		default:
			dst = utf8.AppendRune(dst, r)
		}
	}
	return dst
}

func appendForm(dst []byte, s string) []byte { return percent.Append(dst, s, &percent.Unreserved) }

// appendPlain leaves out what could end a line.
func appendPlain(dst []byte, s string) []byte {
	for _, r := range s {
		if r < ' ' || r == 0x7f {
			r = ' '
		}
		dst = utf8.AppendRune(dst, r)
	}
	return dst
}
