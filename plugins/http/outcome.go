package http

import (
	"strconv"

	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm"

	"sentinel-envoy/plugins/envoyhost"
)

// failed is whether the stream that is ending failed: a status of 500 or more, a response that broke off or never came,
// or a gRPC status that stands for a failure of the server. A client that leaves is no failure.
func failed() bool {
	code, _ := envoyhost.Int(responseCode)
	if code >= 500 {
		return true
	}
	flags := envoyhost.ResponseFlags()
	if flags.BrokeOff() || code == 0 && !flags.ClientLeft() {
		return true
	}
	status, ok := grpcStatus()
	return ok && status < 64 && grpcFailures>>status&1 == 1
}

var responseCode = []string{"response", "code"}

// grpcFailures are the gRPC statuses, by bit, that stand for HTTP statuses of 500 and more: UNKNOWN, DEADLINE_EXCEEDED,
// UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS.
const grpcFailures = 1<<2 | 1<<4 | 1<<12 | 1<<13 | 1<<14 | 1<<15

// grpcStatus is the response's gRPC status, in its trailers or, where it has nothing else, its headers. Envoy's property
// response.grpc_status is of no use: for a plain HTTP response it makes a gRPC status of the HTTP status.
func grpcStatus() (uint64, bool) {
	const name = "grpc-status"
	value, err := proxywasm.GetHttpResponseTrailer(name)
	if err != nil {
		value, err = proxywasm.GetHttpResponseHeader(name)
	}
	if err != nil {
		return 0, false
	}
	status, err := strconv.ParseUint(value, 10, 8)
	return status, err == nil
}
