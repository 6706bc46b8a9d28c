package tinygo

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// pin writes files that pin a release.
func pin(t *testing.T, mod string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for name, text := range map[string]string{"go.mod": mod, "go.sum": ""} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestAnotherReleaseIsAnotherCompiler(t *testing.T) {
	roots := make([]string, 3)
	for i, mod := range []string{"v0.41.0", "v0.41.0", "v0.42.0"} {
		var err error
		if roots[i], err = cachedRoot("/cache", pin(t, mod)); err != nil {
			t.Fatal(err)
		}
	}
	if roots[0] != roots[1] || roots[0] == roots[2] || !strings.HasPrefix(roots[0], "/cache/tinygo-") {
		t.Errorf("compilers in %v", roots)
	}
}

func TestMissingPackagesAreNamed(t *testing.T) {
	got := missing(func(path string) bool { return !strings.Contains(path, "wasi") })
	if want := []string{"libclang-rt-19-dev-wasm32", "wasi-libc"}; !slices.Equal(got, want) {
		t.Errorf("missing %v, want %v", got, want)
	}
	err := byHand(got, "apt-get install wasi-libc")
	if !errors.Is(err, ErrPackages) {
		t.Errorf("%v is no ErrPackages: who could do without TinyGo would fail", err)
	}
	text := err.Error()
	for _, part := range []string{"libclang-rt-19-dev-wasm32, wasi-libc", "As root: apt-get install", "TINYGO="} {
		if !strings.Contains(text, part) {
			t.Errorf("%q lacks %q", text, part)
		}
	}
}

// A compiler that could not be built leaves nothing that looks like one.
func TestInstallIsAllOrNothing(t *testing.T) {
	root := filepath.Join(t.TempDir(), "tinygo")
	if err := install(context.Background(), pin(t, "module none\n"), root); err == nil {
		t.Error("a module without TinyGo made one")
	}
	if left, _ := os.ReadDir(filepath.Dir(root)); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
