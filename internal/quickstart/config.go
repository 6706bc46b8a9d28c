package quickstart

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
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

// The places of a bootstrap that a run replaces, each where there is one.
const (
	placeHTTP     = "listener named http"
	placeTCP      = "listener named tcp"
	placeAdmin    = "admin address"
	placeUpstream = "cluster named web_service"
)

// A bootstrap is an Envoy bootstrap in which the places that a run replaces have been found.
type bootstrap struct {
	doc   yaml.Node
	ports map[string][]*yaml.Node // port numbers, by place
	files []*yaml.Node            // names of our Wasm binary
}

// Render returns an Envoy bootstrap with the ports and the path of the Wasm binary replaced: the ports of the listeners
// named http and tcp, of the admin interface and of the cluster named web_service, and each file that is called
// sentinel.wasm. Nothing is added where there is none, and all else, comments included, stays. The error is about text
// that is no YAML mapping.
func Render(text []byte, p Ports, wasm string) ([]byte, error) {
	b, err := parseBootstrap(text)
	if err != nil {
		return nil, err
	}
	return b.render(p, wasm)
}

func parseBootstrap(text []byte) (*bootstrap, error) {
	b := &bootstrap{}
	if err := yaml.Unmarshal(text, &b.doc); err != nil {
		return nil, err
	}
	if len(b.doc.Content) == 0 || b.doc.Content[0].Kind != yaml.MappingNode {
		return nil, errors.New("it is no Envoy bootstrap: expected a mapping, with static_resources and the like")
	}
	resources := child(&b.doc, "static_resources")
	listeners := child(resources, "listeners")
	service := named(child(resources, "clusters"), "web_service")
	b.ports = map[string][]*yaml.Node{
		placeHTTP:     scalars(child(named(listeners, "http"), "address"), "port_value"),
		placeTCP:      scalars(child(named(listeners, "tcp"), "address"), "port_value"),
		placeAdmin:    scalars(child(child(&b.doc, "admin"), "address"), "port_value"),
		placeUpstream: scalars(child(service, "load_assignment"), "port_value"),
	}
	for _, n := range scalars(&b.doc, "filename") {
		if filepath.Base(n.Value) == wasmBase {
			b.files = append(b.files, n)
		}
	}
	return b, nil
}

func (b *bootstrap) has(place string) bool { return len(b.ports[place]) > 0 }

// used are those of the ports that the bootstrap has a place for.
func (b *bootstrap) used(p Ports) []listenPort {
	return slices.DeleteFunc(p.list(), func(l listenPort) bool { return !b.has(l.place) })
}

// missing names the places that there are not, and the variables of make run that therefore do nothing.
func (b *bootstrap) missing() []string {
	var missing []string
	for _, l := range (Ports{}).list() {
		if !b.has(l.place) {
			missing = append(missing, fmt.Sprintf("no %s (%s)", l.place, l.Variable))
		}
	}
	if len(b.files) == 0 {
		missing = append(missing, "no file "+wasmBase)
	}
	return missing
}

func (b *bootstrap) render(p Ports, wasm string) ([]byte, error) {
	for _, l := range p.list() {
		for _, n := range b.ports[l.place] {
			n.Value = strconv.Itoa(l.Number)
		}
	}
	for _, n := range b.files {
		n.Value = wasm
	}
	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	if err := enc.Encode(&b.doc); err != nil {
		return nil, err
	}
	return out.Bytes(), enc.Close()
}

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

// scalars are all scalars under key, at any depth below n. What an alias points to is reached where its anchor stands.
func scalars(n *yaml.Node, key string) []*yaml.Node {
	if n == nil {
		return nil
	}
	var found []*yaml.Node
	for i, c := range n.Content {
		isValue := n.Kind == yaml.MappingNode && i%2 == 1 && n.Content[i-1].Value == key
		if isValue && c.Kind == yaml.ScalarNode {
			found = append(found, c)
		}
		found = append(found, scalars(c, key)...)
	}
	return found
}
