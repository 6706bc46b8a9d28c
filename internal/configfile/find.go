package configfile

import (
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"sentinel-envoy/shared/config"
)

// Found is a configuration in a file.
type Found struct {
	Document
	Kind config.Kind
	Name string // the root_id, or what else says whose it is
	// Problem is what keeps it from being read, "" if nothing does.
	Problem string
}

// roots are the filters by their root_id.
var roots = map[string]config.Kind{"sentinel_http": config.KindHTTP, "sentinel_tcp": config.KindTCP}

// Find finds the configurations of the plugin in a document: of an Envoy bootstrap or any part of one, an EnvoyFilter, a
// WasmPlugin, or the document itself, which is then of the given kind. VM configurations shared by an alias are found once.
func Find(d Document, kind config.Kind) (all []Found) {
	f := finder{seen: map[string]bool{}, walked: map[*yaml.Node]bool{}}
	if d.kindOf() == "WasmPlugin" {
		f.wasmPlugin(d)
	} else {
		f.walk(d, 0)
	}
	if len(f.found) == 0 && isConfiguration(d) {
		return []Found{{Document: d, Kind: kind, Name: "configuration"}}
	}
	return f.found
}

func (d Document) kindOf() string {
	kind, _ := d.Get("kind")
	if kind.node == nil {
		return ""
	}
	return kind.Text()
}

// topKeys are keys, beside those of rules, that a configuration is known by.
var topKeys = []string{"resource_name", "resources", "origin", "arguments", "system_source", "block"}

// isConfiguration is whether a document has a key that stands at the top of a configuration, here or in Java Sentinel's.
func isConfiguration(d Document) (is bool) {
	d.Members(func(key string, _ Document) {
		_, isList := config.RuleKey(key)
		is = is || isList || slices.Contains(topKeys, key)
	})
	return is && d.kindOf() == ""
}

type finder struct {
	found  []Found
	seen   map[string]bool     // configurations of VMs
	walked map[*yaml.Node]bool // an alias is looked into once
}

// wasmPlugin is Istio's, which has the configuration as it is.
func (f *finder) wasmPlugin(d Document) {
	kind := config.KindHTTP
	if t, ok := d.Get("spec", "type"); ok && t.Text() == "NETWORK" {
		kind = config.KindTCP
	}
	if c, ok := d.Get("spec", "pluginConfig"); ok {
		f.found = append(f.found, Found{Document: c, Kind: kind, Name: "pluginConfig"})
	}
}

// walk looks for plugin configurations of Envoy's at any depth.
func (f *finder) walk(d Document, depth int) {
	n := resolve(d.node)
	if depth > maxDepth || f.walked[n] {
		return
	}
	f.walked[n] = true
	for _, item := range d.Items() {
		f.walk(item, depth+1)
	}
	root, has := d.Get("root_id")
	kind, ours := config.KindHTTP, false
	if has {
		kind, ours = roots[root.Text()]
	}
	if ours {
		f.add(d, kind, root.Text(), "configuration")
		if vm, ok := d.Get("vm_config"); ok {
			f.add(vm, config.KindVM, "vm_config", "configuration")
		}
		return
	}
	d.Members(func(_ string, value Document) { f.walk(value, depth+1) })
}

// add notes the configuration under a key, once.
func (f *finder) add(of Document, kind config.Kind, name, key string) {
	c, ok := of.Get(key)
	if !ok {
		return
	}
	found := Found{Document: c, Kind: kind, Name: name}
	if value, ok := c.Get("value"); ok {
		t, _ := c.Get("@type")
		if found.Document = value; t.node != nil && strings.HasSuffix(t.Text(), "StringValue") {
			inner, err := value.embedded()
			if err != nil {
				found.Problem = err.Error()
			} else {
				found.Document = inner
			}
		}
	}
	at := name + string(found.JSON())
	if kind == config.KindVM && f.seen[at] {
		return
	}
	f.seen[at] = true
	f.found = append(f.found, found)
}
