package source

import (
	"bytes"
	"strings"

	"sentinel-envoy/shared/checksum"
	"sentinel-envoy/shared/config"
	"sentinel-envoy/shared/percent"
)

// nacos is a configuration of Nacos, by its API v1. It is read once, and then a long poll with the hash of its content says
// when it has changed. The mark is that hash, in hexadecimal.
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

// hexadecimal is a sum as Nacos writes it. Package encoding/hex would bring package fmt.
func hexadecimal(sum [16]byte) string {
	const digits = "0123456789abcdef"
	text := make([]byte, 0, 2*len(sum))
	for _, c := range sum {
		text = append(text, digits[c>>4], digits[c&15])
	}
	return string(text)
}

// plainInPath are the bytes that stand for themselves in segments of a path.
var plainInPath = percent.Unreserved.With("/!$&'()*+,;=:@")

// escape is a text as a value in a query or a form.
func escape(text string) string { return string(percent.Append(nil, text, &percent.Unreserved)) }

// escapePath is a text as segments of a path.
func escapePath(text string) string { return string(percent.Append(nil, text, &plainInPath)) }
