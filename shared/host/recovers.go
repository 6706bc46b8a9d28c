//go:build !tinygo

package host

// Recovers is whether a panic can be recovered from. TinyGo's compiler has no recover in Wasm, where a panic traps the VM:
// there, what a deferred function captures would be put on the heap for nothing, in each callback of each request.
const Recovers = true
