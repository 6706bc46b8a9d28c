package parts_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sentinel-envoy/internal/wasmbuild/build"
	"sentinel-envoy/internal/wasmbuild/buildtest"
	"sentinel-envoy/internal/wasmbuild/module"
	"sentinel-envoy/internal/wasmbuild/parts"
)

func TestPartsOfAPlugin(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles a plugin")
	}
	out := filepath.Join(t.TempDir(), "heap.wasm")
	_, err := build.Build(context.Background(), build.Options{Dir: "../../..", Package: buildtest.Heap, Out: out, Names: true})
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	m, err := module.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	list, err := parts.Of(m)
	if err != nil {
		t.Fatal(err)
	}
	of, all := map[string]int{}, 0
	for _, p := range list {
		of[p.Name] += p.Size
		all += p.Size
	}
	if list[0].Name != "Go's runtime" || of["Proxy-Wasm SDK"] == 0 || all+m.DataSize() > len(b) || all+m.DataSize() < len(b)/2 {
		t.Errorf("%d bytes, data %d of them, are %v", len(b), m.DataSize(), list)
	}
	var table strings.Builder
	if err := parts.Write(&table, m); err != nil || !strings.Contains(table.String(), "| Go's runtime | ") {
		t.Errorf("%v: %s", err, table.String())
	}
}
