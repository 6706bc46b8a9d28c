package istiocheck

import (
	"encoding/json"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	mesh "istio.io/api/mesh/v1alpha1"
)

// required lists, for each kind of resource in envoy/istio but EnvoyFilter, what it cannot do without. Its API version
// comes first.
var required = map[string][][]any{
	"ServiceAccount":        {{"v1"}, {"metadata", "name"}},
	"Service":               {{"v1"}, {"metadata", "name"}, {"spec", "selector"}, {"spec", "ports", 0, "name"}},
	"ConfigMap":             {{"v1"}, {"metadata", "name"}, {"data"}},
	"PersistentVolumeClaim": {{"v1"}, {"metadata", "name"}, {"spec", "accessModes", 0}, {"spec", "resources", "requests", "storage"}},
	"Job": {{"batch/v1"}, {"metadata", "name"}, {"spec", "template", "spec", "restartPolicy"},
		{"spec", "template", "spec", "containers", 0, "name"}, {"spec", "template", "spec", "containers", 0, "image"}},
	"Kustomization": {{"kustomize.config.k8s.io/v1beta1"}, {"resources", 0}},
	"Deployment":    {{"apps/v1"}, {"metadata", "name"}, {"spec", "template", "metadata", "annotations"}},
}

// settings are files that are no resources but values for something else; each has a test of its own.
var settings = []string{"mesh-config.yaml", "gateway-values.yaml"}

func TestEveryFileParses(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(istioDir, "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no files in %s: %v", istioDir, err)
	}
	for _, file := range files {
		for _, doc := range readAll(t, file) {
			kind := text(doc, "kind")
			if kind == "EnvoyFilter" {
				if _, err := parseEnvoyFilter(doc); err != nil {
					t.Errorf("%s: %v", file, err)
				}
				continue
			}
			if kind == "WasmPlugin" {
				if err := parseWasmPlugin(doc); err != nil {
					t.Errorf("%s: %v", file, err)
				}
				continue
			}
			fields := required[kind]
			if len(fields) == 0 {
				if !slices.Contains(settings, filepath.Base(file)) {
					t.Errorf("%s: nothing is known about kind %q", file, kind)
				}
				continue
			}
			if version := text(doc, "apiVersion"); version != fields[0][0] {
				t.Errorf("%s: apiVersion of %s is %q, want %q", file, kind, version, fields[0][0])
			}
			for _, field := range fields[1:] {
				if dig(doc, field...) == nil {
					t.Errorf("%s: %s has no %v", file, kind, field)
				}
			}
		}
	}
}

func TestUnknownFieldsAreErrors(t *testing.T) {
	for name, spoil := range map[string]func(doc document){
		"top":      func(d document) { d["specs"] = document{} },
		"metadata": func(d document) { dig(d, "metadata").(document)["label"] = "x" },
		"spec":     func(d document) { dig(d, "spec").(document)["configPatch"] = []any{} },
		"match":    func(d document) { dig(d, "spec", "configPatches", 0, "match").(document)["port"] = 1 },
		"enum":     func(d document) { dig(d, "spec", "configPatches", 0, "patch").(document)["operation"] = "INSERT" },
		"kind":     func(d document) { d["kind"] = "WasmPlugin" },
		"name":     func(d document) { delete(dig(d, "metadata").(document), "name") },
	} {
		doc := read(t, filepath.Join(istioDir, "sidecar.yaml"))
		spoil(doc)
		if _, err := parseEnvoyFilter(doc); err == nil {
			t.Errorf("%s: parsing gave no error", name)
		}
	}
}

// wasmDir is the directory in which the EnvoyFilters expect the Wasm.
func wasmDir(t *testing.T) string {
	t.Helper()
	value := readEnvoyFilter(t, "sidecar.yaml").Spec.ConfigPatches[0].GetPatch().GetValue().AsMap()
	return path.Dir(text(value, "typed_config", "config", "vm_config", "code", "local", "filename"))
}

