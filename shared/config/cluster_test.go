package config

import (
	"slices"
	"testing"

	"sentinel-envoy/shared/rule"
)

// ofCluster is a document with one rule, to which more is added, and what else there is.
func ofCluster(more, rest string) string {
	return `{"resource_name": "r", "flowRules": [{"id": "a", "resource": "r", "threshold": 10` + more + `}]` + rest + `}`
}

const theService = `, "rate_limit_service": {"cluster": "rls"}`

func TestClusterMode(t *testing.T) {
	service := rule.RateLimitService{Cluster: "rls", Domain: "sentinel", TimeoutMs: 50}
	for _, c := range []struct {
		more string
		want *rule.Cluster
	}{
		{`, "clusterMode": true`, &rule.Cluster{Service: service, On: true, FallbackToLocalWhenFail: true, ClusterSize: 1, WindowIntervalMs: 1000}},
		{`, "statIntervalInMs": 60000, "clusterMode": true, "clusterConfig": {"thresholdType": "GLOBAL", "clusterSize": 3, "flowId": 7,
			"fallbackToLocalWhenFail": false, "sampleCount": 10, "strategy": 0, "clientOfflineTime": 2000}`,
			&rule.Cluster{Service: service, On: true, FlowID: 7, ThresholdType: rule.Global, ClusterSize: 3, WindowIntervalMs: 60000}},
		{`, "clusterConfig": {"windowIntervalMs": 3600000}, "clusterMode": true`,
			&rule.Cluster{Service: service, On: true, FallbackToLocalWhenFail: true, ClusterSize: 1, WindowIntervalMs: 3600000}},
		{`, "clusterConfig": {"windowIntervalMs": 7}, "clusterMode": false`, nil},
	} {
		cfg, err := Parse([]byte(ofCluster(c.more, theService)), KindHTTP)
		if err != nil {
			t.Errorf("%s: %v", c.more, err)
			continue
		}
		got := cfg.Rules[0].(*rule.Flow).Cluster
		if (got == nil) != (c.want == nil) || got != nil && *got != *c.want {
			t.Errorf("%s: %+v, want %+v", c.more, got, c.want)
		}
	}
}

func TestClusterModeMistakes(t *testing.T) {
	const needs = "flowRules[0].clusterMode: "
	for _, c := range []struct{ more, rest, want string }{
		{`, "clusterMode": true`, ``, needs + "needs a rate_limit_service in the same configuration"},
		{`, "clusterMode": true, "statIntervalInMs": 500`, theService,
			needs + "needs an interval of 1000, 60000 or 3600000 ms: the rate limit service counts by seconds, minutes and hours"},
		{`, "clusterMode": true, "regex": true`, theService,
			needs + "needs one resource: with regex each has a budget of its own, which the service does not know"},
		{`, "clusterMode": true, "controlBehavior": 1`, theService, needs + "goes with tokenCalculateStrategy Direct, " +
			"controlBehavior Reject and relationStrategy CurrentResource: the service only counts"},
		{`, "clusterMode": true, "clusterConfig": {"clusterSize": 0}`, theService, "flowRules[0].clusterConfig.clusterSize: must be ≥ 1, got 0"},
		{``, `, "rate_limit_service": {}`, "rate_limit_service.cluster: missing"},
	} {
		if got := mistakesOf(t, KindHTTP, ofCluster(c.more, c.rest)); !slices.Equal(got, []string{c.want}) {
			t.Errorf("%s%s: %q, want %q", c.more, c.rest, got, c.want)
		}
	}
}

// The rules of a data source are counted by the filter's service.
func TestClusterModeInADocument(t *testing.T) {
	own, err := Parse([]byte(`{"resource_name": "r"`+theService+`}`), KindHTTP)
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := ParseRules([]Document{{Name: "d", Text: []byte(`{"flowRules": [{"id": "a", "resource": "r", "threshold": 1, "clusterMode": true}]}`)}},
		KindHTTP, own)
	if err != nil {
		t.Fatal(err)
	}
	if c := cfg.Rules[0].(*rule.Flow).Cluster; c == nil || c.Service.Cluster != "rls" {
		t.Errorf("%+v", c)
	}
}
