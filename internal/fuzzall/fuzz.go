package main

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// target is a fuzz function, dir where its package is.
type target struct{ pkg, dir, name string }

// result is what came of fuzzing a target: how many inputs were tried, how many of them did something new, how many there
// are now that do, and, where it failed, the whole output and the file that the failing input is in.
type result struct {
	target
	execs, interesting, corpus int
	err                        error
	output                     []byte
	input                      string
}

// list finds the targets of packages.
func list(ctx context.Context, packages []string) (targets []target, err error) {
	out, err := command(ctx, append([]string{"list", "-f", "{{.ImportPath}}\t{{.Dir}}"}, packages...)...).Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", withOutput(err))
	}
	for line := range strings.Lines(string(out)) {
		pkg, dir, _ := strings.Cut(strings.TrimSpace(line), "\t")
		names, err := command(ctx, "test", "-list", "^Fuzz", pkg).Output()
		if err != nil {
			return nil, fmt.Errorf("go test -list %s: %w", pkg, withOutput(err))
		}
		for _, name := range strings.Fields(string(names)) {
			if strings.HasPrefix(name, "Fuzz") {
				targets = append(targets, target{pkg: pkg, dir: dir, name: name})
			}
		}
	}
	return targets, nil
}

// minimizeTime bounds how long go test makes an input smaller, which it counts as fuzzing: by default a minute.
const minimizeTime = "2s"

// fuzz runs one target.
func (t target) fuzz(ctx context.Context, d time.Duration, parallel int) result {
	out, err := command(ctx, "test", t.pkg, "-run", "^$", "-fuzz", "^"+t.name+"$", "-fuzztime", d.String(),
		"-fuzzminimizetime", minimizeTime, "-parallel", strconv.Itoa(parallel)).CombinedOutput()
	r := result{target: t, output: out, err: failure(out, err)}
	r.execs, r.interesting, r.corpus = progress(out)
	if m := failing.FindSubmatch(out); m != nil {
		r.input = filepath.Join(t.dir, string(m[1]))
	}
	return r
}

// failure is the error of a run that has failed. One that found nothing has not, though go test may fail it all the same: at
// the end of its time it can take its own deadline for an error (go.dev/issue/75804, until Go 1.27).
func failure(out []byte, err error) error {
	if timeIsUp.Match(out) && !failing.Match(out) {
		return nil
	}
	return err
}

var (
	timeIsUp = regexp.MustCompile(`(?m)^--- FAIL: \w+ \([0-9.]+s\)\n    context deadline exceeded\nFAIL$`)
	status   = regexp.MustCompile(`execs: (\d+) .*new interesting: (\d+) \(total: (\d+)\)`)
	failing  = regexp.MustCompile(`Failing input written to (\S+)`)
)

// progress reads the last line in which go test told how far it was.
func progress(out []byte) (execs, interesting, corpus int) {
	all := status.FindAllSubmatch(out, -1)
	if len(all) == 0 {
		return 0, 0, 0
	}
	last := all[len(all)-1]
	n := func(i int) int { v, _ := strconv.Atoi(string(last[i])); return v } // digits; what is too large is not worth an error
	return n(1), n(2), n(3)
}

// command is a go command that ends with ctx, politely. go test leaves a signal to its test, so that needs one, too: all
// are a group of their own.
func command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) }
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

// withOutput adds to an error what the command has written to standard error.
func withOutput(err error) error {
	if exit, ok := err.(*exec.ExitError); ok {
		return fmt.Errorf("%w\n%s", err, bytes.TrimSpace(exit.Stderr))
	}
	return err
}
