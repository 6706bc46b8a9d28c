//go:build faultinjection

package http

import (
	"math"

	"sentinel-envoy/plugins/envoyhost"
	"sentinel-envoy/shared/host"
)

// idleKey is the shared-data key that, once it exists, kills VMs that have had no request.
const idleKey = "sentinel-test/trap-idle"

// served is whether this VM has had a request.
var served bool

// testFault does what the request's header x-sentinel-fault says: "trap" kills the VM, "panic" panics, "trap-idle" kills
// every VM that has had no request, such as the main thread's, in its next tick. It is in test builds only.
func testFault() {
	served = true
	switch kind, _ := envoyhost.RequestHeader("x-sentinel-fault"); kind {
	case "trap":
		exhaust(0)
	case "panic":
		panic("injected")
	case "trap-idle":
		h := envoyhost.NewHost()
		if err := h.Set(idleKey, []byte{1}, 0); err != nil {
			h.Log(host.Error, idleKey+": "+err.Error())
		}
	}
}

// testFaultTick kills this VM where it shall.
func testFaultTick() {
	if served {
		return
	}
	if _, _, err := envoyhost.NewHost().Get(idleKey); err == nil {
		exhaust(0)
	}
}

// deepest is there for exhaust to have something to do when it returns: without, LLVM makes an endless loop of it.
var deepest int

// exhaust overflows the stack: Go cannot recover from it.
func exhaust(depth int) {
	if depth < math.MaxInt32 {
		exhaust(depth + 1)
	}
	deepest = max(deepest, depth)
}
