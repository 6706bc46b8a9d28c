// Command plugins is the Wasm binary: one VM with a TCP and an HTTP filter, told apart by root_id.
package main

import (
	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm"

	"sentinel-envoy/plugins/http"
	"sentinel-envoy/plugins/tcp"
	"sentinel-envoy/plugins/vm"
)

func init() {
	proxywasm.SetVMContext(vm.New(map[string]vm.NewFilter{
		"sentinel_http": http.New,
		"sentinel_tcp":  tcp.New,
	}))
}

func main() {}
