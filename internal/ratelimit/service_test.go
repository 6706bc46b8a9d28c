package ratelimit

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestDaemon(t *testing.T) {
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Skip(err)
	}
	file := filepath.Join(t.TempDir(), "log")
	d, err := startDaemon(exec.Command("sh", "-c", "echo why >&2; exit 3"), file)
	if err != nil {
		t.Fatal(err)
	}
	err = d.waitFor(t.Context(), file+".sock")
	if err == nil || !strings.Contains(err.Error(), "exit status 3") || !strings.Contains(err.Error(), "why") {
		t.Errorf("a process that ended: %v", err)
	}
	d.stop()
	if d, err = startDaemon(exec.Command(sleep, "60"), file); err != nil {
		t.Fatal(err)
	}
	d.stop()
	select {
	case <-d.ended:
	default:
		t.Error("it still runs")
	}
}
