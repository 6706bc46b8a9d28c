package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

const (
	// samplesPerSecond is how often each busy core is looked at.
	samplesPerSecond = 4000
	// endTimeout is how long perf may take to end when it is told to.
	endTimeout = 5 * time.Second
)

// findPerf gives the path of perf.
func findPerf() (string, error) {
	path, err := exec.LookPath("perf")
	if err != nil {
		return "", errors.New("perf is not in $PATH: install it (Debian: package linux-perf; Ubuntu: linux-tools-generic)")
	}
	return path, nil
}

// record samples the stacks of a process for d. They are found by frame pointers, which Envoy, V8's code and Go's all keep.
func record(ctx context.Context, perf, file string, pid int, d time.Duration) error {
	_, err := runPerf(ctx, perf, "record", "--quiet", "--no-buildid-cache", "--call-graph", "fp",
		"-F", strconv.Itoa(samplesPerSecond), "-p", strconv.Itoa(pid), "-o", file,
		"--", "sleep", strconv.FormatFloat(d.Seconds(), 'f', -1, 64))
	return err
}

// script gives the samples as text, innermost frame first, with the header lines that makers of flame graphs want.
func script(ctx context.Context, perf, file string) ([]byte, error) {
	return runPerf(ctx, perf, "script", "--no-inline", "-F", "comm,pid,tid,time,event,ip,sym,dso", "-i", file)
}

// runPerf runs perf and gives its output. The error has perf's own message, which tells who may use it.
func runPerf(ctx context.Context, perf string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, perf, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // so that perf ends what it started
	cmd.WaitDelay = endTimeout
	var out, message bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &message
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("perf %s: %w\n%s", args[0], err, strings.TrimSpace(message.String()))
	}
	return out.Bytes(), nil
}
