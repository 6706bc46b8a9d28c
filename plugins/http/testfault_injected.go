//go:build faultinjection

package http

import "github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm"

// testFault does what the request's header x-sentinel-fault says: "trap" kills the VM, "panic" panics. It is in test
// builds only.
func testFault() {
	kind, err := proxywasm.GetHttpRequestHeader("x-sentinel-fault")
	if err != nil {
		return
	}
	switch kind {
	case "trap":
		exhaust(0)
	case "panic":
		panic("injected")
	}
}

// exhaust overflows the stack: Go cannot recover from it.
func exhaust(depth int) int { return exhaust(depth+1) + depth }
