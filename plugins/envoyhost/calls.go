package envoyhost

import "sentinel-envoy/shared/engine"

// Now is the monotonic time in nanoseconds. It is a call to Envoy: take one a callback.
func Now() int64 { return monotonic() }

// VMConfiguration is the configuration of the VM, an error where there is none. It can be read in VM.OnStart.
func VMConfiguration() ([]byte, error) { return vmConfiguration() }

// PluginConfiguration is the configuration of the plugin, an error where there is none. It can be read in Plugin.OnStart.
func PluginConfiguration() ([]byte, error) { return pluginConfiguration() }

// RootID says which of the binary's filters the plugin is.
func RootID() (string, error) {
	value, st := property([]byte("plugin_root_id"))
	return string(value), st.err()
}

// PluginName is the name that the plugin has in Envoy's configuration, "" where it has none.
func PluginName() string {
	value, _ := property([]byte("plugin_name"))
	return string(value)
}

// LogCritical writes to Envoy's log what keeps a plugin from starting.
func LogCritical(message string) { logCritical(message) }

// SetTickPeriod sets how often the plugin of the effective context has its tick, in milliseconds, 0 for never. Each call
// begins the period anew.
func SetTickPeriod(ms uint32) error { return setTickPeriod(ms) }

// SetEffectiveContext makes the calls that follow be about a stream, or about a plugin.
func SetEffectiveContext(context uint32) error { return setEffectiveContext(context) }

// CreatePlugin lets the SDK make the plugin of a new context.
func CreatePlugin(context uint32) { createPlugin(context) }

// EndPlugin lets the SDK end the plugin of a context, and forget it.
func EndPlugin(context uint32) { endPlugin(context) }

// SendResponse answers the request in the effective context, which must be paused then, because of a refusal: Envoy's
// response.code_details name it. For a gRPC request Envoy makes a response of gRPC with grpcStatus of it.
func SendResponse(b *engine.Block, status uint32, headers *HeaderMap, body []byte, grpcStatus int32) error {
	named.are(b)
	return sendResponse(status, named.details, headers.encode(), body, grpcStatus)
}

// SetRequestHeader makes a header of the request in the effective context have one line, RemoveRequestHeader none. It must
// still be on its way to the upstream. SetResponseHeader is the same for the response, on its way to the client.
func SetRequestHeader(name string, value []byte) error { return setHeader(requestHeaders, name, value) }

// RemoveRequestHeader is described with SetRequestHeader.
func RemoveRequestHeader(name string) error { return removeHeader(requestHeaders, name) }

// SetResponseHeader is described with SetRequestHeader.
func SetResponseHeader(name string, value []byte) error {
	return setHeader(responseHeaders, name, value)
}

// ResumeRequest lets the paused request in the effective context go on.
func ResumeRequest() error { return resumeRequest() }

// ResumeConnection lets the paused connection in the effective context go on, with what its client has sent meanwhile.
func ResumeConnection() error { return resumeConnection() }

// CloseDownstream closes the client's connection in the effective context, after what is on its way to the client.
func CloseDownstream() error { return closeDownstream() }

// ReplaceUpstreamData replaces what the upstream has sent and OnUpstreamData is about.
func ReplaceUpstreamData(data []byte) error { return replaceUpstreamData(data) }

// CallHTTP sends a request to a cluster, with a body where that is not "". Once it is answered, or timeoutMs milliseconds have passed,
// answered is called with the number of the answer's headers, 0 where there is no answer, and the size of its body in bytes.
func CallHTTP(
	cluster string, headers [][2]string, body string, timeoutMs uint32, answered func(headers, size int),
) error {
	return callHTTP(cluster, headers, body, timeoutMs, answered)
}

// CallHeaders are the headers of the answer that answered was called with.
func CallHeaders() ([][2]string, error) { return callHeaders() }

// CallBody is the answer's body, its first size bytes.
func CallBody(size int) ([]byte, error) { return callBody(size) }
