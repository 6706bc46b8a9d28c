package quickstart

import (
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

var somePorts = Ports{HTTP: 1001, TCP: 1002, Admin: 1003, Upstream: 1004}

// TestRenderChangesOnlyPortsAndWasm compares the rendered bootstrap with the original as data: every place that we mean
// to change is named here, the rest must be equal.
func TestRenderChangesOnlyPortsAndWasm(t *testing.T) {
	original, err := os.ReadFile("../../envoy/envoy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	rendered, err := Render(original, somePorts, "/somewhere/a b.wasm")
	if err != nil {
		t.Fatal(err)
	}
	want, got := decode(t, original), decode(t, rendered)
	listeners := at(want, "static_resources", "listeners").([]any)
	for _, l := range listeners {
		port := map[any]int{"tcp": somePorts.TCP, "http": somePorts.HTTP}[at(l, "name")]
		at(l, "address", "socket_address").(map[string]any)["port_value"] = port
	}
	endpoint := at(want, "static_resources", "clusters", 0, "load_assignment", "endpoints", 0, "lb_endpoints", 0, "endpoint")
	at(endpoint, "address", "socket_address").(map[string]any)["port_value"] = somePorts.Upstream
	at(want, "admin", "address", "socket_address").(map[string]any)["port_value"] = somePorts.Admin
	network := at(listeners[0], "filter_chains", 0, "filters", 0, "typed_config", "config")
	manager := at(listeners[1], "filter_chains", 0, "filters", 0, "typed_config")
	for _, config := range []any{network, at(manager, "http_filters", 0, "typed_config", "config")} {
		at(config, "vm_config", "code", "local").(map[string]any)["filename"] = "/somewhere/a b.wasm"
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("rendered:\n%s", rendered)
	}
}

func TestRenderLeavesOtherFilesAndPortsAlone(t *testing.T) {
	bootstrap := minimal + `
    - {name: other, load_assignment: {endpoints: [{socket_address: {port_value: 7}}]}}
extra: {filename: /etc/other.wasm}
`
	rendered, err := Render([]byte(bootstrap), somePorts, "/w.wasm")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"port_value: 7", "/etc/other.wasm", "filename: /w.wasm"} {
		if !strings.Contains(string(rendered), want) {
			t.Errorf("no %q in:\n%s", want, rendered)
		}
	}
}

func TestRenderReplacesWhatThereIs(t *testing.T) {
	for _, c := range []struct{ replace, by, missing, stays string }{
		{"name: http", "name: web", "no listener named http (HTTP_PORT)", "port_value: 1}"},
		{"name: tcp", "name: raw", "no listener named tcp (TCP_PORT)", "port_value: 2}"},
		{"admin:", "administrator:", "no admin address (ADMIN_PORT)", "port_value: 3}"},
		{"port_value: 3", "pipe: 3", "no admin address (ADMIN_PORT)", "pipe: 3"},
		{"name: web_service", "name: service", "no cluster named web_service (UPSTREAM_PORT)", "port_value: 4}"},
		{"dist/sentinel.wasm", "dist/other.wasm", "no file sentinel.wasm", "dist/other.wasm"},
		{minimal, "{}", "no listener named http (HTTP_PORT), no listener named tcp (TCP_PORT), no admin address (ADMIN_PORT), " +
			"no cluster named web_service (UPSTREAM_PORT), no file sentinel.wasm", "{}"},
	} {
		b, err := parseBootstrap([]byte(strings.Replace(minimal, c.replace, c.by, 1)))
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(b.missing(), ", "); got != c.missing {
			t.Errorf("without %.30q: missing %q, want %q", c.replace, got, c.missing)
		}
		rendered, err := b.render(somePorts, "/w.wasm")
		if err != nil || !strings.Contains(string(rendered), c.stays) {
			t.Errorf("without %.30q: %v, no %q in:\n%s", c.replace, err, c.stays, rendered)
		}
		for _, l := range somePorts.list() {
			port := fmt.Sprintf("port_value: %d", l.Number)
			if replaced := strings.Contains(string(rendered), port); replaced == strings.Contains(c.missing, l.place) {
				t.Errorf("without %.30q: %s replaced: %v", c.replace, l.place, replaced)
			}
		}
	}
}

func TestRenderWantsAMapping(t *testing.T) {
	for text, want := range map[string]string{"": "mapping", "[1, 2]": "mapping", "text": "mapping", "a: [": "yaml"} {
		_, err := Render([]byte(text), somePorts, "/w.wasm")
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want one with %q", text, err, want)
		}
	}
}

// minimal has each place that is replaced, and no more. It ends with its clusters.
const minimal = `
admin: {address: {socket_address: {port_value: 3}}}
static_resources:
  listeners:
    - {name: tcp, address: {socket_address: {port_value: 2}}, code: {filename: dist/sentinel.wasm}}
    - {name: http, address: {socket_address: {port_value: 1}}}
  clusters:
    - {name: web_service, load_assignment: {endpoints: [{socket_address: {port_value: 4}}]}}`

func decode(t *testing.T, b []byte) map[string]any {
	t.Helper()
	var v map[string]any
	if err := yaml.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// at follows keys and indexes into decoded YAML.
func at(v any, path ...any) any {
	for _, p := range path {
		switch p := p.(type) {
		case string:
			v = v.(map[string]any)[p]
		case int:
			v = v.([]any)[p]
		}
	}
	return v
}
