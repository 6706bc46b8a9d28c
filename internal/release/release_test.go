package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sentinel-envoy/internal/wasmbuild/buildtest"
)

const changelog = `# Changelog

## [Unreleased]

- to come

## [0.2.0] - 2026-01-31

### Added

- [links](x.md) stay

## [0.1.0]

[Unreleased]: https://example.com
`

// tree is a repository of the small plugin, with a changelog, whose commit is tagged.
func tree(t *testing.T, tag string) options {
	t.Helper()
	o := options{root: t.TempDir(), pkg: buildtest.Heap}
	o.out = filepath.Join(o.root, "dist", "release")
	buildtest.Tree(t, o.root, "LICENSE", "NOTICE")
	write(t, filepath.Join(o.root, "CHANGELOG.md"), changelog)
	write(t, filepath.Join(o.root, ".gitignore"), "dist/\n")
	buildtest.Commit(t, o.root, tag)
	return o
}

// TestReleaseIsWhatAPageNeeds releases the same commit from two directories and looks at every file.
func TestReleaseIsWhatAPageNeeds(t *testing.T) {
	var sums [2]string
	for i := range sums {
		o := tree(t, "v0.2.0")
		write(t, filepath.Join(o.out, "old"), "of the release before")
		if err := release(t.Context(), t.Output(), o); err != nil {
			t.Fatal(err)
		}
		files, err := os.ReadDir(o.out)
		if err != nil {
			t.Fatal(err)
		}
		var want bytes.Buffer
		var names []string
		for _, f := range files {
			names = append(names, f.Name())
			if f.Name() != "SHA256SUMS" {
				fmt.Fprintf(&want, "%x  %s\n", sha256.Sum256(read(t, o.out, f.Name())), f.Name())
			}
		}
		sums[i] = string(read(t, o.out, "SHA256SUMS"))
		if sums[i] != want.String() {
			t.Errorf("SHA256SUMS:\n%swant\n%s", sums[i], want.String())
		}
		if got := strings.Join(names, " "); got != "CHANGELOG.md LICENSE NOTICE SHA256SUMS sentinel.wasm" {
			t.Errorf("it has %s", got)
		}
		if !bytes.Contains(read(t, o.out, "sentinel.wasm"), []byte("v0.2.0")) {
			t.Error("the binary does not know its version")
		}
		if got := string(read(t, o.out, "CHANGELOG.md")); got != "### Added\n\n- [links](x.md) stay\n" {
			t.Errorf("CHANGELOG.md has %q", got)
		}
	}
	if sums[0] != sums[1] {
		t.Errorf("two releases of one commit differ:\n%s\n%s", sums[0], sums[1])
	}
}

func TestReleaseSaysWhatIsMissing(t *testing.T) {
	for _, c := range []struct {
		name, version string
		spoil         func(o options)
		want          string
	}{
		{"no tag", "", nil, "make release VERSION="},
		{"no version", "0.2.0", nil, "must be of the form v0.1.0"},
		{"empty section", "v0.1.0", nil, "under ## [0.1.0]"},
		{"no section", "v0.3.0", nil, "under ## [0.3.0]"},
		{"changed tree", "v0.2.0", func(o options) { write(t, filepath.Join(o.root, "NOTICE"), "changed") }, "-dirty"},
		{"no such TinyGo", "v0.2.0", nil, "/no/such/tinygo"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := tree(t, "")
			o.version, o.tinyGo = c.version, "/no/such/tinygo"
			if c.spoil != nil {
				c.spoil(o)
			}
			write(t, filepath.Join(o.out, "old"), "of the release before")
			err := release(t.Context(), io.Discard, o)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
			if got := string(read(t, o.out, "old")); got == "" {
				t.Error("the release before is gone")
			}
			if left, _ := os.ReadDir(filepath.Dir(o.out)); len(left) != 1 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func TestOtherToolchainIsRefused(t *testing.T) {
	dir := t.TempDir()
	for mod, want := range map[string]string{
		"module m\ngo 1.26\ntoolchain go1.26.999\n": "GOTOOLCHAIN=go1.26.999",
		"module m\ngo 1.26\n":                       "no toolchain line",
	} {
		t.Setenv("GOTOOLCHAIN", "local")
		write(t, filepath.Join(dir, "go.mod"), mod)
		if err := reproducible(t.Context(), dir); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
}

func TestPrereleaseMayBeUnreleased(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "CHANGELOG.md"), changelog)
	if got, err := changes(dir, "v0.3.0-rc.1"); err != nil || string(got) != "- to come\n" {
		t.Errorf("%q, %v", got, err)
	}
}

func read(t *testing.T, dir, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o666); err != nil {
		t.Fatal(err)
	}
}
