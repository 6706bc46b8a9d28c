// Command plugins is the Wasm binary: one VM with a TCP and an HTTP filter, told apart by root_id.
package main

import (
	"sentinel-envoy/plugins/http"
	"sentinel-envoy/plugins/tcp"
	"sentinel-envoy/plugins/vm"
)

func init() {
	vm.Register(map[string]vm.HandlerKind{
		"sentinel_http": http.Kind,
		"sentinel_tcp":  tcp.Kind,
	})
}

func main() {}
