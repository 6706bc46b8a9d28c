package rules_test

import (
	"errors"
	"strings"
	"testing"

	"sentinel-envoy/internal/ratelimit/rules"
	"sentinel-envoy/shared/config"
)

const plugin = `
resource_name: orders
rate_limit_service: {cluster: rls, domain: shop}
flowRules:
- {id: here, resource: orders, threshold: 5}
- {id: all, resource: orders, threshold: 1000, clusterMode: true, clusterConfig: {thresholdType: GLOBAL, clusterSize: 3}}
- {id: each, resource: orders, threshold: 20.5, statIntervalInMs: 60000, clusterMode: true, clusterConfig: {clusterSize: 3}}
- {id: other, resource: orders, threshold: 7, clusterMode: true, clusterConfig: {flowId: 17, windowIntervalMs: 3600000}}
`

func TestFromPlugin(t *testing.T) {
	got, err := rules.FromPlugin([]byte(plugin))
	want := `descriptors:
- key: rule
  rate_limit:
    requests_per_unit: 1000
    unit: second
  value: all
- key: rule
  rate_limit:
    requests_per_unit: 61
    unit: minute
  value: each
- key: rule
  rate_limit:
    requests_per_unit: 7
    unit: hour
  value: "17"
domain: shop
`
	if err != nil || got != want {
		t.Errorf("%v\n%s", err, got)
	}
	got, err = rules.FromPlugin([]byte(plugin + "mode: shadow\n"))
	if err != nil || strings.Count(got, "  - key: mode\n") != 3 || strings.Count(got, "value: shadow") != 3 {
		t.Errorf("%v\n%s", err, got)
	}
}

// A limit for each value, and those that have their own.
func TestFromPluginOfValues(t *testing.T) {
	const perUser = `
resource_name: orders
rate_limit_service: {cluster: rls}
hotspotRules:
- {id: user, resource: orders, paramSource: Header, paramKey: x-user, metricType: QPS, threshold: 10, durationInSec: 60,
   clusterMode: true, clusterConfig: {clusterSize: 3}, specificItems: [{valStr: alice, valKind: 1, threshold: 100}]}
`
	got, err := rules.FromPlugin([]byte(perUser))
	want := `descriptors:
- descriptors:
  - key: value
    rate_limit:
      requests_per_unit: 300
      unit: minute
    value: alice
  - key: value
    rate_limit:
      requests_per_unit: 30
      unit: minute
  key: rule
  value: user
domain: sentinel
`
	if err != nil || got != want {
		t.Errorf("%v\n%s", err, got)
	}
	if got, err = rules.FromPlugin([]byte(perUser + "mode: shadow\n")); err != nil || !strings.Contains(got, "  - descriptors:\n    - key: value\n") {
		t.Errorf("%v\n%s", err, got)
	}
	if _, err = rules.FromPlugin([]byte(strings.Replace(perUser, "alice", "'a*'", 1))); err == nil || !strings.Contains(err.Error(), "begin like it") {
		t.Error(err)
	}
}

func TestFromPluginTellsMistakes(t *testing.T) {
	for _, c := range []struct{ change, mistake string }{
		{"rate_limit_service: {cluster: rls, domain: shop}\n", "needs a rate_limit_service"},
		{"clusterSize: 3", "must be a number"},
	} {
		_, err := rules.FromPlugin([]byte(strings.ReplaceAll(plugin, c.change, map[bool]string{true: "", false: "clusterSize: x"}[strings.HasSuffix(c.change, "\n")])))
		var mistakes config.Errors
		if !errors.As(err, &mistakes) || !strings.Contains(err.Error(), c.mistake) {
			t.Errorf("%v, want %s", err, c.mistake)
		}
	}
	if _, err := rules.FromPlugin([]byte("{}")); !errors.Is(err, rules.ErrNone) {
		t.Error(err)
	}
	if _, err := rules.FromPlugin([]byte(strings.Replace(plugin, "threshold: 1000,", "threshold: 1e12,", 1))); err == nil {
		t.Error("more than the service can count")
	}
}
