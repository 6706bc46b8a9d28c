// Command bench measures what Sentinel costs inside a real Envoy, next to the filters one would compare it with:
//
//   - Envoy's native local rate limiter,
//   - an empty filter built with the same SDK,
//   - sentinel-golang's own Entry and Exit in the same SDK.
//
// It prints CPU time per request above a listener without a filter, all taken interleaved from one Envoy process, then
// time from start to ready and memory per further worker, each from Envoys of their own. It needs Linux and `make wasm`
// before it; without dist/sentinel.wasm the rows of Sentinel itself are left out.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"sentinel-envoy/internal/envoybin"
)

// options are the command's flags.
type options struct {
	envoy       string
	sentinel    string
	rounds      int
	requests    int
	connections int
	workers     int
	starts      int
	json        bool
	extra       extraFilters
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
	var o options
	flag.StringVar(&o.envoy, "envoy", "", "Envoy `binary`; empty: $ENVOY_PATH, then the pinned one")
	flag.StringVar(&o.sentinel, "sentinel", "dist/sentinel.wasm", "the Sentinel binary to measure")
	flag.IntVar(&o.rounds, "rounds", 9, "how often each filter is measured for CPU; at least 3")
	flag.IntVar(&o.requests, "requests", 8192, "requests per filter and round, in short turns of which the calmer half counts")
	flag.IntVar(&o.connections, "connections", 16, "keep-alive connections per filter")
	flag.IntVar(&o.workers, "workers", 1, "Envoy's worker threads while CPU is measured")
	flag.IntVar(&o.starts, "starts", 3, "Envoy starts per filter and number of workers, for start time and memory (sentinel-golang: one); 0: none")
	flag.BoolVar(&o.json, "json", false, "print JSON instead of Markdown")
	flag.Var(&o.extra, "wasm", "measure one more HTTP filter, as `name=file.wasm`; may be given again")
	flag.Parse()
	if flag.NArg() > 0 || o.rounds < 3 || o.requests < 1 || o.connections < 1 || o.workers < 1 || o.starts < 0 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		stop()
		log.Fatal(err)
	}
}

// run does the whole benchmark and prints its report on standard output; progress goes to standard error.
func run(ctx context.Context, o options) error {
	dir, err := os.MkdirTemp("", "sentinel-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)

	binary := o.envoy
	if binary == "" {
		if binary, err = envoybin.Find(ctx, envoybin.Options{Log: os.Stderr}); err != nil {
			return err
		}
	}
	modules, err := collectModules(ctx, dir, o.sentinel, o.extra)
	if err != nil {
		return err
	}
	r := report{Rounds: o.rounds, Requests: o.requests, Workers: o.workers}
	if r.CPU, err = measureCPU(ctx, binary, cpuVariants(modules), o); err != nil {
		return err
	}
	if o.starts > 0 {
		if r.Starts, err = measureStarts(ctx, binary, startVariants(modules), o.starts); err != nil {
			return err
		}
	}
	r.Targets = judge(r.CPU, r.Starts)
	if o.json {
		return r.writeJSON(os.Stdout)
	}
	return r.writeMarkdown(os.Stdout)
}
