package envoyhost

import "sentinel-envoy/shared/host"

//go:wasmimport wasi_snapshot_preview1 clock_time_get
//go:noescape
func clockTimeGet(id uint32, precision uint64, time *int64) uint32

//go:wasmimport env proxy_get_log_level
//go:noescape
func proxyGetLogLevel(level *uint32) uint32

// The SDK says that the module speaks ABI 0.2.0; proxy_get_log_level came with 0.2.1, and is all that this adds.
//
//go:wasmexport proxy_abi_version_0_2_1
func proxyABIVersion() {}

// monotonic is one call to the host; time.Now would be two.
func monotonic() int64 {
	const clockMonotonic = 1
	var t int64
	clockTimeGet(clockMonotonic, 0, &t)
	return t
}

// logLevel is the level of Envoy's wasm logger. An error of the host counts as Info.
func logLevel() host.Level {
	var level uint32
	if proxyGetLogLevel(&level) != 0 {
		return host.Info
	}
	return host.Level(min(level, 5))
}
