package istiocheck

import (
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"
)

// placement is one Sentinel filter in a bootstrap, flattened: the path of each value below its typed_config, such as
// "config.vm_config.vm_id", and the filter that follows it as "before".
type placement map[string]string

// kind is the type of the filter, which tells the TCP one from the HTTP one.
func (p placement) kind() string { return p["@type"] }

// placements lists the Wasm filters in the listeners of a bootstrap. Only the Wasm's base name counts: where it lies is
// the one thing that differs by design.
func placements(bootstrap document) []placement {
	var found []placement
	collect := func(filters []any) {
		for i, filter := range filters {
			if !strings.HasSuffix(text(filter, "typed_config", "@type"), ".wasm.v3.Wasm") {
				continue
			}
			p := placement{"before": ""}
			if i+1 < len(filters) {
				p["before"] = text(filters[i+1], "name")
			}
			flatten(p, "", dig(filter, "typed_config"))
			const settings = "config.configuration.value"
			if asText, ok := p[settings]; ok { // a StringValue: what counts is the JSON in it
				delete(p, settings)
				flatten(p, settings, unquote(asText))
			}
			const file = "config.vm_config.code.local.filename"
			p[file] = fmt.Sprintf("%q", path.Base(text(filter, "typed_config", "config", "vm_config", "code", "local", "filename")))
			p["@type"] = text(filter, "typed_config", "@type")
			found = append(found, p)
		}
	}
	for _, listener := range list(bootstrap, "static_resources", "listeners") {
		for _, chain := range list(listener, "filter_chains") {
			filters := list(chain, "filters")
			collect(filters)
			for _, filter := range filters {
				collect(list(filter, "typed_config", "http_filters"))
			}
		}
	}
	return found
}

// unquote returns the JSON value inside a JSON string, or the string where it holds none.
func unquote(quoted string) any {
	var inner string
	if err := json.Unmarshal([]byte(quoted), &inner); err != nil {
		return quoted
	}
	var value any
	if err := json.Unmarshal([]byte(inner), &value); err != nil {
		return inner
	}
	return value
}

// flatten writes the leaves of a JSON value into p under their paths.
func flatten(p placement, at string, value any) {
	join := func(step string) string { return strings.TrimPrefix(at+"."+step, ".") }
	switch value := value.(type) {
	case map[string]any:
		for key, v := range value {
			flatten(p, join(key), v)
		}
	case []any:
		for i, v := range value {
			flatten(p, join(fmt.Sprint(i)), v)
		}
	default:
		leaf, err := json.Marshal(value)
		if err != nil { // JSON was read from JSON: cannot be
			leaf = []byte(err.Error())
		}
		p[at] = string(leaf)
	}
}

// differences says where the filters in got are not those of want: each kind of want must be there at least once, and all
// of that kind must equal it.
func differences(want, got []placement) []string {
	var out []string
	wanted := map[string]placement{}
	for _, w := range want {
		wanted[w.kind()] = w
		if !slices.ContainsFunc(got, func(g placement) bool { return g.kind() == w.kind() }) {
			out = append(out, w.kind()+" is missing")
		}
	}
	for i, g := range got {
		w, ok := wanted[g.kind()]
		if !ok {
			out = append(out, fmt.Sprintf("filter %d: unexpected %s", i, g.kind()))
			continue
		}
		keys := maps.Clone(w)
		maps.Copy(keys, g)
		for _, key := range slices.Sorted(maps.Keys(keys)) {
			if g[key] != w[key] {
				out = append(out, fmt.Sprintf("filter %d: %s: is %s, want %s", i, key, g[key], w[key]))
			}
		}
	}
	return out
}

func TestFiltersAgreeWithEnvoyYAML(t *testing.T) {
	want := placements(read(t, envoyYAML))
	if len(want) != 2 {
		t.Fatalf("%s has %d Wasm filters, want 2", envoyYAML, len(want))
	}
	for _, proxy := range proxies {
		for _, d := range differences(want, placements(patched(t, proxy.name, proxy.context))) {
			t.Errorf("%s: %s", proxy.name, d)
		}
	}
}

