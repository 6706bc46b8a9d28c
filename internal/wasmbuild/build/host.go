package build

import (
	"fmt"
	"slices"
	"strings"

	"sentinel-envoy/internal/wasmbuild/module"
)

// OldestEnvoy is the oldest Envoy release whose host functions a plugin may rely on. V8 refuses a module with any import
// that the host lacks, so the lists below are this release's; newer ones only add to them.
const OldestEnvoy = "1.36.4"

const (
	wasiModule  = "wasi_snapshot_preview1"
	proxyModule = "env"
)

// wasiFunctions are the WASI functions that OldestEnvoy registers (proxy-wasm-cpp-host c4d7bb0,
// include/proxy-wasm/exports.h, FOR_ALL_WASI_FUNCTIONS), without poll_oneoff: see replacement.
var wasiFunctions = strings.Fields(`
	args_get args_sizes_get clock_time_get environ_get environ_sizes_get fd_close fd_fdstat_get fd_fdstat_set_flags
	fd_prestat_dir_name fd_prestat_get fd_read fd_seek fd_write path_open proc_exit random_get sched_yield`)

// proxyFunctions are the host functions of Proxy-Wasm ABI 0.2.0 that OldestEnvoy registers (the same file,
// FOR_ALL_HOST_FUNCTIONS and, of the ABI-specific ones, those src/wasm.cc registers for 0.2.0), less their prefix "proxy_".
var proxyFunctions = strings.Fields(`
	add_header_map_value call_foreign_function close_stream continue_stream define_metric dequeue_shared_queue done
	enqueue_shared_queue get_buffer_bytes get_buffer_status get_current_time_nanoseconds get_header_map_pairs
	get_header_map_size get_header_map_value get_metric get_property get_shared_data get_status grpc_call grpc_cancel
	grpc_close grpc_send grpc_stream http_call increment_metric log record_metric register_shared_queue
	remove_header_map_value replace_header_map_value resolve_shared_queue send_local_response set_buffer_bytes
	set_effective_context set_header_map_pairs set_property set_shared_data set_tick_period_milliseconds`)

// newerFunction is what the host registers besides for a module that speaks newerABI, and for no other.
const newerFunction = "get_log_level"

// DefaultCallbacks are the host's calls that the plugin answers. The host calls an export only where a module has it
// (src/context.cc looks before every call, and goes on as if the filter had said "continue"), and each call costs, so
// the SDK's other exports are dropped: the bodies of responses, closes.
var DefaultCallbacks = []string{
	"proxy_on_vm_start", "proxy_on_configure", "proxy_on_tick", "proxy_on_queue_ready",
	"proxy_on_context_create", "proxy_on_done", "proxy_on_log",
	"proxy_on_request_headers", "proxy_on_request_body", "proxy_on_request_trailers",
	"proxy_on_response_headers", "proxy_on_response_trailers", "proxy_on_http_call_response",
	"proxy_on_new_connection", "proxy_on_downstream_data", "proxy_on_upstream_data",
	"proxy_on_grpc_receive", "proxy_on_grpc_close",
}

const (
	callbackPrefix = "proxy_on_"
	// overridePrefix marks exports of a plugin that take the place of the SDK's with the rest of their name: Go refuses
	// two exports of one name.
	overridePrefix = "override_"
	abiPrefix      = "proxy_abi_version_"
	allocate       = "proxy_on_memory_allocate" // not a callback: without it, or malloc, the host refuses the module
)

// provides reports whether OldestEnvoy has the function that a module imports, which speaks newerABI or the SDK's.
func provides(i module.Import, newer bool) bool {
	if i.Kind != module.Func {
		return false
	}
	switch i.Module {
	case wasiModule:
		return slices.Contains(wasiFunctions, i.Name)
	case proxyModule:
		name, found := strings.CutPrefix(i.Name, "proxy_")
		return found && (slices.Contains(proxyFunctions, name) || newer && name == newerFunction)
	}
	return false
}

// checkImports returns an error that names every import which OldestEnvoy lacks; hostPoll admits poll_oneoff.
func checkImports(m *module.Module, hostPoll bool) error {
	imports, err := m.Imports()
	if err != nil {
		return err
	}
	newer, err := speaksNewerABI(m)
	if err != nil {
		return err
	}
	var missing []string
	for _, i := range imports {
		if !provides(i, newer) && !(hostPoll && i.Name == pollOneoff) {
			missing = append(missing, i.Module+"."+i.Name)
		}
	}
	if missing != nil {
		return fmt.Errorf("imports that Envoy %s lacks, so it would refuse the module: %s", OldestEnvoy, strings.Join(missing, ", "))
	}
	return nil
}

// checkExports returns an error where a module lacks what every host needs of a plugin built as a library.
func checkExports(m *module.Module) error {
	exports, err := m.Exports()
	if err != nil {
		return err
	}
	has := func(kind module.Kind, match func(string) bool) bool {
		return slices.ContainsFunc(exports, func(e module.Export) bool { return e.Kind == kind && match(e.Name) })
	}
	is := func(names ...string) func(string) bool {
		return func(s string) bool { return slices.Contains(names, s) }
	}
	switch {
	case !has(module.Memory, is("memory")):
		return fmt.Errorf("module exports no memory")
	case !has(module.Func, is("_initialize")):
		return fmt.Errorf("module exports no _initialize: is it a package main?")
	case !has(module.Func, is("malloc", allocate)):
		return fmt.Errorf("module exports no %s: does it import the Proxy-Wasm SDK?", allocate)
	case !has(module.Func, func(s string) bool { return strings.HasPrefix(s, abiPrefix) }):
		return fmt.Errorf("module exports no %s*: does it import the Proxy-Wasm SDK?", abiPrefix)
	}
	return nil
}

// The SDK says that a module speaks ABI 0.2.0. One that also says 0.2.1, which has proxy_get_log_level besides, must say
// only that: the host goes by what it finds first.
const (
	sdkABI   = abiPrefix + "0_2_0"
	newerABI = abiPrefix + "0_2_1"
)

func speaksNewerABI(m *module.Module) (bool, error) {
	exports, err := m.Exports()
	return slices.ContainsFunc(exports, func(e module.Export) bool { return e.Name == newerABI }), err
}

// keepCallback tells for an export whether it stays where only the given callbacks are wanted.
func keepCallback(callbacks []string) func(module.Export) bool {
	return func(e module.Export) bool {
		return !strings.HasPrefix(e.Name, callbackPrefix) || e.Name == allocate || slices.Contains(callbacks, e.Name)
	}
}
