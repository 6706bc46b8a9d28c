// Package configfile finds the plugin's configurations in files that people write, and says where in a file a mistake is.
package configfile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// Document is a YAML or JSON value with the lines that it was written in.
type Document struct {
	node *yaml.Node
	// before is how many lines of the file come before its first.
	before int
}

// Read reads all documents of a YAML or JSON file.
func Read(text []byte) (docs []Document, err error) {
	d := yaml.NewDecoder(bytes.NewReader(text))
	for {
		var n yaml.Node
		switch err := d.Decode(&n); {
		case errors.Is(err, io.EOF):
			return docs, nil
		case err != nil:
			return nil, err
		case len(n.Content) > 0:
			docs = append(docs, Document{node: n.Content[0]})
		}
	}
}

// Line is where the document begins.
func (d Document) Line() int { return d.before + resolve(d.node).Line }

// Get is the value at a path of keys, and whether there is one.
func (d Document) Get(path ...string) (Document, bool) {
	n := d.node
	for _, key := range path {
		if n = member(n, key); n == nil {
			return Document{}, false
		}
	}
	return Document{node: n, before: d.before}, true
}

// Text is the value of a scalar, "" of anything else.
func (d Document) Text() string {
	if n := resolve(d.node); n != nil && n.Kind == yaml.ScalarNode && n.Tag != "!!null" {
		return n.Value
	}
	return ""
}

// Items are the elements of a list.
func (d Document) Items() (items []Document) {
	if n := resolve(d.node); n != nil && n.Kind == yaml.SequenceNode {
		for _, item := range n.Content {
			items = append(items, Document{node: item, before: d.before})
		}
	}
	return items
}

// Members calls f for every key of an object.
func (d Document) Members(f func(key string, value Document)) {
	if n := resolve(d.node); n != nil && n.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(n.Content); i += 2 {
			f(n.Content[i].Value, Document{node: n.Content[i+1], before: d.before})
		}
	}
}

// IsList is whether the document is a list.
func (d Document) IsList() bool { return resolve(d.node).Kind == yaml.SequenceNode }

// resolve follows aliases.
func resolve(n *yaml.Node) *yaml.Node {
	for n != nil && n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

func member(n *yaml.Node, key string) *yaml.Node {
	if n = resolve(n); n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

// JSON is the document as Envoy hands it to the plugin. Keys stay in their order, and those given twice stay.
func (d Document) JSON() []byte { return appendJSON(nil, d.node, 0) }

// Bounds of what aliases may make of a document: one may contain itself, and a few may say much.
const (
	maxDepth = 64
	maxJSON  = 64 << 20 // bytes
)

func appendJSON(dst []byte, n *yaml.Node, depth int) []byte {
	n = resolve(n)
	if depth > maxDepth {
		return append(dst, "null"...)
	}
	switch n.Kind {
	case yaml.MappingNode:
		dst = append(dst, '{')
		for i := 0; i+1 < len(n.Content) && len(dst) < maxJSON; i += 2 {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(appendString(dst, n.Content[i].Value), ':')
			dst = appendJSON(dst, n.Content[i+1], depth+1)
		}
		return append(dst, '}')
	case yaml.SequenceNode:
		dst = append(dst, '[')
		for i, item := range n.Content {
			if len(dst) >= maxJSON {
				break
			}
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendJSON(dst, item, depth+1)
		}
		return append(dst, ']')
	}
	return appendScalar(dst, n)
}

// booleans are words that Envoy's reader of YAML and Kubernetes' take for true and false, as YAML 1.1 did, and ours does not.
var booleans = map[string]string{"y": "true", "yes": "true", "on": "true", "n": "false", "no": "false", "off": "false"}

func appendScalar(dst []byte, n *yaml.Node) []byte {
	if word := booleans[strings.ToLower(n.Value)]; word != "" && n.Style == 0 {
		return append(dst, word...)
	}
	switch n.ShortTag() {
	case "!!null":
		return append(dst, "null"...)
	case "!!bool":
		return strconv.AppendBool(dst, strings.EqualFold(n.Value, "true"))
	case "!!int", "!!float":
		if json.Valid([]byte(n.Value)) {
			return append(dst, n.Value...)
		}
		var f float64
		if n.Decode(&f) == nil && !math.IsInf(f, 0) && !math.IsNaN(f) {
			return strconv.AppendFloat(dst, f, 'g', -1, 64)
		}
	}
	return appendString(dst, n.Value)
}

func appendString(dst []byte, s string) []byte {
	text, err := json.Marshal(s)
	if err != nil { // a string always is one
		panic(err)
	}
	return append(dst, text...)
}

// embedded is the document that a text has in it.
func (d Document) embedded() (Document, error) {
	n := resolve(d.node)
	docs, err := Read([]byte(n.Value))
	if err != nil || len(docs) != 1 {
		return Document{}, fmt.Errorf("no JSON: %w", err)
	}
	before := d.before + n.Line - 1
	if n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0 {
		before++
	}
	return Document{node: docs[0].node, before: before}, nil
}

// LineOf is the line of a place as the parser writes it, such as flowRules[2].threshold; of what is not there it is that of
// what should have it.
func (d Document) LineOf(place string) int {
	n, line := d.node, d.Line()
	for _, step := range steps(place) {
		next := member(n, step)
		switch i, err := strconv.Atoi(step); {
		case next != nil:
			line = d.before + keyLine(n, step)
		case err == nil && element(n, i) != nil:
			next = element(n, i)
			line = d.before + next.Line
		default:
			return line
		}
		n = next
	}
	return line
}

func element(n *yaml.Node, i int) *yaml.Node {
	if n = resolve(n); n == nil || n.Kind != yaml.SequenceNode || i >= len(n.Content) {
		return nil
	}
	return n.Content[i]
}

func keyLine(n *yaml.Node, key string) int {
	n = resolve(n)
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i].Line
		}
	}
	return n.Line
}

// steps are the keys and indices of a place.
func steps(place string) (all []string) {
	for place != "" {
		switch place[0] {
		case '"':
			end := strings.IndexByte(place[1:], '"')
			if end < 0 {
				return all
			}
			all, place = append(all, place[1:1+end]), place[end+2:]
		case '.':
			place = place[1:]
		case '[':
			end := strings.IndexByte(place, ']')
			if end < 0 {
				return all
			}
			all, place = append(all, place[1:end]), place[end+1:]
		default:
			end := strings.IndexAny(place, ".[")
			if end < 0 {
				end = len(place)
			}
			all, place = append(all, place[:end]), place[end:]
		}
	}
	return all
}
