// Package e2e has only tests: what clients, the log and the metrics show of dist/sentinel.wasm in a real Envoy.
package e2e
