package percent

import (
	"net/url"
	"testing"
)

// What is written reads back, byte by byte and by a library's reader, and only plain bytes stand for themselves.
func TestAppendAndDecode(t *testing.T) {
	path := Unreserved.With("/!$&'()*+,;=:@")
	for name, plain := range map[string]Plain{"none": {}, "unreserved": Unreserved, "path": path, "printable": Printable} {
		for c := range 256 {
			text := string([]byte{'a', byte(c), 'z'})
			got := string(Append(nil, text, &plain))
			if back, err := url.PathUnescape(got); err != nil || back != text {
				t.Errorf("%s: %q is %q, which reads back as %q (%v)", name, text, got, back, err)
			}
			middle := got[1:]
			if !plain.Has('a') {
				middle = got[3:]
			}
			decoded, encoded := Decode(middle)
			if encoded == plain.Has(byte(c)) || encoded && decoded != byte(c) {
				t.Errorf("%s: %q begins with %q, encoded: %t", name, middle, decoded, encoded)
			}
		}
	}
	if less := Printable.Without(","); less.Has(',') || !less.Has('+') || Printable.Has('%') || !Printable.Has(',') {
		t.Errorf("without a comma: %x of %x", less, Printable)
	}
}

func TestDecodesNothing(t *testing.T) {
	for _, s := range []string{"", "%", "%4", "%4g", "%g4", "a41", "%%41", "%-1"} {
		if c, ok := Decode(s); ok {
			t.Errorf("%q encodes %q", s, c)
		}
	}
}
