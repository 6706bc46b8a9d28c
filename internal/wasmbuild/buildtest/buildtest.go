// Package buildtest gives tests a small source tree to build a plugin from, outside the project's own.
package buildtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
)

// Heap is the main package of Tree, as the go command takes it there.
const Heap = "./internal/wasmbuild/testdata/heap"

// Tree copies into dir what the plugin of Heap is made of, and the named files of the project's root besides.
func Tree(t testing.TB, dir string, files ...string) {
	t.Helper()
	_, here, _, _ := runtime.Caller(0)
	root := filepath.Join(filepath.Dir(here), "../../..")
	for _, name := range append([]string{"go.mod", "go.sum"}, files...) {
		copyFile(t, filepath.Join(root, name), filepath.Join(dir, name))
	}
	for _, pkg := range []string{Heap, "shared/version"} {
		files, err := filepath.Glob(filepath.Join(root, pkg, "*.go"))
		if err != nil || files == nil {
			t.Fatalf("%s: no Go files (%v)", pkg, err)
		}
		for _, f := range files {
			copyFile(t, f, filepath.Join(dir, pkg, filepath.Base(f)))
		}
	}
}

// Commit makes a repository of dir with one commit of all files, the same commit wherever dir is. A tag of "" tags nothing.
func Commit(t testing.TB, dir, tag string) {
	t.Helper()
	Git(t, dir, "init", "-q")
	Git(t, dir, "add", "-A")
	Git(t, dir, "commit", "-q", "-m", "all")
	if tag != "" {
		Git(t, dir, "tag", tag)
	}
}

// Git runs git in dir, as nobody in particular and at no time in particular.
func Git(t testing.TB, dir string, args ...string) {
	t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL="+os.DevNull, "GIT_CONFIG_NOSYSTEM=1")
	for _, who := range []string{"AUTHOR", "COMMITTER"} {
		cmd.Env = append(cmd.Env, "GIT_"+who+"_NAME=nobody", "GIT_"+who+"_EMAIL=nobody@example.com",
			"GIT_"+who+"_DATE=2026-01-01T00:00:00Z")
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("git %v: %v\n%s", args, err, out)
	}
}

func copyFile(t testing.TB, from, to string) {
	t.Helper()
	text, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, text, 0o666); err != nil {
		t.Fatal(err)
	}
}
