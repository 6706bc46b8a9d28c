// Command scaling shows on a real Envoy that a limit is the process's and not the worker thread's: it loads listeners
// with more than their rules admit, at several --concurrency, and prints what was admitted in each window.
//
// Windows are judged by the time of the decision itself, from the audit that the plugin writes at debug level, and the
// audit is held against what the clients saw and what Envoy's metrics say. It needs `make wasm` before it. The exit code
// is 1 if any window is over, if too little was admitted while the demand was there, or if the counts differ.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"sentinel-envoy/internal/figures"
)

const (
	longSeconds  = 12
	shortSeconds = 7.5
	minSeconds   = 6.5 // ten windows are 11 whole buckets, between two that are cut
	maxSeconds   = 600
	maxWorkers   = 64
)

// options are the command's flags.
type options struct {
	short       bool
	concurrency []int
	thresholds  []int
	window      window
	high        bool // also the highest threshold that the machine can exceed threefold
	duration    time.Duration
	version     string
	wasm        string
	figures     string // file, or empty
}

const highName = "max"

func main() {
	o, err := parseFlags(os.Args[1:], os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "scaling: %v\n", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	results, err := run(ctx, o, os.Stderr)
	if err == nil {
		err = figures.Save(o.figures, rows(results))
	}
	err = errors.Join(err, writeMarkdown(os.Stdout, results), failures(results))
	if err != nil {
		stop()
		fmt.Fprintf(os.Stderr, "scaling: %v\n", err)
		os.Exit(1)
	}
}

// run measures at each concurrency. The results are those until the error.
func run(ctx context.Context, o options, log io.Writer) (results []result, err error) {
	dir, err := os.MkdirTemp("", "sentinel-scaling-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if o.wasm, err = keep(o.wasm, dir); err != nil {
		return nil, err
	}
	for _, n := range o.concurrency {
		rows, err := measure(ctx, o, n, log)
		results = append(results, rows...)
		if err != nil {
			return results, fmt.Errorf("at --concurrency %d: %w", n, err)
		}
	}
	return results, nil
}

// failures is an error that names the results which show that a limit does not hold; nil where there is none.
func failures(results []result) error {
	var errs []error
	for _, r := range results {
		if r.broken() {
			errs = append(errs, errors.New(r.progress()))
		}
	}
	return errors.Join(errs...)
}

func parseFlags(args []string, stderr io.Writer) (options, error) {
	o := options{concurrency: []int{1, 2, 4, 8}, thresholds: []int{20, 1000}, high: true, window: windows[0]}
	fs := flag.NewFlagSet("scaling", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.BoolVar(&o.short, "short", false, "a few cells in less than a minute: 4 workers, thresholds 20 and 1000")
	fs.Func("concurrency", "`list` of numbers of Envoy's worker threads (default 1,2,4,8)", func(text string) (err error) {
		o.concurrency, err = numbers(strings.Split(text, ","), maxWorkers)
		return err
	})
	fs.Func("thresholds", "`list` of thresholds per second; max: a third of what the machine can answer (default 20,1000,max)",
		func(text string) (err error) {
			list := strings.Split(text, ",")
			o.high = slices.Contains(list, highName)
			o.thresholds, err = numbers(slices.DeleteFunc(list, func(s string) bool { return s == highName }), unlimited-1)
			return err
		})
	fs.Func("window", "`shape` of the rules' windows: sliding, fixed or exact (default sliding)", func(text string) error {
		i := slices.IndexFunc(windows, func(w window) bool { return w.name == text })
		if i < 0 {
			return fmt.Errorf("must be sliding, fixed or exact, got %q", text)
		}
		o.window = windows[i]
		return nil
	})
	seconds := fs.Float64("seconds", longSeconds, "length of a cell in `seconds`")
	fs.StringVar(&o.version, "envoy-version", "", "Envoy `release`; empty for the default; $ENVOY_PATH wins")
	fs.StringVar(&o.wasm, "wasm", "dist/sentinel.wasm", "the Sentinel `binary`")
	fs.StringVar(&o.figures, "figures", "", "`file` that takes the figures for `make pictures`; empty: none")
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	if fs.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	o.shorten(fs, seconds)
	if !(*seconds >= minSeconds && *seconds <= maxSeconds) { // so written, it refuses NaN
		return o, fmt.Errorf("-seconds: must be %v to %d, got %v", minSeconds, maxSeconds, *seconds)
	}
	o.duration = time.Duration(*seconds * float64(time.Second))
	return o, nil
}

// shorten applies -short to the flags that were not given.
func (o *options) shorten(fs *flag.FlagSet, seconds *float64) {
	if !o.short {
		return
	}
	given := map[string]bool{}
	fs.Visit(func(f *flag.Flag) { given[f.Name] = true })
	if !given["concurrency"] {
		o.concurrency = []int{4}
	}
	if !given["thresholds"] {
		o.high = false
	}
	if !given["seconds"] && o.window.span > 1 { // of one bucket there are half as many windows
		*seconds = shortSeconds
	}
}

func numbers(list []string, most int) ([]int, error) {
	var out []int
	for _, text := range list {
		n, err := strconv.Atoi(strings.TrimSpace(text))
		if err != nil || n < 1 || n > most {
			return nil, fmt.Errorf("must be whole numbers from 1 to %d, got %q", most, text)
		}
		out = append(out, n)
	}
	return out, nil
}
