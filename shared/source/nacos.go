package source

import (
	"bytes"
	"strings"

	"sentinel-envoy/shared/checksum"
	"sentinel-envoy/shared/config"
)

// nacos is a configuration of Nacos, by its API v1. It is read once, and then a long poll with the hash of its content says when
// it has changed. The mark is that hash, in hexadecimal.
type nacos struct{}

const nacosWord, nacosEnd = "\x02", "\x01"

func (nacos) ask(o *config.Origin, mark string) Request {
	base := strings.TrimSuffix(o.Path, "/") + "/v1/cs/configs"
	if mark == "" {
		path := base + "?dataId=" + escape(o.DataID) + "&group=" + escape(o.Group)
		if o.Namespace != "" {
			path += "&tenant=" + escape(o.Namespace)
		}
		return Request{Method: "GET", Path: path}
	}
	listening := o.DataID + nacosWord + o.Group + nacosWord + mark
	if o.Namespace != "" {
		listening += nacosWord + o.Namespace
	}
	return Request{
		Method: "POST", Path: base + "/listener", Body: "Listening-Configs=" + escape(listening+nacosEnd),
		Headers: [][2]string{
			{"content-type", "application/x-www-form-urlencoded"}, {"long-pulling-timeout", "30000"},
		},
		PatienceMs: longPollMs + spareMs,
	}
}

// read knows the answer to a long poll by the mark: nothing, or the names of what has changed.
func (nacos) read(_ *config.Origin, mark string, r *Response) (Answer, error) {
	if mark == "" {
		return Answer{News: Text, Text: r.Body, Mark: hexadecimal(checksum.MD5(r.Body))}, nil
	}
	if len(bytes.TrimSpace(r.Body)) == 0 {
		return Answer{News: Unchanged, Mark: mark}, nil
	}
	return Answer{News: Again}, nil
}

// hexDigits are those that percent-encoding has.
const hexDigits = "0123456789ABCDEF"

// hexadecimal is a sum as Nacos writes it. Package encoding/hex would bring package fmt.
func hexadecimal(sum [16]byte) string {
	var b strings.Builder
	for _, c := range sum {
		b.WriteByte(hexDigits[c>>4] | 0x20)
		b.WriteByte(hexDigits[c&15] | 0x20)
	}
	return b.String()
}

// escape is a text as a value in a query or a form.
func escape(text string) string { return escapeBut(text, "-_.~") }

// escapePath is a text as segments of a path.
func escapePath(text string) string { return escapeBut(text, "-_.~/!$&'()*+,;=:@") }

// escapeBut percent-encodes all but letters, digits and what is plain.
func escapeBut(text, plain string) string {
	var b strings.Builder
	for i := range len(text) {
		c := text[i]
		if '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'z' || strings.IndexByte(plain, c) >= 0 {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('%')
		b.WriteByte(hexDigits[c>>4])
		b.WriteByte(hexDigits[c&15])
	}
	return b.String()
}
