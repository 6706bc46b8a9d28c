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

// ofValues is a document with one hotspot rule, to which more is added.
func ofValues(more string) string {
	return `{"resource_name": "r", "rate_limit_service": {"cluster": "rls"}, "hotspotRules": [{"id": "a", "resource": "r", "threshold": 10,
		"clusterMode": true` + more + `}]}`
}

func TestClusterModeOfValues(t *testing.T) {
	for more, want := range map[string]rule.Cluster{
		`, "paramSource": "Header", "paramKey": "u", "metricType": "QPS", "durationInSec": 60`:                                               {FallbackToLocalWhenFail: true, ClusterSize: 1, WindowIntervalMs: 60000},
		`, "paramSource": "Host", "metricType": "QPS", "durationInSec": 2, "clusterConfig": {"windowIntervalMs": 3600000, "clusterSize": 4}`: {FallbackToLocalWhenFail: true, ClusterSize: 4, WindowIntervalMs: 3600_000},
	} {
		want.On, want.Service = true, rule.RateLimitService{Cluster: "rls", Domain: "sentinel", TimeoutMs: 50}
		cfg, err := Parse([]byte(ofValues(more)), KindHTTP)
		if err != nil {
			t.Errorf("%s: %v", more, err)
		} else if got := cfg.Rules[0].(*rule.Hotspot).Cluster; got == nil || *got != want {
			t.Errorf("%s: %+v, want %+v", more, got, want)
		}
	}
	const needs = "hotspotRules[0].clusterMode: "
	for more, want := range map[string]string{
		`, "paramSource": "Host", "metricType": "QPS", "durationInSec": 2`: needs + "needs an interval of 1000, 60000 or 3600000 ms: " +
			"the rate limit service counts by seconds, minutes and hours",
		`, "paramSource": "Host", "metricType": "QPS", "durationInSec": 1, "burstCount": 1`:      needs + "goes with QPS, controlBehavior Reject and burstCount 0: the service only counts",
		`, "paramSource": "Host", "metricType": "QPS", "durationInSec": 1, "controlBehavior": 1`: needs + "goes with QPS, controlBehavior Reject and burstCount 0: the service only counts",
		`, "paramSource": "Host", "metricType": "Concurrency", "durationInSec": 1`:               needs + "goes with QPS, controlBehavior Reject and burstCount 0: the service only counts",
		`, "paramSource": "SourceAddress", "metricType": "QPS", "durationInSec": 1, "specificItems": [{"valStr": "10.0.0.0/8", "threshold": 1, "valKind": 1}]`: "hotspotRules[0].specificItems[0].valStr: " +
			"must be an address with clusterMode: the service knows no networks",
	} {
		if got := mistakesOf(t, KindHTTP, ofValues(more)); !slices.Equal(got, []string{want}) {
			t.Errorf("%s: %q, want %q", more, got, want)
		}
	}
}

// In Java Sentinel's words a hotspot rule is in cluster mode, too.
func TestClusterModeOfValuesInJavasWords(t *testing.T) {
	cfg, err := Parse([]byte(`{"resource_name": "r", "rate_limit_service": {"cluster": "rls"}, "hotspotRules": [{"resource": "r", "count": 5,
		"paramIdx": 0, "paramSource": "Header", "paramKey": "u", "clusterMode": true, "clusterConfig": {"flowId": 3, "thresholdType": 1,
		"fallbackToLocalWhenFail": false, "sampleCount": 10, "windowIntervalMs": 1000}}]}`), KindHTTP)
	if err != nil {
		t.Fatal(err)
	}
	h := cfg.Rules[0].(*rule.Hotspot)
	if c := h.Cluster; c == nil || c.Name(h.ID) != "3" || c.ThresholdType != rule.Global || c.FallbackToLocalWhenFail || h.Threshold != 5 {
		t.Errorf("%+v of %+v", c, h)
	}
}
