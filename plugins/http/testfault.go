//go:build !faultinjection

package http

// testFault does nothing: only a build for tests has faults to inject.
func testFault() {}
