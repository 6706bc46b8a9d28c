package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"sentinel-envoy/internal/wasmbuild/module"
)

// described is what the table says of the module.
type described struct {
	size   int
	sha256 string
	abi    string   // the Proxy-Wasm ABI that it speaks, such as "0.2.1"
	asks   []string // the host functions that it imports
	inside []string // those that the go command's own build would import besides
}

// describe reads the module, and holds its imports against those of a plain build of the same package.
func describe(ctx context.Context, path, pkg string) (described, error) {
	ours, err := os.ReadFile(path)
	if err != nil {
		return described{}, fmt.Errorf("run make wasm: %w", err)
	}
	d := described{size: len(ours), sha256: fmt.Sprintf("%x", sha256.Sum256(ours))}
	m, err := module.Parse(ours)
	if err != nil {
		return described{}, err
	}
	exports, err := m.Exports()
	if err != nil {
		return described{}, err
	}
	for _, e := range exports {
		if abi, ok := strings.CutPrefix(e.Name, "proxy_abi_version_"); ok {
			d.abi = strings.ReplaceAll(abi, "_", ".")
		}
	}
	if d.asks, err = imports(m); err != nil {
		return described{}, err
	}
	plain, err := plainImports(ctx, pkg)
	if err != nil {
		return described{}, err
	}
	d.inside = slices.DeleteFunc(plain, func(name string) bool { return slices.Contains(d.asks, name) })
	return d, nil
}

// plainImports are the imports of what `go build` makes of a package.
func plainImports(ctx context.Context, pkg string) ([]string, error) {
	dir, err := os.MkdirTemp("", "compat")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "plain.wasm")
	cmd := exec.CommandContext(ctx, "go", "build", "-buildmode=c-shared", "-o", path, pkg)
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go build %s: %w: %s", pkg, err, out)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	m, err := module.Parse(b)
	if err != nil {
		return nil, err
	}
	return imports(m)
}

// imports are the names of a module's imports, sorted, each once.
func imports(m *module.Module) ([]string, error) {
	list, err := m.Imports()
	if err != nil {
		return nil, err
	}
	names := make([]string, len(list))
	for i, in := range list {
		names[i] = in.Name
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}
