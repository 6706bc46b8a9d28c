// Package istiocheck holds the tests of the resources in envoy/istio; it has no code of its own.
//
// They parse as Istio's own API types, strictly. Applied to listeners like those that istiod writes, they give bootstraps
// that a real Envoy accepts, and filters that agree with envoy/envoy.yaml.
package istiocheck
