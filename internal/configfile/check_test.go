package configfile

import (
	"fmt"
	"strings"
	"testing"

	"sentinel-envoy/shared/config"
)

const listener = `kind: EnvoyFilter
spec:
  configPatches:
  - patch:
      value:
        typed_config:
          value:
            config:
              root_id: sentinel_http
              configuration:
                "@type": type.googleapis.com/google.protobuf.StringValue
                value: |
                  {"flowRules": [
                    {"resource": "/a",
                     "threshold": -1}]}
              vm_config: &vm
                configuration:
                  "@type": type.googleapis.com/google.protobuf.StringValue
                  value: '{"mode": "shadow"}'
  - patch:
      value:
        config:
          root_id: sentinel_tcp
          configuration:
            value:
              flowRules:
              - {resource: db, threshold: 1}
              resource_name: ""
          vm_config: *vm
  - patch: {value: {config: {root_id: other, configuration: {value: {nothing: 1}}}}}
`

// Each mistake has its line, whatever way the configuration is written; what a VM has is read once, and others' not at all.
func TestLines(t *testing.T) {
	for _, c := range []struct {
		name, text string
		o          Options
		want       []string
	}{
		{"EnvoyFilter", listener, Options{}, []string{
			"f:15: flowRules[0].threshold: must be ≥ 0, got -1",
			"f:19: mode: belongs in a filter's configuration; the VM's has rules only",
			"f:28: resource_name: must not be empty",
			`f:27: flowRules[0].resource: nothing here is the resource "db": name it in resource_name or in an entry of resources`,
		}},
		{"WasmPlugin", "kind: WasmPlugin\nspec:\n  type: NETWORK\n  pluginConfig:\n    resource_name: a\n    block: {status: 500}", Options{},
			[]string{"f:6: block.status: is for the HTTP filter only"}},
		{"configuration", "{\"resource_name\": \"a\",\n \"flowRules\": [\n {\"resource\": \"a\"}]}", Options{Kind: config.KindHTTP},
			[]string{"f:3: flowRules[0].threshold: missing"}},
		{"of TCP", "resource_name: a\nblock: {status: 500}", Options{Kind: config.KindTCP}, []string{"f:2: block.status: is for the HTTP filter only"}},
		{"source", "[{\"resource\": \"a\", \"count\": 1},\n {\"resource\": \"a\", \"count\": -1}]", Options{Rules: "flowRules"},
			[]string{"f:2: flowRules[1].count: must be ≥ 0, got -1"}},
		{"list", "[]", Options{}, []string{"f:1: is a list: say with --rules of which family, as --rules flowRules"}},
		{"warning", "flowRules:\n- resource: /a\n  threshold: 0.5", Options{}, []string{
			`f:3: warning: flowRules[0].threshold: the rule refuses everything: with Reject a threshold below 1 has no room for a request; ` +
				`for one request in 2 s write threshold 1 and statIntervalInMs 2000`}},
		{"nothing", "a: 1", Options{}, []string{"f:1: has no configuration of this plugin: no root_id sentinel_http or sentinel_tcp, no WasmPlugin, and no rules"}},
		{"no YAML", "a: 1\n b: [", Options{}, []string{"f:2: yaml: line 2: mapping values are not allowed in this context"}},
		{"twice", "resource_name: a\nresource_name: b", Options{Kind: config.KindHTTP}, []string{"f:1: resource_name: given twice"}},
		{"what YAML 1.1 takes for a boolean", "flowRules:\n- {resource: n, threshold: 1}\n- {resource: \"n\", threshold: 1, regex: off}", Options{},
			[]string{"f:2: flowRules[0].resource: must be a string, got false; in YAML y, yes, on, n, no and off are true and false: write it in quotes"}},
		{"itself", "root_id: sentinel_http\nconfiguration: &a\n  value: {block: *a}", Options{}, nil},
	} {
		all, _ := Check("f", []byte(c.text), c.o)
		if c.want == nil && len(all) > 0 {
			continue // what is wrong with it is of no interest: it must come to an end
		}
		var got []string
		for _, m := range all {
			got = append(got, m.String())
		}
		if strings.Join(got, "\n") != strings.Join(c.want, "\n") {
			t.Errorf("%s: got\n%s\nwant\n%s", c.name, strings.Join(got, "\n"), strings.Join(c.want, "\n"))
		}
	}
}

// A few aliases that stand for more than any memory has come to an end.
func TestAliasesAreBounded(t *testing.T) {
	text := "resource_name: a\nx0: &x0 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n"
	for i := range 40 {
		text += fmt.Sprintf("x%d: &x%d [*x%d, *x%d]\n", i+1, i+1, i, i)
	}
	if all, _ := Check("f", []byte(text), Options{}); len(all) == 0 {
		t.Error("nothing is wrong with it")
	}
}
