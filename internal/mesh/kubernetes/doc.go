// Package kubernetes holds tests of what docs/istio.md says, word for word, on a whole Istio: etcd, Kubernetes' API
// server, istiod and the proxies' agent, as programs of their own. No controller of Kubernetes runs: what they would do
// with pods, the tests do. It has no code of its own.
package kubernetes
