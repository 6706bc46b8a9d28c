package envoyhost

import (
	"encoding/binary"
	"unsafe"
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

// Flags say what went wrong with a stream: the bits of Envoy's StreamInfo::CoreResponseFlag.
type Flags int64

const (
	noHealthyUpstream     Flags = 1 << 1
	localReset            Flags = 1 << 3
	upstreamReset         Flags = 1 << 4
	upstreamRefused       Flags = 1 << 5
	upstreamTermination   Flags = 1 << 6
	clientLeft            Flags = 1 << 14
	idleTimeout           Flags = 1 << 16
	upstreamMaxDuration   Flags = 1 << 19
	durationTimeout       Flags = 1 << 22
	upstreamProtocolError Flags = 1 << 23
	clientReset           Flags = 1 << 28
)

var responseFlags = []string{"response", "flags"}

// ResponseFlags are the flags of the stream that is ending.
func ResponseFlags() Flags {
	flags, _ := Int(responseFlags)
	return Flags(flags)
}

// Unreached is whether there was no server that could be reached.
func (f Flags) Unreached() bool { return f&(noHealthyUpstream|upstreamRefused) != 0 }

// BrokeOff is whether the stream did not end as the server meant it.
func (f Flags) BrokeOff() bool {
	return f&(localReset|upstreamReset|upstreamTermination|idleTimeout|upstreamMaxDuration|durationTimeout|
		upstreamProtocolError) != 0
}

// ClientLeft is whether the client ended the stream before its end.
func (f Flags) ClientLeft() bool { return f&(clientLeft|clientReset) != 0 }
