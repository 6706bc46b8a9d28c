package vm

import "sentinel-envoy/shared/host"

// recoverPanic, deferred, ends a panic, which would trap the VM if it left a callback, and hands it to handle.
func recoverPanic(handle func(err error)) {
	if r := recover(); r != nil {
		defer func() { _ = recover() }() // the first was handed over; to trap the VM for one more helps nobody
		handle(host.Panicked(r))
	}
}
