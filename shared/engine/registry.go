package engine

import (
	"sentinel-envoy/shared/family"
	"sentinel-envoy/shared/family/authority"
	"sentinel-envoy/shared/family/breaker"
	"sentinel-envoy/shared/family/flow"
	"sentinel-envoy/shared/family/hotspot"
	"sentinel-envoy/shared/family/isolation"
	"sentinel-envoy/shared/family/system"
	"sentinel-envoy/shared/rule"
)

// registry are the families that there are.
var registry = []struct {
	family *rule.Family
	new    func(*family.Env) family.Kind
}{
	{rule.AuthorityFamily, authority.New},
	{rule.SystemFamily, system.New},
	{rule.FlowFamily, flow.New},
	{rule.IsolationFamily, isolation.New},
	{rule.HotspotFamily, hotspot.New},
	{rule.BreakerFamily, breaker.New},
}