// The sidecar's annotations, the volume and the filters' file name must fit together; nothing in a cluster checks that
// before Envoy refuses its listeners.
func TestSidecarMountsTheWasm(t *testing.T) {
	deployment := read(t, filepath.Join(istioDir, "deployment-patch.yaml"))
	annotation := func(name string) document {
		var value document
		raw := text(deployment, "spec", "template", "metadata", "annotations", "sidecar.istio.io/"+name)
		if err := json.Unmarshal([]byte(raw), &value); err != nil {
			t.Fatalf("annotation %s: %v", name, err)
		}
		return value
	}
	volumes, mounts := annotation("userVolume"), annotation("userVolumeMount")
	if len(volumes) != 1 || len(mounts) != 1 {
		t.Fatalf("%d volumes and %d mounts, want 1 of each", len(volumes), len(mounts))
	}
	resources := readAll(t, filepath.Join(istioDir, "wasm-volume.yaml"))
	claim, job := resources[0], resources[1]
	for name, volume := range volumes {
		if got := text(mounts, name, "mountPath"); got != wasmDir(t) {
			t.Errorf("volume %q is mounted at %q, the filters look in %q", name, got, wasmDir(t))
		}
		if got, want := text(volume, "persistentVolumeClaim", "claimName"), text(claim, "metadata", "name"); got != want {
			t.Errorf("the sidecar claims %q, the volume is %q", got, want)
		}
	}
	if got, want := text(job, "spec", "template", "spec", "volumes", 0, "persistentVolumeClaim", "claimName"),
		text(claim, "metadata", "name"); got != want {
		t.Errorf("the job fills %q, the volume is %q", got, want)
	}
	selector := readEnvoyFilter(t, "sidecar.yaml").Spec.GetWorkloadSelector().GetLabels()
	if app := text(deployment, "metadata", "name"); selector["app"] != app {
		t.Errorf("the filter selects %v, the deployment is %q", selector, app)
	}
}

func TestGatewayMountsTheWasm(t *testing.T) {
	values := read(t, filepath.Join(istioDir, "gateway-values.yaml"))
	volume := text(values, "volumes", 0, "name")
	for _, mount := range []any{dig(values, "volumeMounts", 0), dig(values, "initContainers", 0, "volumeMounts", 0)} {
		if text(mount, "name") != volume || text(mount, "mountPath") != wasmDir(t) {
			t.Errorf("mount is %v, want volume %q at %q", mount, volume, wasmDir(t))
		}
	}
	selector := readEnvoyFilter(t, "gateway.yaml").Spec.GetWorkloadSelector().GetLabels()
	for key, want := range selector {
		if got := text(values, "labels", key); got != want {
			t.Errorf("the filter selects %s=%s, the gateway has %q", key, want, got)
		}
	}
}

func TestBootstrapHasEnvoyYAMLsTags(t *testing.T) {
	config := read(t, filepath.Join(istioDir, "bootstrap.yaml"))
	var override document
	if err := json.Unmarshal([]byte(text(config, "data", "custom_bootstrap.json")), &override); err != nil {
		t.Fatal(err)
	}
	want := dig(read(t, envoyYAML), "stats_config", "stats_tags")
	if got := dig(override, "stats_config", "stats_tags"); want == nil || !reflect.DeepEqual(got, want) {
		t.Errorf("stats_tags are %v, want %v", got, want)
	}
	// Of two tags with one name, Envoy takes the first that matches: Istio's.
	istios := list(read(t, "testdata/sidecar.yaml"), "stats_config", "stats_tags")
	for _, tag := range list(override, "stats_config", "stats_tags") {
		name := text(tag, "tag_name")
		if slices.ContainsFunc(istios, func(other any) bool { return text(other, "tag_name") == name }) {
			t.Errorf("the tag %q is Istio's", name)
		}
	}
	name := text(config, "metadata", "name")
	for file, at := range map[string][]any{
		"deployment-patch.yaml": {"spec", "template", "metadata", "annotations"},
		"gateway-values.yaml":   {"podAnnotations"},
	} {
		pod := dig(read(t, filepath.Join(istioDir, file)), at...)
		if got := text(pod, "sidecar.istio.io/bootstrapOverride"); got != name {
			t.Errorf("%s names the bootstrap %q, want %q", file, got, name)
		}
	}
}

func TestMeshConfigMergesSlashes(t *testing.T) {
	raw, err := json.Marshal(read(t, filepath.Join(istioDir, "mesh-config.yaml")))
	if err != nil {
		t.Fatal(err)
	}
	config := new(mesh.MeshConfig)
	if err := protojson.Unmarshal(raw, config); err != nil {
		t.Fatal(err)
	}
	const want = mesh.MeshConfig_ProxyPathNormalization_DECODE_AND_MERGE_SLASHES
	if got := config.GetPathNormalization().GetNormalization(); got != want {
		t.Errorf("normalization is %v, want %v", got, want)
	}
}

// Every file is explained.
func TestReadmeNamesEveryFile(t *testing.T) {
	readme, err := os.ReadFile(filepath.Join(istioDir, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(istioDir, "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if !strings.Contains(string(readme), "`"+filepath.Base(file)+"`") {
			t.Errorf("README.md does not speak of %s", filepath.Base(file))
		}
	}
}
