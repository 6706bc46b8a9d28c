package http

import (
	"encoding/binary"

	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm"
)

var (
	responseCode  = []string{"response", "code"}
	responseFlags = []string{"response", "flags"}
	grpcStatus    = []string{"response", "grpc_status"}
)

// failed is whether the stream that is ending failed: a status of 500 or more, no status at all (it was reset before
// there was one), a response that broke off, or a gRPC status that stands for a failure of the server.
func failed() bool {
	code, ok := number(responseCode)
	if !ok || code == 0 || code >= 500 {
		return true
	}
	if flags, ok := number(responseFlags); ok && flags&brokeOff != 0 {
		return true
	}
	status, ok := number(grpcStatus)
	return ok && status > 0 && status < 64 && grpcFailures>>status&1 == 1
}

// brokeOff are the response flags (Envoy's StreamInfo::CoreResponseFlag, by bit) of a response that did not end as the
// server meant it: local reset, upstream remote reset, upstream connection termination, stream idle timeout, upstream
// protocol error, and duration timeout.
const brokeOff = 1<<4 | 1<<5 | 1<<7

// grpcFailures are the gRPC statuses, by bit, that stand for HTTP statuses of 500 and more: UNKNOWN, DEADLINE_EXCEEDED,
// UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS.
const grpcFailures = 1<<2 | 1<<4 | 1<<12 | 1<<13 | 1<<14 | 1<<15

// number reads a property that Envoy gives as a 64-bit integer.
func number(path []string) (int64, bool) {
	value, err := proxywasm.GetProperty(path)
	if err != nil || len(value) != 8 {
		return 0, false
	}
	return int64(binary.LittleEndian.Uint64(value)), true
}
