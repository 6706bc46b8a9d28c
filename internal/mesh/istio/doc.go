// Package istio holds tests of what envoy/istio contains under Istio's own control plane, which runs in the test's process
// and has a stock Envoy for its proxy. It has no code of its own.
package istio
