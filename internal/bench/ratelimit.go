package main

import "fmt"

const (
	// rateLimitDomain is of what the service limits.
	rateLimitDomain  = "bench"
	rateLimitCluster = "ratelimit"
)

// rateLimitRules is the service's configuration.
func rateLimitRules() string {
	text := fmt.Sprintf("domain: %s\ndescriptors:\n", rateLimitDomain)
	for _, limit := range []struct {
		key, value string
		perSecond  int
	}{
		{"generic_key", "unreached", unreached}, {"generic_key", "control", controlThreshold},
		{"rule", "unreached", unreached}, {"rule", controlOf(sentinel), controlThreshold}, {"rule", controlOf(sentinelTiny), controlThreshold},
	} {
		text += fmt.Sprintf("- {key: %s, value: %q, rate_limit: {unit: second, requests_per_unit: %d}}\n", limit.key, limit.value, limit.perSecond)
	}
	return text
}

// controlOf is the id of the rule by which a build of ours shows that it limits: each has what it admits for itself.
func controlOf(module string) string { return "control of " + module }

// rateLimitFilter asks the service about a descriptor, and refuses what it cannot answer.
func rateLimitFilter(descriptor string) map[string]any {
	action := map[string]any{"generic_key": map[string]any{"descriptor_value": descriptor}}
	return map[string]any{
		"name": "envoy.filters.http.ratelimit",
		"typed_config": map[string]any{
			"@type":             "type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimit",
			"domain":            rateLimitDomain,
			"failure_mode_deny": true,
			"timeout":           "5s",
			"rate_limits":       []any{map[string]any{"actions": []any{action}}},
			"rate_limit_service": map[string]any{
				"transport_api_version": "V3",
				"grpc_service":          map[string]any{"envoy_grpc": map[string]any{"cluster_name": rateLimitCluster}},
			},
		},
	}
}
