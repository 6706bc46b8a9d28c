package envoyhost

import (
	"encoding/binary"

	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm"
)

// Int reads a property that Envoy gives as a 64-bit integer, and reports whether there is one.
func Int(path []string) (int64, bool) {
	value, err := proxywasm.GetProperty(path)
	if err != nil || len(value) != 8 {
		return 0, false
	}
	return int64(binary.LittleEndian.Uint64(value)), true
}

// Text reads a property that Envoy gives as text, and reports whether there is one.
func Text(path []string) (string, bool) {
	value, err := proxywasm.GetProperty(path)
	return string(value), err == nil
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
