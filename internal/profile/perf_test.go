package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestMissingPerfSaysHowToGetIt(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	if _, err := findPerf(); err == nil || !strings.Contains(err.Error(), "linux-perf") {
		t.Errorf("error %v, want one that names the package", err)
	}
}

func TestPerfsOwnMessageIsShown(t *testing.T) {
	perf := filepath.Join(t.TempDir(), "perf")
	const script = "#!/bin/sh\necho 'perf_event_paranoid setting is 4' >&2\nexit 255\n"
	if err := os.WriteFile(perf, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	err := record(t.Context(), perf, filepath.Join(t.TempDir(), "data"), os.Getpid(), 1)
	if err == nil || !strings.Contains(err.Error(), "perf_event_paranoid setting is 4") {
		t.Errorf("error %v, want perf's own message", err)
	}
}
