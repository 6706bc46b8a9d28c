// Command refuse is the cheapest plugin that the SDK can build for a limiter that refuses all: an HTTP filter that answers
// each request as Sentinel's default answer would, without finding out anything. It is built plainly, as the empty filter.
package main

import (
	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm"
	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm/types"
)

func main() {}

func init() { proxywasm.SetVMContext(&vm{}) }

type vm struct{ types.DefaultVMContext }

func (*vm) NewPluginContext(uint32) types.PluginContext { return &plugin{} }

type plugin struct{ types.DefaultPluginContext }

func (*plugin) NewHttpContext(uint32) types.HttpContext { return &stream{} }

type stream struct{ types.DefaultHttpContext }

var (
	headers = [][2]string{
		{"x-envoy-ratelimited", "true"}, {"retry-after", "599"}, {"content-type", "text/plain; charset=utf-8"},
	}
	body = []byte("blocked by flow rule f: 1 of 1 requests in 600 s; last second 0 passed, 12345 blocked\n")
)

// OnHttpRequestHeaders answers the request.
func (*stream) OnHttpRequestHeaders(int, bool) types.Action {
	if err := proxywasm.SendHttpResponse(429, headers, body, 8); err != nil {
		proxywasm.LogErrorf("local reply: %v", err)
	}
	return types.ActionPause
}
