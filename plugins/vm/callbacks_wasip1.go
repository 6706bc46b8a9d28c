package vm

import "sentinel-envoy/plugins/envoyhost"

// These are Envoy's callbacks about streams, in place of the SDK's: the build gives them the names of those that they
// override. The SDK keeps four maps of contexts and goes through them in each of up to seven callbacks, which costs more
// than a decision. What is about plugins stays with the SDK.

//go:wasmexport override_proxy_on_context_create
func onContextCreate(context, root uint32) { current.OnContextCreate(context, root) }

//go:wasmexport override_proxy_on_queue_ready
func onQueueReady(context, _ uint32) { current.OnQueueReady(context) }

//go:wasmexport override_proxy_on_request_headers
func onRequestHeaders(context, _, last uint32) envoyhost.Action {
	return current.OnRequestHeaders(context, last != 0)
}

//go:wasmexport override_proxy_on_request_body
func onRequestBody(context, _, last uint32) envoyhost.Action {
	return current.OnRequestData(context, last != 0)
}

//go:wasmexport override_proxy_on_request_trailers
func onRequestTrailers(context, _ uint32) envoyhost.Action {
	return current.OnRequestData(context, true)
}

//go:wasmexport override_proxy_on_response_headers
func onResponseHeaders(context, _, _ uint32) envoyhost.Action {
	current.OnResponseHeaders(context)
	return envoyhost.Continue
}

//go:wasmexport override_proxy_on_response_trailers
func onResponseTrailers(context, _ uint32) envoyhost.Action {
	current.OnResponseTrailers(context)
	return envoyhost.Continue
}

//go:wasmexport override_proxy_on_new_connection
func onNewConnection(context uint32) envoyhost.Action { return current.OnNewConnection(context) }

//go:wasmexport override_proxy_on_downstream_data
func onDownstreamData(context, size, _ uint32) envoyhost.Action {
	return current.OnDownstreamData(context, int(size))
}

//go:wasmexport override_proxy_on_upstream_data
func onUpstreamData(context, size, last uint32) envoyhost.Action {
	return current.OnUpstreamData(context, int(size), last != 0)
}

// The SDK has none of these two.
//
//go:wasmexport proxy_on_grpc_receive
func onGrpcReceive(_, token, size uint32) { current.OnGrpcReceive(token, int(size)) }

//go:wasmexport proxy_on_grpc_close
func onGrpcClose(_, token, status uint32) { current.OnGrpcClose(token, status) }

//go:wasmexport override_proxy_on_log
func onLog(context uint32) { current.OnLog(context) }

//go:wasmexport override_proxy_on_done
func onDone(context uint32) bool { return current.OnDone(context) }
