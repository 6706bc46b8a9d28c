package envoyhost

import (
	"encoding/binary"
	"unsafe"

	"sentinel-envoy/shared/outcome"
)

// headers say which of a stream's headers are meant, in Proxy-Wasm's numbers.
type headers uint32

const (
	requestHeaders   headers = 0
	responseHeaders  headers = 2
	responseTrailers headers = 3
)

// RequestHeader, ResponseHeader and ResponseTrailer read a header by its lower-case name, and report whether there is one.
// The value is void with the end of the callback.
func RequestHeader(name string) (string, bool) { return text(header(requestHeaders, name)) }

// ResponseHeader is described with RequestHeader.
func ResponseHeader(name string) (string, bool) { return text(header(responseHeaders, name)) }

// ResponseTrailer is described with RequestHeader.
func ResponseTrailer(name string) (string, bool) { return text(header(responseTrailers, name)) }

// RequestHeaderLines appends the values of all lines of a request header to dst. It has the host encode all headers. The
// values are void with the end of the callback.
func RequestHeaderLines(dst []string, name string) []string {
	encoded, _ := headerPairs(requestHeaders)
	return lines(dst, encoded, name)
}

// lines finds a header in an encoded map.
func lines(dst []string, encoded []byte, name string) []string {
	p := openPairs(encoded)
	for {
		other, value, there := p.next()
		if !there {
			return dst
		}
		if string(other) == name {
			line, _ := text(value, ok)
			dst = append(dst, line)
		}
	}
}

// Text reads a property that Envoy gives as text, and reports whether there is one. The value is void with the end of the
// callback.
func Text(path []string) (string, bool) { return text(property(join(path))) }

// Int reads a property that Envoy gives as a 64-bit integer, and reports whether there is one.
func Int(path []string) (int64, bool) {
	value, st := property(join(path))
	if st != ok || len(value) != 8 {
		return 0, false
	}
	return int64(binary.LittleEndian.Uint64(value)), true
}

// text is a value as a string in the same memory.
func text(value []byte, st status) (string, bool) {
	return unsafe.String(unsafe.SliceData(value), len(value)), st == ok
}

var joined []byte

// join puts zero bytes between the parts of a path. The result is void with the next call.
func join(path []string) []byte {
	joined = joined[:0]
	for i, part := range path {
		if i > 0 {
			joined = append(joined, 0)
		}
		joined = append(joined, part...)
	}
	return joined
}

var responseFlags = []string{"response", "flags"}

// ResponseFlags are the flags of the stream that is ending.
func ResponseFlags() outcome.Flags {
	flags, _ := Int(responseFlags)
	return outcome.Flags(flags)
}
