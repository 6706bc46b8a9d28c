package main

import "fmt"

const (
	// rateLimitDomain, with the descriptors generic_key=unreached and generic_key=control, is what the service limits.
	rateLimitDomain  = "bench"
	rateLimitCluster = "ratelimit"
)

// rateLimitRules is the service's configuration.
func rateLimitRules() string {
	return fmt.Sprintf(`domain: %s
descriptors:
- {key: generic_key, value: unreached, rate_limit: {unit: second, requests_per_unit: %d}}
- {key: generic_key, value: control, rate_limit: {unit: second, requests_per_unit: %d}}
- {key: rule, value: unreached, rate_limit: {unit: second, requests_per_unit: %d}}
- {key: rule, value: control, rate_limit: {unit: second, requests_per_unit: %d}}
`, rateLimitDomain, unreached, controlThreshold, unreached, controlThreshold)
}

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
