package kustomizecheck

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

const envoy = "../../envoy"

// object is a Kubernetes resource.
type object = map[string]any

// documents are the resources of a file, by their kinds.
func documents(t *testing.T, text []byte) map[string]object {
	t.Helper()
	all := map[string]object{}
	for _, part := range bytes.Split(text, []byte("\n---\n")) {
		var o object
		if err := yaml.Unmarshal(part, &o); err != nil {
			t.Fatal(err)
		}
		if o != nil {
			all[o["kind"].(string)] = o
		}
	}
	return all
}

// tree is a copy of the files that Kustomize reads, with values.yaml changed.
func tree(t *testing.T, change *strings.Replacer) string {
	t.Helper()
	dir := t.TempDir()
	for _, sub := range []string{"istio", "kustomize"} {
		if err := os.CopyFS(filepath.Join(dir, sub), os.DirFS(filepath.Join(envoy, sub))); err != nil {
			t.Fatal(err)
		}
	}
	values := filepath.Join(dir, "kustomize", "values.yaml")
	if err := os.WriteFile(values, []byte(change.Replace(string(read(t, values)))), 0o644); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "kustomize")
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// render is what kubectl apply -k would apply.
func render(t *testing.T, dir string) map[string]object {
	t.Helper()
	made, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), dir)
	if err != nil {
		t.Fatal(err)
	}
	text, err := made.AsYaml()
	if err != nil {
		t.Fatal(err)
	}
	return documents(t, text)
}

// istio are the resources of envoy/istio as they lie there, with some words changed, in the namespace default.
func istio(t *testing.T, change *strings.Replacer) map[string]object {
	t.Helper()
	all := map[string]object{}
	for _, name := range []string{"wasm-volume.yaml", "bootstrap.yaml", "sidecar.yaml"} {
		text := change.Replace(string(read(t, filepath.Join(envoy, "istio", name))))
		for kind, o := range documents(t, []byte(text)) {
			o["metadata"].(object)["namespace"] = "default"
			all[kind] = o
		}
	}
	return all
}

// With the values that lie there, Kustomize renders what lies in envoy/istio; with others, that with these in their places.
func TestKustomizeRendersTheSameResources(t *testing.T) {
	for name, change := range map[string]*strings.Replacer{
		"as it lies there": strings.NewReplacer(),
		"for another workload": strings.NewReplacer("app: go-httpbin", "app: orders",
			"registry.example.com/sentinel-wasm:1.0.0", "registry.example.com/sentinel-wasm@sha256:0123",
			"wasm-filters/sentinel.wasm", "wasm-filters/sentinel-1.1.0.wasm",
			"{id: some-test-qps, resource: some-test, threshold: 50, statIntervalInMs: 1000}",
			"{id: orders-qps, resource: /orders, threshold: 7}"),
	} {
		t.Run(name, func(t *testing.T) {
			got, want := render(t, tree(t, change)), istio(t, change)
			for kind, o := range want {
				if !reflect.DeepEqual(got[kind], o) {
					made, _ := yaml.Marshal(got[kind])
					lies, _ := yaml.Marshal(o)
					t.Errorf("%s:\n%s\nwant\n%s", kind, made, lies)
				}
			}
			if len(got) != len(want) || len(want) != 4 {
				t.Errorf("%d resources, want %d", len(got), len(want))
			}
		})
	}
}
