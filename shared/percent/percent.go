// Package percent reads and writes percent-encoding (RFC 3986, section 2.1).
package percent

const digits = "0123456789ABCDEF"

// Plain are the bytes that stand for themselves, one bit each; "%" is never one.
type Plain [4]uint64

// Unreserved are those of RFC 3986, section 2.3: what stands for itself everywhere. Printable are those of ASCII, as
// grpc-message has them.
var (
	Unreserved = Plain{}.With("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-._~")
	Printable  = Plain{}.between(' ', '~')
)

func (p Plain) between(first, last byte) Plain {
	for c := int(first); c <= int(last); c++ {
		p[c>>6] |= 1 << (c & 63)
	}
	return p.Without("%")
}

// With is p with more bytes.
func (p Plain) With(bytes string) Plain {
	for i := range len(bytes) {
		p = p.between(bytes[i], bytes[i])
	}
	return p
}

// WithTop is p with all bytes that are not ASCII's.
func (p Plain) WithTop() Plain { return p.between(0x80, 0xff) }

// Without is p with fewer bytes.
func (p Plain) Without(bytes string) Plain {
	for i := range len(bytes) {
		c := bytes[i]
		p[c>>6] &^= 1 << (c & 63)
	}
	return p
}

// Has is whether a byte stands for itself.
func (p *Plain) Has(c byte) bool { return p[c>>6]&(1<<(c&63)) != 0 }

// Append appends a text to dst, in which all bytes but the plain ones are encoded.
func Append[T string | []byte](dst []byte, text T, plain *Plain) []byte {
	for i := range len(text) {
		if c := text[i]; plain.Has(c) {
			dst = append(dst, c)
		} else {
			dst = AppendByte(dst, c)
		}
	}
	return dst
}

// AppendByte appends a byte to dst, encoded.
func AppendByte(dst []byte, c byte) []byte { return append(dst, '%', digits[c>>4], digits[c&15]) }

// Decode is the byte that a text's first three bytes encode, as "%2f", and whether they do.
func Decode(s string) (byte, bool) {
	if len(s) < 3 || s[0] != '%' || !isHex(s[1]) || !isHex(s[2]) {
		return 0, false
	}
	return value(s[1])<<4 | value(s[2]), true
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

func value(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c&^0x20 - 'A' + 10
}
