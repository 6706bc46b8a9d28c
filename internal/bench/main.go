// Command bench measures what Sentinel costs inside a real Envoy, next to the filters one would compare it with:
//
//   - Envoy's native local rate limiter,
//   - an empty filter in C, where clang is installed: the floor of Wasm itself,
//   - an empty filter built with the same SDK; for refusals one that answers each request by 429,
//   - sentinel-golang's own Entry and Exit in the same SDK.
//
// It prints CPU time per request above a listener without a filter, all taken interleaved from one Envoy process; where
// there is a redis-server also that of Envoy's own rate limit filter, which asks a service about each request, and of
// cluster mode; then time from start to ready and memory per further worker, each from Envoys of their own.
//
// `bench refusals` does so for requests that are refused. `bench memory` prints what an Envoy with them takes in all, and
// how long it takes to start. `bench latency` prints what they add to a request's latency, next to Envoy's rate limit
// service; `bench curves` how the cost grows with rules, resources, values and workers; `bench admitted` what filters with
// one threshold admit at several numbers of workers.
//
// It needs Linux and `make wasm`
// and `make tinygo` before it; without dist/sentinel.wasm or dist/sentinel-tiny.wasm the rows of that artefact are left out.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"sentinel-envoy/internal/envoybin"
	"sentinel-envoy/internal/figures"
)

// options are the command's flags.
type options struct {
	envoy       string
	sentinel    string
	tiny        string
	rounds      int
	requests    int
	connections int
	workers     int
	starts      int
	only        *regexp.Regexp
	refusals    bool // of requests that are refused, instead of admitted
	json        bool
	figures     string // file, or empty
	extra       extraFilters
}

// yardstick is the row that others are compared with.
func (o options) yardstick() string {
	if o.refusals {
		return emptyRefusing
	}
	return empty
}

// sentinelOnly matches the rows of Sentinel itself.
var sentinelOnly = regexp.MustCompile("^sentinel, ")

// wants reports whether the row of that name is to be measured. What others are compared with always is.
func (o options) wants(name string) bool {
	switch name {
	case unfiltered, o.yardstick():
		return true
	case emptyRefusing:
		return false
	case empty, emptyC, sentinelGo:
		return !o.refusals && (o.only == nil || name != sentinelGo || o.only.MatchString(name))
	}
	return o.only == nil || o.only.MatchString(name)
}

// chosen gives those of the variants that are to be measured.
func (o options) chosen(variants []variant) []variant {
	return slices.DeleteFunc(variants, func(v variant) bool { return !o.wants(v.name) })
}

// extraFilters are filters given on the command line as name=file.wasm, measured beside the built-in ones.
type extraFilters []module

func (e *extraFilters) String() string { return fmt.Sprint([]module(*e)) }

// Set adds one name=file.wasm.
func (e *extraFilters) Set(text string) error {
	name, file, found := strings.Cut(text, "=")
	if !found || name == "" || file == "" {
		return errors.New("want name=file.wasm")
	}
	*e = append(*e, module{name: name, file: file})
	return nil
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("bench: ")
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	command, args := costMain, os.Args[1:]
	if len(args) > 0 {
		if other := commands[args[0]]; other != nil {
			command, args = other, args[1:]
		}
	}
	if err := command(ctx, args); err != nil {
		stop()
		log.Fatal(err)
	}
}

// commands are what the first argument may ask for, in place of the cost of a request, a start and a worker.
var commands = map[string]func(ctx context.Context, args []string) error{
	"latency":  latencyMain,
	"memory":   memoryMain,
	"refusals": refusalsMain,
	"curves":   curvesMain,
	"admitted": admittedMain,
}

// costMain is the command without a name, refusalsMain the same for requests that are refused.
func costMain(ctx context.Context, args []string) error { return benchMain(ctx, args, options{}) }

// refusalsMain is described with costMain.
func refusalsMain(ctx context.Context, args []string) error {
	return benchMain(ctx, args, options{refusals: true})
}

func benchMain(ctx context.Context, args []string, o options) error {
	flags := flag.NewFlagSet("bench", flag.ExitOnError)
	flags.StringVar(&o.envoy, "envoy", "", "Envoy `binary`; empty: $ENVOY_PATH, then the pinned one")
	flags.StringVar(&o.sentinel, "sentinel", "dist/sentinel.wasm", "the Sentinel binary to measure")
	flags.StringVar(&o.tiny, "tiny", "dist/sentinel-tiny.wasm", "the binary of TinyGo to measure beside it")
	flags.IntVar(&o.rounds, "rounds", 9, "how often each filter is measured for CPU; at least 3")
	flags.IntVar(&o.requests, "requests", 8192, "requests per filter and round, in short turns of which the calmer half counts")
	flags.IntVar(&o.connections, "connections", 16, "keep-alive connections per filter")
	flags.IntVar(&o.workers, "workers", 1, "Envoy's worker threads while CPU is measured")
	flags.IntVar(&o.starts, "starts", 3, "Envoy starts per filter and number of workers, for start time and memory (sentinel-golang: one); 0: none")
	flags.Func("only", "measure only rows whose name matches this `regexp`, and what they are compared with", func(text string) (err error) {
		o.only, err = regexp.Compile(text)
		return err
	})
	flags.BoolVar(&o.json, "json", false, "print JSON instead of Markdown")
	flags.StringVar(&o.figures, "figures", "", "`file` that takes the figures for make pictures; empty: none")
	flags.Var(&o.extra, "wasm", "measure one more HTTP filter, as `name=file.wasm`; may be given again")
	flags.Parse(args)
	if flags.NArg() > 0 || o.rounds < 3 || o.requests < 1 || o.connections < 1 || o.workers < 1 || o.starts < 0 {
		flags.Usage()
		os.Exit(2)
	}
	return run(ctx, o)
}

// run does the whole benchmark and prints its report on standard output; progress goes to standard error.
func run(ctx context.Context, o options) error {
	dir, err := os.MkdirTemp("", "sentinel-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)

	binary, err := findEnvoy(ctx, o.envoy)
	if err != nil {
		return err
	}
	modules, err := collectModules(ctx, dir, o)
	if err != nil {
		return err
	}
	r := report{Rounds: o.rounds, Requests: o.requests, Workers: o.workers}
	r.Yardstick = o.yardstick()
	a, err := startAsking(ctx, dir, modules, o)
	if err != nil {
		return err
	}
	if a != nil {
		defer a.remote.Stop()
	}
	r.CPU, r.Asking, err = measureCPU(ctx, binary, group{o.chosen(o.variants(modules)), o.yardstick()}, a, o)
	if err != nil {
		return err
	}
	if o.starts > 0 && !o.refusals {
		if r.Starts, err = measureStarts(ctx, binary, o.chosen(startVariants(modules)), o.starts); err != nil {
			return err
		}
	}
	r.Targets = judge(r.CPU, r.Starts)
	if err := figures.Save(o.figures, r); err != nil {
		return err
	}
	if o.json {
		return r.writeJSON(os.Stdout)
	}
	return r.writeMarkdown(os.Stdout)
}

// findEnvoy gives the Envoy binary to run: the given one, or the pinned release.
func findEnvoy(ctx context.Context, given string) (string, error) {
	if given != "" {
		return given, nil
	}
	return envoybin.Find(ctx, envoybin.Options{Log: os.Stderr})
}
