// Compat runs the end-to-end tests on every Envoy release in use, and writes a table of what it saw.
//
//	go run ./internal/compat
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"sentinel-envoy/internal/envoybin"
)

// plugin is what the tests test.
const plugin = "dist/sentinel.wasm"

type options struct {
	releases []string
	tests    string        // a regular expression for their names
	out      string        // the file for the table; "-" is standard output
	logs     string        // the directory for the output of tests that fail, and for what passed
	resume   bool          // take what passed before, with the same binaries, as it was
	exec     []string      // the command that runs each test, in front of it; nil for none
	perTest  time.Duration // what a test may take
}

func main() {
	var o options
	var releases, prefix string
	var limit time.Duration
	flag.StringVar(&releases, "releases", strings.Join(envoybin.Versions(), ","), "Envoy `releases`, separated by commas")
	flag.StringVar(&o.tests, "run", ".", "the tests whose names match this `expression`")
	flag.StringVar(&o.out, "o", "COMPATIBILITY.md", "`file` for the table; - is standard output")
	flag.StringVar(&o.logs, "logs", "dist/compat", "`directory` for the output of tests that fail, and for -resume")
	flag.BoolVar(&o.resume, "resume", false, "do not run again what passed before with the same plugin and tests")
	flag.StringVar(&prefix, "exec", "", "run each test by this `command`, such as nice")
	flag.DurationVar(&o.perTest, "test-timeout", 10*time.Minute, "what one test on one release may take")
	flag.DurationVar(&limit, "timeout", 3*time.Hour, "what all may take")
	flag.Parse()
	o.releases, o.exec = strings.Split(releases, ","), strings.Fields(prefix)

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if err := run(ctx, o, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "compat:", err)
		os.Exit(1)
	}
}

var errFailed = errors.New("tests failed")

// run runs all tests on all releases, and writes the table after each release, also where tests fail; errFailed says that
// some did.
func run(ctx context.Context, o options, progress io.Writer) error {
	var t table
	var err error
	if t.module, err = describe(ctx, plugin, "./plugins"); err != nil {
		return err
	}
	s, err := newSuite(ctx, o)
	if err != nil {
		return err
	}
	defer s.close()
	before, err := openMemory(filepath.Join(o.logs, "passed.json"), t.module.sha256, s.binary, o.resume)
	if err != nil {
		return err
	}
	for _, release := range o.releases {
		t.releases = append(t.releases, release)
		for _, test := range s.tests {
			r, known := before.find(release, test)
			if !known {
				if r, err = s.run(ctx, release, test); err != nil {
					return err
				}
				if err := before.keep(r); err != nil {
					return err
				}
			}
			fmt.Fprintf(progress, "%s  %-45s %s  %.0f s\n", release, test, r.Outcome, r.Took.Seconds())
			t.results = append(t.results, r)
		}
		if err := t.write(o.out); err != nil {
			return err
		}
	}
	if t.failed() {
		return fmt.Errorf("%w; their output is in %s", errFailed, o.logs)
	}
	return nil
}
