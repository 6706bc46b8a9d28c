// Package envoygateway holds tests of what envoy/gateway contains under Envoy Gateway, which runs as a program of its own
// and starts its own Envoy. It has no code of its own.
package envoygateway
