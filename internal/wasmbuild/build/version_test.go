package build

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sentinel-envoy/internal/wasmbuild/buildtest"
)

// TestVersionComesFromTheTag asks a repository in each state for what the linker is told.
func TestVersionComesFromTheTag(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	flags := func(given string) string {
		t.Helper()
		f, err := versionFlags(t.Context(), Options{Dir: dir, Version: given})
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(f, " ")
	}
	want := func(state, got string, parts ...string) {
		t.Helper()
		for _, part := range parts {
			if !strings.Contains(got, part) {
				t.Errorf("%s: the linker is told %q, want %q in it", state, got, part)
			}
		}
	}
	if got := flags(""); got != "" {
		t.Errorf("no repository: the linker is told %q", got)
	}
	if err := os.WriteFile(file, []byte("a"), 0o666); err != nil {
		t.Fatal(err)
	}
	buildtest.Commit(t, dir, "not-a-release")
	if got := flags(""); strings.Contains(got, "Version") || !strings.Contains(got, "Commit") {
		t.Errorf("no release: the linker is told %q", got)
	}
	buildtest.Git(t, dir, "tag", "v0.2.0")
	want("tagged", flags(""), "version.Version=v0.2.0", "version.Commit=")
	want("given", flags("v0.3.0-rc.1"), "version.Version=v0.3.0-rc.1")
	if err := os.WriteFile(file, []byte("b"), 0o666); err != nil {
		t.Fatal(err)
	}
	if got := flags(""); strings.Contains(got, "Version") || !strings.HasSuffix(got, "-dirty") {
		t.Errorf("changed after the tag: the linker is told %q", got)
	}
}

func TestVersionIsOneWord(t *testing.T) {
	for _, bad := range []string{"v0.1.0 -X other=1", "-s", "v1'", "v1\n"} {
		if _, err := versionFlags(t.Context(), Options{Dir: t.TempDir(), Version: bad}); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

// TestBuildsAtOnce writes one file from many sides, as two `make run` in a fresh clone do.
func TestBuildsAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dist", "x.wasm")
	errs := make(chan error)
	const builds = 16
	for range builds {
		go func() { errs <- write(path, []byte("module"), "sum") }()
	}
	for range builds {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	for name, content := range map[string]string{path: "module", path + ".sha256": "sum  x.wasm\n"} {
		if got := string(read(t, name)); got != content {
			t.Errorf("%s: %q, want %q", name, got, content)
		}
	}
	if files, err := os.ReadDir(filepath.Dir(path)); err != nil || len(files) != 2 {
		t.Errorf("files are left: %v, %v", files, err)
	}
}
