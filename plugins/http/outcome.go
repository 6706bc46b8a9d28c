package http

import (
	"strconv"

	"sentinel-envoy/plugins/envoyhost"
	"sentinel-envoy/shared/outcome"
)

// failed is whether the stream that is ending failed, by what the configuration counts as failures. A client that leaves
// is no failure. Each thing it must know is a call to the host that costs as much as all else we do for a request, so
// what does not count is not asked for.
func failed(failures *outcome.Failures) bool {
	var code int64
	if failures.Resets || !failures.Status.Empty() {
		code = httpStatus()
	}
	if failures.Status.Has(code) {
		return true
	}
	if failures.Resets {
		flags := envoyhost.ResponseFlags()
		if flags.BrokeOff() || flags.Unreached() || code == 0 && !flags.ClientLeft() {
			return true
		}
	}
	if failures.GRPC == 0 {
		return false
	}
	status, ok := grpcStatus()
	return ok && failures.HasGRPC(status)
}

// httpStatus is the response's, 0 if there was none. Envoy's property response.code has it too, for twice the time.
func httpStatus() int64 {
	text, _ := envoyhost.ResponseHeader(":status")
	code, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return 0
	}
	return int64(code)
}

// grpcStatus is the response's gRPC status, in its trailers or, where it has nothing else, its headers. Envoy's property
// response.grpc_status is of no use: for a plain HTTP response it makes a gRPC status of the HTTP status.
func grpcStatus() (uint64, bool) {
	const name = "grpc-status"
	value, there := envoyhost.ResponseTrailer(name)
	if !there {
		value, there = envoyhost.ResponseHeader(name)
	}
	if !there {
		return 0, false
	}
	status, err := strconv.ParseUint(value, 10, 8)
	return status, err == nil
}
