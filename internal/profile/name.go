package main

import (
	"regexp"
	"strings"
)

// kind is what a sample's time went to.
type kind string

// Within callbacks.
const (
	ours         kind = "our code"
	sentinelGo   kind = "sentinel-golang"
	sdk          kind = "SDK"
	allocation   kind = "allocation, GC"
	mapAccess    kind = "maps"
	otherGo      kind = "other Go"
	machinery    kind = "V8, kernel"
	hostCall     kind = "host calls"
	outsideEnvoy kind = "Envoy"
	outsideLibc  kind = "libc"
	outsideOS    kind = "kernel"
)

// guestKinds are the kinds that are the plugin's, in the order in which they are shown.
var guestKinds = []kind{ours, sentinelGo, sdk, allocation, mapAccess, otherGo, machinery}

// outsideKinds are the kinds outside of callbacks.
var outsideKinds = []kind{outsideEnvoy, outsideLibc, outsideOS}

// kinds tell the kind of a plugin's function by V8's name for it; the first match wins. Go's linker writes an underscore for
// what is neither a letter nor a digit nor a dot: `runtime.(*mcache).refill` is runtime.__mcache_.refill.
var kinds = []struct {
	kind
	pattern *regexp.Regexp
}{
	{ours, regexp.MustCompile(`^sentinel_envoy_`)},
	{sentinelGo, regexp.MustCompile(`^github\.com_alibaba_sentinel_golang_`)},
	{sdk, regexp.MustCompile(`^github\.com_proxy_wasm_proxy_wasm_go_sdk_`)},
	{mapAccess, regexp.MustCompile(`^internal_runtime_maps\.|^runtime\.(map[a-zA-Z]|\w*hash|aeshash)|^type_[.:].*(hash|eq)`)},
	{allocation, regexp.MustCompile(`^runtime\.(_*(mcache|mcentral|mheap|mspan|fixalloc|pageAlloc|gcWork|gcBits|wbBuf|sweepLocke[dr]|spanSet)_` +
		`|malloc|new(object|array)|make(slice|chan|map)|growslice|rawstring|rawbyteslice|\w*([sS]weep|[sS]can|[gG]rey|[mM]ark|[hH]eap|nextFree)` +
		`|gc[A-Z]|bgsc|bulkBarrier|typedmem|typedslice|memclr|profilealloc|deductAssist|wb[A-Z])`)},
}

// v8Name matches what V8 puts around the name of a Wasm function: its number and the compiler.
var v8Name = regexp.MustCompile(`^JS:(.*)-\d+-\w+$`)

// bare takes from a symbol what V8 put around it.
func bare(symbol string) string { return v8Name.ReplaceAllString(symbol, "$1") }

// guestKind is the kind of a function of the plugin.
func guestKind(symbol string) kind {
	name := bare(symbol)
	for _, k := range kinds {
		if k.pattern.MatchString(name) {
			return k.kind
		}
	}
	return otherGo
}

// outsideKind is the kind of a frame outside of callbacks.
func outsideKind(f frame) kind {
	switch {
	case f.kernel():
		return outsideOS
	case f.file == "[vdso]", strings.Contains(f.file, "/libc.so"), strings.Contains(f.file, "/libm.so"), strings.Contains(f.file, "/ld-linux"):
		return outsideLibc
	}
	return outsideEnvoy
}

var (
	// domain matches the beginning of an import path that has a domain, the dots of which are no ends of packages.
	domain = regexp.MustCompile(`^(?:[a-z0-9]+\.)+(?:com|org|net|in|io|dev)_`)
	// pointer matches a method's pointer receiver.
	pointer = regexp.MustCompile(`^__(\w+?)_\.`)
)

// readable makes Go's name out of V8's: engine.(*Entry).proceed of
// JS:sentinel_envoy_shared_engine.__Entry_.proceed-2793-turbofan. Of the import path it keeps the last element.
func readable(symbol string) string {
	switch {
	case symbol == "", symbol == "[unknown]":
		return "V8, unnamed"
	case !strings.HasPrefix(symbol, "JS:"):
		return "V8, " + strings.TrimPrefix(symbol, "Stub:")
	}
	path, name, found := strings.Cut(domain.ReplaceAllString(bare(symbol), ""), ".")
	if !found {
		return path // an export
	}
	return path[strings.LastIndexByte(path, '_')+1:] + "." + pointer.ReplaceAllString(name, "(*$1).")
}
