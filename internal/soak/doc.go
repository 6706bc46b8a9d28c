// Package soak holds the tests of `make soak`: what the compiled filters do in a real Envoy over millions of requests,
// against clients that mean harm, and through faults. They are no part of `go test ./...`: they take minutes.
package soak
