package config

import (
	"fmt"
	"strings"
	"testing"
)

func TestDataSources(t *testing.T) {
	cfg, err := Parse([]byte(`{"failure_mode": "closed", "datasource": [
		{"type": "http", "cluster": "rules", "path": "/rules.json", "required": true},
		{"type": "nacos", "cluster": "nacos", "data_id": "orders-flow-rules", "rules": "paramFlowRules", "format": "java", "interval_ms": 500},
		{"type": "etcd", "cluster": "etcd", "key": "/sentinel/orders", "authority": "etcd.local", "timeout_ms": 200},
		{"type": "consul", "cluster": "consul", "key": "sentinel/orders"},
		{"type": "kubernetes", "cluster": "api", "name": "sentinel", "key": "rules.json"}]}`), KindTCP)
	if err != nil {
		t.Fatal(err)
	}
	want := []DataSource{
		{Origin{SourceHTTP, "rules", "rules", "/rules.json", "", "", "", "", "", 3000, 1000}, "", Guess, true},
		{Origin{SourceNacos, "nacos", "nacos", "/nacos", "", "orders-flow-rules", "DEFAULT_GROUP", "", "", 500, 1000}, "hotspotRules", Java, false},
		{Origin{SourceEtcd, "etcd", "etcd.local", "", "/sentinel/orders", "", "", "", "", 3000, 200}, "", Guess, false},
		{Origin{SourceConsul, "consul", "consul", "", "sentinel/orders", "", "", "", "", 3000, 1000}, "", Guess, false},
		{Origin{SourceKubernetes, "api", "api", "", "rules.json", "", "", "default", "sentinel", 3000, 1000}, "", Guess, false},
	}
	titles := []string{
		"rules/rules.json", "nacos/nacos/DEFAULT_GROUP/orders-flow-rules", "etcd/sentinel/orders", "consul/sentinel/orders",
		"api/default/sentinel/rules.json",
	}
	for i := range want {
		if i >= len(cfg.Sources) || cfg.Sources[i] != want[i] {
			t.Fatalf("got %+v", cfg.Sources)
		}
		if got := want[i].Title(); got != titles[i] {
			t.Errorf("it is called %s, want %s", got, titles[i])
		}
	}
}

func TestDataSourceMistakes(t *testing.T) {
	for doc, want := range map[string]string{
		`[{}]`: "datasource[0].type: missing\ndatasource[0].cluster: missing",
		`[{"type": "zookeeper", "cluster": "a"}]`:                                 `datasource[0].type: must be http or nacos or etcd or consul or kubernetes, got the string "zookeeper"`,
		`[{"type": "etcd", "cluster": "a"}]`:                                      "datasource[0].key: missing",
		`[{"type": "etcd", "cluster": "a", "key": "k", "path": "/p"}]`:            "datasource[0].path: is not for the type etcd",
		`[{"type": "http", "cluster": "a", "path": "p"}]`:                         `datasource[0].path: must begin with /, got "p"`,
		`[{"type": "http", "cluster": "a", "path": "/p", "interval_ms": 100}]`:    "datasource[0].interval_ms: must be ≥ 200, got 100",
		`[{"type": "http", "cluster": "a", "path": "/p", "rules": "flow"}]`:       "datasource[0].rules: must be authorityRules or",
		`[{"type": "http", "cluster": "a", "path": "/p", "url": "http://rules"}]`: "datasource[0].url: unknown key",
		`{"type": "http"}`: "datasource: must be a list, got an object",
		`[` + strings.Repeat(`{"type": "http", "cluster": "a", "path": "/p"},`, 1) + `{"type": "http", "cluster": "a", "path": "/p"}]`: "datasource[1]: is the same as datasource[0]",
	} {
		_, err := Parse([]byte(`{"datasource": `+doc+`}`), KindHTTP)
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v, want %s", doc, err, want)
		}
	}
	var many []string
	for n := range maxSources + 1 {
		many = append(many, fmt.Sprintf(`{"type": "http", "cluster": "a", "path": "/%d"}`, n))
	}
	if _, err := Parse([]byte(`{"datasource": [`+strings.Join(many, ",")+`]}`), KindHTTP); err == nil {
		t.Error("there are as many sources as one likes")
	}
	if _, err := Parse([]byte(`{"datasource": []}`), KindVM); err == nil {
		t.Error("the VM's configuration has sources")
	}
	cfg, err := Parse([]byte(`{"datasource": [{"type": "http", "cluster": "a", "path": "/p", "required": true}]}`), KindHTTP)
	if err != nil || len(cfg.Warnings) != 1 || cfg.Warnings[0].Path != "datasource[0].required" {
		t.Errorf("%v %+v", err, cfg)
	}
}
