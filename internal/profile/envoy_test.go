package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sentinel-envoy/internal/envoybin"
)

const flags = "--no-liftoff --wasm_max_mem_pages=%u --stack-trace-limit=%u"

func TestPatch(t *testing.T) {
	binary := []byte("before\x00" + flags + "\x00after")
	if err := patch(binary); err != nil {
		t.Fatal(err)
	}
	// As long as before, so that nothing in the binary moves; V8 takes spaces at the end.
	want := "before\x00--no-liftoff --perf-basic-prof --wasm_max_mem_pages=%u     \x00after"
	if string(binary) != want {
		t.Errorf("got\n%q, want\n%q", binary, want)
	}
}

func TestPatchLeavesWhatItDoesNotKnow(t *testing.T) {
	for name, text := range map[string]string{
		"missing":      "before\x00after",
		"twice":        flags + "\x00" + flags + "\x00",
		"alone":        "\x00--no-liftoff\x00", // as in Envoy 1.38
		"other first":  "--no-liftoff --stack-trace-limit=%u --wasm_max_mem_pages=%u\x00",
		"no room":      "--no-liftoff --wasm_max_mem_pages=%u --x=%u\x00",
		"without end":  flags,
		"empty binary": "",
	} {
		binary := []byte(text)
		if err := patch(binary); err == nil || !strings.Contains(err.Error(), "--no-liftoff") {
			t.Errorf("%s: error %v, want one that names the flags", name, err)
		}
		if string(binary) != text {
			t.Errorf("%s: changed to %q", name, binary)
		}
	}
}

func TestCopyProfiled(t *testing.T) {
	from, to := filepath.Join(t.TempDir(), "from"), filepath.Join(t.TempDir(), "to")
	original := []byte("before\x00" + flags + "\x00after")
	if err := os.WriteFile(from, original, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := copyProfiled(to, from); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(from); err != nil || !bytes.Equal(b, original) {
		t.Errorf("the original is now %q, %v", b, err)
	}
	b, err := os.ReadFile(to)
	if err != nil || !bytes.Contains(b, []byte("--perf-basic-prof")) || len(b) != len(original) {
		t.Errorf("the copy is %q, %v", b, err)
	}
	if info, err := os.Stat(to); err != nil || info.Mode()&0o100 == 0 {
		t.Errorf("the copy cannot be run: %v, %v", info.Mode(), err)
	}
	if err := os.WriteFile(from, []byte("no flags"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := copyProfiled(to+"2", from); err == nil || !strings.Contains(err.Error(), from) {
		t.Errorf("error %v, want one that names %s", err, from)
	}
}

// TestDefaultEnvoy fails where a new release has other flags.
func TestDefaultEnvoy(t *testing.T) {
	if testing.Short() {
		t.Skip("may download Envoy")
	}
	from, err := envoybin.Find(t.Context(), envoybin.Options{Version: envoybin.DefaultVersion})
	if err != nil {
		t.Fatal(err)
	}
	if err := copyProfiled(filepath.Join(t.TempDir(), "envoy"), from); err != nil {
		t.Error(err)
	}
}
