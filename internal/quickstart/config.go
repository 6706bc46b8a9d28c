package quickstart

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strconv"

	"gopkg.in/yaml.v3"
)

// Ports are the loopback ports of one run.
type Ports struct {
	HTTP     int // listener "http"
	TCP      int // listener "tcp"
	Admin    int // Envoy's admin interface
	Upstream int // cluster "web_service"
}

// wasmBase is the file name by which a bootstrap names our binary, in whatever directory.
const wasmBase = "sentinel.wasm"

// Render returns bootstrap with the ports and the path of the Wasm binary replaced; all else, comments included, stays.
//
// The bootstrap must have listeners named tcp and http, a cluster named web_service, an admin address, and at least one
// Wasm file called sentinel.wasm. The error names what is missing.
func Render(bootstrap []byte, p Ports, wasm string) ([]byte, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(bootstrap, &doc); err != nil {
		return nil, err
	}
	resources := child(&doc, "static_resources")
	places := []struct {
		what string
		node *yaml.Node
		port int
	}{
		{"listener named http", child(named(child(resources, "listeners"), "http"), "address"), p.HTTP},
		{"listener named tcp", child(named(child(resources, "listeners"), "tcp"), "address"), p.TCP},
		{"admin address", child(child(&doc, "admin"), "address"), p.Admin},
		{"cluster named web_service", child(named(child(resources, "clusters"), "web_service"), "load_assignment"), p.Upstream},
	}
	for _, place := range places {
		if setAll(place.node, "port_value", strconv.Itoa(place.port), always) == 0 {
			return nil, fmt.Errorf("it has no %s with a port", place.what)
		}
	}
	ours := func(filename string) bool { return filepath.Base(filename) == wasmBase }
	if setAll(&doc, "filename", wasm, ours) == 0 {
		return nil, fmt.Errorf("it names no Wasm file %s", wasmBase)
	}
	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	if err := enc.Encode(&doc); err != nil {
		return nil, err
	}
	return out.Bytes(), enc.Close()
}

func always(string) bool { return true }

// child returns the value under key in a mapping, or nil. It looks through documents and aliases.
func child(n *yaml.Node, key string) *yaml.Node {
	for n != nil && n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n == nil {
		return nil
	}
	if n.Kind == yaml.DocumentNode && len(n.Content) > 0 {
		return child(n.Content[0], key)
	}
	if n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

// named returns the element of a sequence whose name is name, or nil.
func named(seq *yaml.Node, name string) *yaml.Node {
	if seq == nil {
		return nil
	}
	for _, item := range seq.Content {
		if v := child(item, "name"); v != nil && v.Value == name {
			return item
		}
	}
	return nil
}

// setAll sets every scalar under key, at any depth below n, whose value satisfies when. It returns how many it set.
// What an alias points to is reached where its anchor stands.
func setAll(n *yaml.Node, key, value string, when func(old string) bool) int {
	if n == nil {
		return 0
	}
	count := 0
	for i, c := range n.Content {
		isValue := n.Kind == yaml.MappingNode && i%2 == 1 && n.Content[i-1].Value == key
		if isValue && c.Kind == yaml.ScalarNode && when(c.Value) {
			c.Value = value
			count++
		}
		count += setAll(c, key, value, when)
	}
	return count
}
