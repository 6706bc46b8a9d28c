package vm

import "sentinel-envoy/shared/host"

// recoverPanic, deferred, ends a panic, which would trap the VM if it left a callback, and hands it to handle.
func recoverPanic(handle func(err error)) {
	recovered(recover(), handle)
}

// recovered hands over a panic, by what recover returns. Callbacks of a request defer it themselves, and ask for no panic
// where there was none: that would cost as much as they do.
func recovered(r any, handle func(err error)) {
	if r != nil {
		defer func() { _ = recover() }() // the first was handed over; to trap the VM for one more helps nobody
		handle(host.Panicked(r))
	}
}