// A comparison that sees nothing would agree with everything.
func TestDifferencesSeesEveryMutation(t *testing.T) {
	// The mutated value is that of the first patch, the TCP filter's.
	config := func(value document) document { return dig(value, "typed_config", "config").(document) }
	vm := func(value document) document { return dig(config(value), "vm_config").(document) }
	rules := func(change func(rules document)) func(document) {
		return func(value document) {
			configuration := dig(config(value), "configuration").(document)
			rules, isStruct := configuration["value"].(document)
			if !isStruct {
				rules = unquote(mustMarshal(t, configuration["value"])).(document)
			}
			change(rules)
			if !isStruct {
				configuration["value"] = mustMarshal(t, rules)
			}
		}
	}
	for name, mutate := range map[string]func(value document){
		"vm_id":       func(v document) { vm(v)["vm_id"] = "other" },
		"runtime":     func(v document) { vm(v)["runtime"] = "envoy.wasm.runtime.wasmtime" },
		"code":        func(v document) { vm(v)["code"] = document{"local": document{"filename": "/wasm/other.wasm"}} },
		"vm config":   func(v document) { vm(v)["configuration"] = document{"value": "x"} },
		"root_id":     func(v document) { config(v)["root_id"] = "sentinel_http" },
		"fail open":   func(v document) { config(v)["fail_open"] = true },
		"threshold":   rules(func(r document) { dig(r, "flowRules", 0).(document)["threshold"] = 51.0 }),
		"resource":    rules(func(r document) { r["resource_name"] = "other" }),
		"no rules":    rules(func(r document) { delete(r, "flowRules") }),
		"second rule": rules(func(r document) { r["flowRules"] = append(list(r, "flowRules"), document{"id": "x"}) }),
		"type": func(v document) {
			dig(v, "typed_config").(document)["@type"] = "type.googleapis.com/other.wasm.v3.Wasm"
		},
	} {
		want := placements(patched(t, proxies[0].name, proxies[0].context))
		bootstrap := patched(t, proxies[0].name, proxies[0].context)
		mutate(firstWasm(t, bootstrap))
		if len(differences(want, placements(bootstrap))) == 0 {
			t.Errorf("%s: a mutation went unseen", name)
		}
	}

	want := placements(patched(t, proxies[0].name, proxies[0].context))
	moved := slices.Clone(want)
	moved[0] = maps.Clone(want[0])
	moved[0]["before"] = "envoy.filters.network.rbac"
	if len(differences(want, moved)) == 0 {
		t.Error("another place in the chain went unseen")
	}
	onlyHTTP := slices.DeleteFunc(slices.Clone(want), func(p placement) bool { return strings.Contains(p.kind(), "network") })
	if len(differences(want, onlyHTTP)) == 0 {
		t.Error("a missing TCP filter went unseen")
	}
}

func mustMarshal(t *testing.T, value any) string {
	t.Helper()
	raw, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// firstWasm returns the first network Wasm filter of a bootstrap, to be changed.
func firstWasm(t *testing.T, bootstrap document) document {
	t.Helper()
	for _, filter := range list(bootstrap, "static_resources", "listeners", 0, "filter_chains", 0, "filters") {
		if text(filter, "name") == "envoy.filters.network.wasm" {
			return filter.(document)
		}
	}
	t.Fatal("the first filter chain has no Wasm filter")
	return nil
}

// Filters share a VM when vm_id, code and the VM's configuration are the same, and a budget when they share vm_id's table.
// Equal to the byte is the simplest way to be sure of all of it.
func TestFiltersShareOneVMConfig(t *testing.T) {
	seen := map[string]string{}
	for _, proxy := range proxies {
		filter := readEnvoyFilter(t, proxy.name)
		for i, p := range filter.Spec.ConfigPatches {
			value := p.GetPatch().GetValue().AsMap()
			vm := mustMarshal(t, dig(value, "typed_config", "config", "vm_config"))
			if vm == "null" {
				t.Errorf("%s: configPatches[%d] has no vm_config", proxy.name, i)
			}
			seen[vm] = fmt.Sprintf("%s: configPatches[%d]", proxy.name, i)
		}
	}
	if len(seen) != 1 {
		t.Errorf("there are %d different vm_configs, want 1: %v", len(seen), seen)
	}
}

// One EnvoyFilter is the other with another context: nothing else may tell them apart.
func TestSidecarAndGatewayAgree(t *testing.T) {
	a, b := readEnvoyFilter(t, "sidecar.yaml"), readEnvoyFilter(t, "gateway.yaml")
	if len(a.Spec.ConfigPatches) != len(b.Spec.ConfigPatches) {
		t.Fatalf("%d patches for the sidecar, %d for the gateway", len(a.Spec.ConfigPatches), len(b.Spec.ConfigPatches))
	}
	for i, p := range b.Spec.ConfigPatches {
		p.Match.Context = a.Spec.ConfigPatches[i].GetMatch().GetContext()
		want, got := placement{}, placement{}
		for _, side := range []struct {
			into placement
			from *patch
		}{{want, a.Spec.ConfigPatches[i]}, {got, p}} {
			raw, err := side.from.MarshalJSON()
			if err != nil {
				t.Fatal(err)
			}
			var value any
			if err := json.Unmarshal(raw, &value); err != nil {
				t.Fatal(err)
			}
			flatten(side.into, "", value)
		}
		if !maps.Equal(want, got) {
			t.Errorf("configPatches[%d]: the sidecar's is %v, the gateway's %v", i, want, got)
		}
	}
}
