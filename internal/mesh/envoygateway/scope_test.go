package envoygateway

import (
	"strings"
	"testing"

	"sentinel-envoy/internal/load"
	"sentinel-envoy/internal/mesh/meshtest"
	"sentinel-envoy/internal/plugintest"
)

const otherHost = "other.example.com"

// toOther is a load for the second HTTPRoute.
func toOther(qps float64, requests uint64) load.Options {
	return load.Options{QPS: qps, Connections: 4, Requests: requests, Header: map[string][]string{"Host": {otherHost}}}
}

// A policy of one HTTPRoute leaves another alone (Kuadrant/kuadrant-operator#2023).
func TestPolicyOfARouteSparesOthers(t *testing.T) {
	g := start(t, byHTTP(t, meshtest.ServeWasm(t)))
	g.apply(t, "other.yaml", meshtest.Data(t, "other.yaml"))
	g.hasVMs(t, 1)
	meshtest.Measure(t, g.proxy, requests, "some-test-qps", threshold).IsOne(t, threshold)
	g.Wait("the other route is there", func() bool {
		return plugintest.Offer(t, requests.HTTP, toOther(400, 200)).Wait(t).Passed == 200
	})
	if sum := plugintest.Offer(t, requests.HTTP, toOther(400, 400)).Wait(t); sum.Passed != 400 {
		t.Errorf("%d of 400 passed on a route without a policy: %v", sum.Passed, sum.Status)
	}
}

// One policy of the Gateway is one budget for all its routes, as the page advises.
func TestPolicyOfAGatewayIsOneBudget(t *testing.T) {
	g := start(t, strings.Replace(byHTTP(t, meshtest.ServeWasm(t)), "kind: HTTPRoute", "kind: Gateway", 1))
	g.apply(t, "other.yaml", meshtest.Data(t, "other.yaml"))
	g.hasVMs(t, 1)
	g.Wait("the other route is limited", func() bool {
		sum := plugintest.Offer(t, requests.HTTP, toOther(400, 200)).Wait(t)
		return sum.Passed > 0 && sum.Blocked > 0
	})
	other := plugintest.Offer(t, requests.HTTP, toOther(150, 0))
	b := meshtest.Measure(t, g.proxy, requests, "some-test-qps", threshold)
	sum := other.Stop(t)
	b.IsOne(t, threshold)
	if sum.Passed == 0 {
		t.Errorf("nothing passed on the other route: %v %v", sum.Status, sum.Errors)
	}
	meshtest.Row(plane, "EnvoyExtensionPolicy of the Gateway", "gateway, one of two routes", b, threshold)
}
