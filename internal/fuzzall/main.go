// Command fuzzall runs every fuzz target of some packages for a while, one after the other, and prints a table. It exits
// with 1 where one has failed; the input is then in the package's testdata/fuzz, and is a test from then on.
//
//	go run ./internal/fuzzall [-fuzztime 60s] [-parallel n] [packages]
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
)

func main() {
	fuzzTime := flag.Duration("fuzztime", time.Minute, "how long each target runs")
	parallel := flag.Int("parallel", runtime.GOMAXPROCS(0), "how many inputs are tried at once")
	flag.Parse()
	packages := flag.Args()
	if len(packages) == 0 {
		packages = []string{"./shared/..."}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Stdout, packages, *fuzzTime, *parallel); err != nil {
		fmt.Fprintln(os.Stderr, "fuzzall:", err)
		os.Exit(1)
	}
}

var errFailed = errors.New("a target failed")

// run fuzzes every target of the packages, and fails where one does or there is none.
func run(ctx context.Context, out io.Writer, packages []string, fuzzTime time.Duration, parallel int) error {
	targets, err := list(ctx, packages)
	if err != nil {
		return err
	}
	if len(targets) == 0 {
		return fmt.Errorf("no fuzz target in %s", strings.Join(packages, " "))
	}
	var results []result
	for i, t := range targets {
		fmt.Fprintf(out, "%d of %d: %s %s for %v\n", i+1, len(targets), t.pkg, t.name, fuzzTime)
		r := t.fuzz(ctx, fuzzTime, parallel)
		if r.err != nil {
			fmt.Fprintf(out, "%s\n", r.output)
		}
		results = append(results, r)
		if ctx.Err() != nil {
			break
		}
	}
	return report(out, results)
}

// report prints a line for each target, and fails where one did.
func report(out io.Writer, results []result) error {
	failed := false
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight|tabwriter.Debug)
	fmt.Fprintln(w, "package\ttarget\texecs\tnew interesting\tcorpus\t result\t")
	for _, r := range results {
		verdict := "passed"
		if r.err != nil {
			failed, verdict = true, "FAILED"
			if r.input != "" {
				verdict += ": " + r.input
			}
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\t %s\t\n", r.target.pkg, r.target.name, r.execs, r.interesting, r.corpus, verdict)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if failed {
		return errFailed
	}
	return nil
}
