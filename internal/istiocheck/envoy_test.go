package istiocheck

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sentinel-envoy/internal/envoybin"
)

// A real Envoy loads the patched proxies, and with them the Wasm, by the filters' own types. Static resources know no
// unknown field, unlike an Istio proxy, which would ignore a misspelt one.
func TestEnvoyAcceptsThePatchedProxies(t *testing.T) {
	wasm := absolute(t, wasmFile)
	if _, err := os.Stat(wasm); err != nil {
		t.Fatalf("%v; run make wasm", err)
	}
	for _, proxy := range proxies {
		t.Run(proxy.name, func(t *testing.T) {
			bootstrap := patched(t, proxy.name, proxy.context)
			useWasm(bootstrap, wasm)
			if out, err := validate(t, bootstrap); err != nil {
				t.Errorf("Envoy refuses it: %v\n%s", err, out)
			}
		})
	}
}

func TestEnvoyRefusesAnUnknownField(t *testing.T) {
	bootstrap := patched(t, "sidecar.yaml", proxies[0].context)
	config := dig(firstWasm(t, bootstrap), "typed_config", "config").(document)
	config["no_such_field"] = true
	out, err := validate(t, bootstrap)
	if err == nil || !strings.Contains(out, "no_such_field") {
		t.Errorf("Envoy's answer does not name the unknown field: %v\n%s", err, out)
	}
}

// useWasm makes every Wasm filter of a bootstrap load the given file.
func useWasm(value any, file string) {
	switch value := value.(type) {
	case map[string]any:
		if local, ok := dig(value, "vm_config", "code", "local").(document); ok {
			local["filename"] = file
		}
		for _, v := range value {
			useWasm(v, file)
		}
	case []any:
		for _, v := range value {
			useWasm(v, file)
		}
	}
}

// validate has Envoy check a bootstrap, with the tags of envoy/istio merged in the way Istio's agent does it, and returns
// what it says.
func validate(t *testing.T, bootstrap document) (string, error) {
	t.Helper()
	// Compiling the Wasm takes seconds; the first use may download Envoy.
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	envoy, err := envoybin.Find(ctx, envoybin.Options{Log: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(bootstrap)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "bootstrap.json")
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	override := text(read(t, filepath.Join(istioDir, "bootstrap.yaml")), "data", "custom_bootstrap.json")
	out, err := exec.CommandContext(ctx, envoy, "--mode", "validate", "--config-path", file, "--config-yaml", override,
		"--reject-unknown-dynamic-fields", "--log-level", "warn").CombinedOutput()
	return string(out), err
}

func absolute(t *testing.T, file string) string {
	t.Helper()
	path, err := filepath.Abs(file)
	if err != nil {
		t.Fatal(err)
	}
	return path
}
