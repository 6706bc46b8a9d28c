package vm

import (
	_ "unsafe" // for go:linkname

	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm/types"

	"sentinel-envoy/plugins/envoyhost"
)

// These are Envoy's callbacks about streams, in place of the SDK's: the build gives them the names of those that they
// override. The SDK keeps four maps of contexts and goes through them in each of up to seven callbacks, which costs more
// than a decision. What is about plugins stays with the SDK.

//go:linkname sdkContextCreate github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm/internal.proxyOnContextCreate
func sdkContextCreate(context, root uint32)

//go:linkname sdkDone github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm/internal.proxyOnDone
func sdkDone(context uint32) bool

//go:linkname sdkDelete github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm/internal.proxyOnDelete
func sdkDelete(context uint32)

//go:wasmexport override_proxy_on_context_create
func onContextCreate(context, root uint32) {
	if root == 0 {
		sdkContextCreate(context, root)
		return
	}
	current.create(context, root)
}

//go:wasmexport override_proxy_on_request_headers
func onRequestHeaders(context, _, _ uint32) types.Action {
	envoyhost.Begin()
	if s := current.streams.get(context); s != nil {
		return s.OnRequestHeaders()
	}
	return types.ActionContinue
}

//go:wasmexport override_proxy_on_new_connection
func onNewConnection(context uint32) types.Action {
	envoyhost.Begin()
	if s := current.streams.get(context); s != nil {
		return s.OnNewConnection()
	}
	return types.ActionContinue
}

//go:wasmexport override_proxy_on_downstream_data
func onDownstreamData(context, size, _ uint32) types.Action {
	envoyhost.Begin()
	if s := current.streams.get(context); s != nil {
		return s.OnDownstreamData(int(size))
	}
	return types.ActionContinue
}

//go:wasmexport override_proxy_on_upstream_data
func onUpstreamData(context, size, _ uint32) types.Action {
	envoyhost.Begin()
	if s := current.streams.get(context); s != nil {
		return s.OnUpstreamData(int(size))
	}
	return types.ActionContinue
}

//go:wasmexport override_proxy_on_log
func onLog(context uint32) {
	envoyhost.Begin()
	current.end(context)
}

// The host calls proxy_on_done before proxy_on_log for a connection, and after it for a request.
//
//go:wasmexport override_proxy_on_done
func onDone(context uint32) bool {
	envoyhost.Begin()
	if current.end(context) {
		return true
	}
	if !current.isPlugin(context) {
		return true
	}
	done := sdkDone(context)
	if done {
		// Envoy deletes the context next. To be told of that would cost another callback for each stream.
		current.forget(context)
		sdkDelete(context)
	}
	return done
}
