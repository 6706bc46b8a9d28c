package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"sentinel-envoy/internal/envoybin"
)

const (
	testPackage = "./internal/e2e"
	// notHere is a short run over all releases at once, for those who do not run this.
	notHere = "TestEveryEnvoy"
	// killAfter is how long a test may take to end when it is told to.
	killAfter = 10 * time.Second
)

// outcome is how a test ended, in test2json's words.
type outcome string

const (
	passed  outcome = "pass"
	failed  outcome = "fail"
	skipped outcome = "skip"
)

// result is how one top-level test went on one release.
type result struct {
	Release, Test string
	Outcome       outcome
	Took          time.Duration
	Reasons       []string // of what failed and what was skipped, with the subtest's name
	Facts         []fact   // what it wants known
}

// fact is what a test says by testing.T.Attr.
type fact struct{ Test, Key, Value string }

// suite is the compiled tests.
type suite struct {
	options
	dir    string // temporary
	binary string
	tests  []string
}

// newSuite compiles the tests and gets the releases.
func newSuite(ctx context.Context, o options) (s *suite, err error) {
	s = &suite{options: o}
	if s.dir, err = os.MkdirTemp("", "compat"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	s.binary = filepath.Join(s.dir, "e2e.test")
	if _, err := command(ctx, nil, "go", "test", "-c", "-o", s.binary, testPackage); err != nil {
		return nil, err
	}
	list, err := command(ctx, nil, s.binary, "-test.list", o.tests)
	if err != nil {
		return nil, err
	}
	for _, name := range strings.Fields(string(list)) {
		if name != notHere {
			s.tests = append(s.tests, name)
		}
	}
	if len(s.tests) == 0 {
		return nil, fmt.Errorf("no test matches %s", o.tests)
	}
	for _, release := range o.releases {
		if _, err := envoybin.Find(ctx, envoybin.Options{Version: release, Log: os.Stderr}); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (s *suite) close() { os.RemoveAll(s.dir) }

// run runs one top-level test in a process of its own, so that none can take others with it.
func (s *suite) run(ctx context.Context, release, test string) (result, error) {
	args := append(s.exec[:len(s.exec):len(s.exec)], s.binary, "-test.v=test2json", "-test.run", "^"+test+"$",
		"-test.timeout", s.perTest.String())
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir = testPackage
	cmd.Env = append(os.Environ(), "ENVOY_VERSION="+release, "ENVOY_PATH=")
	// A group of its own, so that what -exec put in between does not keep the signal from the test.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) }
	cmd.WaitDelay = killAfter
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	began := time.Now()
	err := cmd.Run()
	if ctx.Err() != nil {
		return result{}, fmt.Errorf("%s on Envoy %s: %w", test, release, context.Cause(ctx))
	}
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
		return result{}, err
	}
	events, convErr := command(ctx, bytes.NewReader(out.Bytes()), "go", "tool", "test2json")
	if convErr != nil {
		return result{}, convErr
	}
	r, convErr := read(bytes.NewReader(events), test)
	if convErr != nil {
		return result{}, convErr
	}
	r.Release, r.Took = release, time.Since(began)
	if err != nil && r.Outcome != failed {
		r.Outcome, r.Reasons = failed, append(r.Reasons, err.Error())
	}
	if r.Outcome == failed {
		return r, s.keep(r, out.Bytes())
	}
	return r, nil
}

// keep writes the output of a test that failed.
func (s *suite) keep(r result, output []byte) error {
	dir := filepath.Join(s.logs, r.Release)
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, r.Test+".log"), output, 0o666)
}

// event is one of test2json's, as far as it matters here.
type event struct {
	Action, Test, Output, Key, Value string
}

// said matches what a test says by Error or Skip. The last that it says before it ends is the reason.
var said = regexp.MustCompile(`^\s+\w+\.go:\d+: (.*)`)

// read reads test2json's events of one top-level test. A test that is not heard of any more has failed.
func read(events io.Reader, test string) (result, error) {
	r := result{Test: test, Outcome: failed}
	first, last := map[string]string{}, map[string]string{}
	for decoder := json.NewDecoder(events); ; {
		var e event
		if err := decoder.Decode(&e); err == io.EOF {
			return r, nil
		} else if err != nil {
			return result{}, err
		}
		switch e.Action {
		case "output":
			if m := said.FindStringSubmatch(e.Output); m != nil {
				if first[e.Test] == "" {
					first[e.Test] = m[1]
				}
				last[e.Test] = m[1]
			}
		case "attr":
			r.Facts = append(r.Facts, fact{e.Test, e.Key, e.Value})
		case "fail":
			if e.Test != "" && first[e.Test] != "" {
				r.Reasons = append(r.Reasons, e.Test+": "+first[e.Test])
			}
		case "skip":
			r.Reasons = append(r.Reasons, e.Test+": "+last[e.Test])
		}
		if e.Test == test && (e.Action == "pass" || e.Action == "fail" || e.Action == "skip") {
			r.Outcome = outcome(e.Action)
		}
	}
}

// command runs a command and returns its standard output. Its error holds what the command said.
func command(ctx context.Context, in io.Reader, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdin = in
	out, err := cmd.Output()
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		err = fmt.Errorf("%s: %w: %s", name, err, bytes.TrimSpace(exit.Stderr))
	}
	return out, err
}
