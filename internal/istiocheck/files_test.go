package istiocheck

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	extensions "istio.io/api/extensions/v1alpha1"
	networking "istio.io/api/networking/v1alpha3"
	"istio.io/client-go/pkg/apis/networking/v1alpha3"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"
)

const (
	istioDir  = "../../envoy/istio"
	envoyYAML = "../../envoy/envoy.yaml"
	wasmFile  = "../../dist/sentinel.wasm"
)

// document is one YAML document as encoding/json sees it.
type document = map[string]any

// read returns the single document of a file.
func read(t *testing.T, path string) document {
	t.Helper()
	docs := readAll(t, path)
	if len(docs) != 1 {
		t.Fatalf("%s has %d documents, want 1", path, len(docs))
	}
	return docs[0]
}

// readAll returns the documents of a file. A key given twice is an error.
func readAll(t *testing.T, path string) []document {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var docs []document
	for _, part := range strings.Split(string(data), "\n---\n") {
		var doc document
		if err := yaml.UnmarshalStrict([]byte(part), &doc); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		docs = append(docs, doc)
	}
	return docs
}

// readEnvoyFilter returns the EnvoyFilter in a file of envoy/istio.
func readEnvoyFilter(t *testing.T, name string) *v1alpha3.EnvoyFilter {
	t.Helper()
	filter, err := parseEnvoyFilter(read(t, filepath.Join(istioDir, name)))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return filter
}

// parseEnvoyFilter converts to Istio's own type. Its UnmarshalJSON lets unknown fields pass, as the API server does; here
// they are errors, at every level down to a patch's value, which is free-form for Istio too.
func parseEnvoyFilter(doc document) (*v1alpha3.EnvoyFilter, error) {
	raw, err := parseStrictly(doc, v1alpha3.SchemeGroupVersion.WithKind("EnvoyFilter"), new(networking.EnvoyFilter))
	if err != nil {
		return nil, err
	}
	filter := new(v1alpha3.EnvoyFilter)
	return filter, json.Unmarshal(raw, filter)
}

// parseWasmPlugin finds the same mistakes in a WasmPlugin.
func parseWasmPlugin(doc document) error {
	spec := new(extensions.WasmPlugin)
	_, err := parseStrictly(doc, schema.GroupVersionKind{Group: "extensions.istio.io", Version: "v1alpha1", Kind: "WasmPlugin"}, spec)
	if err == nil && (spec.GetUrl() == "" || spec.GetPluginName() == "") {
		err = fmt.Errorf("spec has no url or no pluginName")
	}
	return err
}

// parseStrictly reads the spec of a resource of that kind into spec, and gives the whole as JSON.
func parseStrictly(doc document, gvk schema.GroupVersionKind, spec proto.Message) ([]byte, error) {
	raw, err := json.Marshal(doc)
	if err != nil {
		return nil, err
	}
	var envelope struct {
		metav1.TypeMeta
		Metadata metav1.ObjectMeta `json:"metadata"`
		Spec     json.RawMessage   `json:"spec"`
	}
	strict := json.NewDecoder(bytes.NewReader(raw))
	strict.DisallowUnknownFields()
	if err := strict.Decode(&envelope); err != nil {
		return nil, err
	}
	if envelope.GroupVersionKind() != gvk {
		return nil, fmt.Errorf("is a %v, want %v", envelope.GroupVersionKind(), gvk)
	}
	if envelope.Metadata.Name == "" {
		return nil, fmt.Errorf("metadata.name is missing")
	}
	if err := protojson.Unmarshal(envelope.Spec, spec); err != nil {
		return nil, fmt.Errorf("spec: %w", err)
	}
	return raw, nil
}

// dig follows map keys and slice indices, and returns nil where the way ends.
func dig(value any, path ...any) any {
	for _, step := range path {
		switch step := step.(type) {
		case string:
			m, _ := value.(map[string]any)
			value = m[step]
		case int:
			s, _ := value.([]any)
			if step >= len(s) {
				return nil
			}
			value = s[step]
		}
	}
	return value
}

// list is dig for a list; what is no list is an empty one.
func list(value any, path ...any) []any {
	l, _ := dig(value, path...).([]any)
	return l
}

// text is dig for a string.
func text(value any, path ...any) string {
	s, _ := dig(value, path...).(string)
	return s
}
