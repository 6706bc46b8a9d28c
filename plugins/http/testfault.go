//go:build !faultinjection

package http

// Only a build for tests has faults to inject.

func testFault() {}

func testFaultTick() {}
