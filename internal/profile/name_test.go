package main

import "testing"

func TestReadable(t *testing.T) {
	for symbol, want := range map[string]string{
		"JS:sentinel_envoy_shared_engine.__Entry_.proceed-2793-turbofan":                                 "engine.(*Entry).proceed",
		"JS:sentinel_envoy_plugins_http.__stream_.OnEnd.func1-3187-turbofan":                             "http.(*stream).OnEnd.func1",
		"JS:sentinel_envoy_shared_resource.Param.Read-2718-turbofan":                                     "resource.Param.Read",
		"JS:sentinel_envoy_plugins_envoyhost.clockTimeGet-3065-liftoff":                                  "envoyhost.clockTimeGet",
		"JS:github.com_proxy_wasm_proxy_wasm_go_sdk_proxywasm.MetricHistogram.Record-1924-turbofan":      "proxywasm.MetricHistogram.Record",
		"JS:github.com_alibaba_sentinel_golang_core_stat_base.__LeapArray_.ValuesConditional-2-turbofan": "base.(*LeapArray).ValuesConditional",
		"JS:runtime.mapaccess1_fast32-141-turbofan":                                                      "runtime.mapaccess1_fast32",
		"JS:internal_runtime_maps.__Map_.getWithKeySmall-113-turbofan":                                   "maps.(*Map).getWithKeySmall",
		"JS:sync_atomic.__Value_.Load-1433-turbofan":                                                     "atomic.(*Value).Load",
		"JS:override_proxy_on_log-3155-turbofan":                                                         "override_proxy_on_log",
		"Stub:c-wasm-entry:i:":                                                                           "V8, c-wasm-entry:i:",
		"[unknown]":                                                                                      "V8, unnamed",
	} {
		if got := readable(symbol); got != want {
			t.Errorf("%s: %q, want %q", symbol, got, want)
		}
	}
}

func TestGuestKind(t *testing.T) {
	for want, symbols := range map[kind][]string{
		ours:       {"sentinel_envoy_shared_engine.__Entry_.admit", "sentinel_envoy_shared_stat.mapped"},
		sentinelGo: {"github.com_alibaba_sentinel_golang_util.CurrentTimeMillis"},
		sdk:        {"github.com_proxy_wasm_proxy_wasm_go_sdk_proxywasm.EnqueueSharedQueue"},
		allocation: {"runtime.mallocgcSmallNoscan", "runtime.newobject", "runtime.__mcache_.refill", "runtime.growslice",
			"runtime.gcDrain", "runtime.scanobject", "runtime.__mspan_.writeHeapBitsSmall", "runtime.deductSweepCredit",
			"runtime.heapSetTypeNoHeader", "runtime.bulkBarrierPreWrite", "runtime.memclrNoHeapPointers"},
		mapAccess: {"runtime.mapaccess2_faststr", "runtime.mapIterNext", "internal_runtime_maps.__Iter_.Init",
			"runtime.memhash16", "runtime.strhashFallback"},
		otherGo: {"errors.Is", "runtime.gorecover", "runtime.memmove", "runtime.concatstrings", "override_proxy_on_log", "runtime.wasmDiv"},
	} {
		for _, s := range symbols {
			if got := guestKind("JS:" + s + "-12-turbofan"); got != want {
				t.Errorf("%s: %s, want %s", s, got, want)
			}
		}
	}
}
