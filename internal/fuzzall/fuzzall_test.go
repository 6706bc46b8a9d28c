package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"sentinel-envoy/internal/envoytest"
)

// module makes a module with one package whose test file is given, and goes there.
func module(t *testing.T, testFile string) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"go.mod": "module toy\n\ngo 1.26\n", "toy.go": "package toy\n", "toy_test.go": testFile} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
}

const toy = `package toy

import "testing"

func FuzzFine(f *testing.F) {
	f.Fuzz(func(t *testing.T, n int) {})
}

func FuzzBad(f *testing.F) {
	f.Fuzz(func(t *testing.T, n int) {
		if n > 20 {
			t.Error("too large")
		}
	})
}

func TestNone(t *testing.T) {}
`

func TestTellsWhichTargetFailedAndWhereTheInputIs(t *testing.T) {
	module(t, toy)
	var out bytes.Buffer
	if err := run(t.Context(), &out, []string{"./..."}, time.Second, 1); !errors.Is(err, errFailed) {
		t.Fatalf("%v\n%s", err, &out)
	}
	var fine, bad string
	for line := range strings.Lines(out.String()) {
		switch {
		case strings.Contains(line, "|") && strings.Contains(line, "FuzzFine"):
			fine = line
		case strings.Contains(line, "|") && strings.Contains(line, "FuzzBad"):
			bad = line
		}
	}
	if !strings.Contains(fine, "passed") {
		t.Errorf("FuzzFine: %q", fine)
	}
	_, path, found := strings.Cut(bad, "FAILED: ")
	if !found {
		t.Fatalf("FuzzBad: %q in\n%s", bad, &out)
	}
	path, _, _ = strings.Cut(path, "|")
	if input, err := os.ReadFile(strings.TrimSpace(path)); err != nil || !strings.HasPrefix(string(input), "go test fuzz v1\n") {
		t.Errorf("the failing input: %q, %v", input, err)
	}
}

func TestNoTargetIsAMistake(t *testing.T) {
	module(t, "package toy\n")
	if err := run(t.Context(), &bytes.Buffer{}, []string{"./..."}, time.Second, 1); err == nil || errors.Is(err, errFailed) {
		t.Errorf("got %v", err)
	}
}

// endless has a target that never fails, and whose processes tell their ids.
const endless = `package toy

import (
	"os"
	"strconv"
	"testing"
)

func init() {
	f, err := os.OpenFile("pids", os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err == nil {
		_, err = f.WriteString(strconv.Itoa(os.Getpid()) + "\n")
	}
	if err != nil {
		panic(err)
	}
}

func FuzzEndless(f *testing.F) {
	f.Fuzz(func(t *testing.T, n int) {})
}
`

// pids are the processes of endless that have begun.
func pids() (all []int) {
	text, _ := os.ReadFile("pids")
	for line := range strings.Lines(string(text)) {
		if pid, err := strconv.Atoi(strings.TrimSuffix(line, "\n")); err == nil {
			all = append(all, pid)
		}
	}
	return all
}

func alive() (some []int) {
	for _, pid := range pids() {
		if syscall.Kill(pid, 0) == nil {
			some = append(some, pid)
		}
	}
	return some
}

func TestEndsWithItsContextAndLeavesNoProcess(t *testing.T) {
	module(t, endless)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- run(ctx, &bytes.Buffer{}, []string{"./..."}, time.Hour, 1) }()
	// One lists the targets, one fuzzes, and one tries the inputs.
	envoytest.Eventually(t, time.Minute, "inputs are tried", func() bool { return len(pids()) >= 3 })
	cancel()
	select {
	case err := <-done:
		if err == nil {
			t.Error("no error")
		}
	case <-time.After(time.Minute):
		t.Error("it goes on")
	}
	envoytest.Eventually(t, time.Minute, "all its processes are gone", func() bool { return len(alive()) == 0 })
}

func TestProgress(t *testing.T) {
	out := []byte("fuzz: elapsed: 3s, execs: 5 (1/sec), new interesting: 1 (total: 4)\n" +
		"fuzz: elapsed: 6s, execs: 128052 (9/sec), new interesting: 7 (total: 12)\nPASS\n")
	if execs, interesting, corpus := progress(out); execs != 128052 || interesting != 7 || corpus != 12 {
		t.Errorf("%d execs, %d interesting, %d in the corpus", execs, interesting, corpus)
	}
	if execs, _, _ := progress([]byte("PASS\n")); execs != 0 {
		t.Errorf("%d execs of nothing", execs)
	}
}

func TestTheEndOfTheTimeIsNoFailure(t *testing.T) {
	const progress = "fuzz: elapsed: 1m0s, execs: 128052 (9/sec), new interesting: 7 (total: 12)\n"
	const input = "    \n    Failing input written to testdata/fuzz/FuzzIt/9e\n    To re-run:\n    go test -run=FuzzIt/9e\n"
	exit := errors.New("exit status 1")
	for _, c := range []struct {
		name, out string
		want      error
	}{
		{"time", "--- FAIL: FuzzIt (60.14s)\n    context deadline exceeded\nFAIL\nexit status 1\n", nil},
		{"input", "--- FAIL: FuzzIt (3.14s)\n    --- FAIL: FuzzIt (0.00s)\n        it_test.go:8: bad\n" + input + "FAIL\n", exit},
		{"input that says so", "--- FAIL: FuzzIt (3.14s)\n    context deadline exceeded\nFAIL\n" + input, exit},
		{"seed", "--- FAIL: FuzzIt (0.01s)\n    --- FAIL: FuzzIt/seed#0 (0.00s)\n        it_test.go:8: context deadline exceeded\nFAIL\n", exit},
		{"worker", "--- FAIL: FuzzIt (1.00s)\n    fuzzing process hung or terminated unexpectedly: exit status 2\nFAIL\n", exit},
		{"build", "FAIL\ttoy [build failed]\n", exit},
	} {
		if got := failure([]byte(progress+c.out), exit); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}
