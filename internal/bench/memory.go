package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"math"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"sentinel-envoy/internal/envoytest"
	"sentinel-envoy/internal/figures"
)

// settled is what Envoy gets to do what an update or a load has left to do, before its memory is read.
const settled = 2 * time.Second

// memoryOptions are the flags of `bench memory`.
type memoryOptions struct {
	binary  string // Envoy
	workers []int
	repeat  int
	load    time.Duration
	updates int
	figures string // file, or empty
	only    *regexp.Regexp
}

// memoryMain is the command `bench memory`.
func memoryMain(ctx context.Context, args []string) error {
	var o memoryOptions
	flags := flag.NewFlagSet("bench memory", flag.ExitOnError)
	envoy := flags.String("envoy", "", "Envoy `binary`; empty: $ENVOY_PATH, then the pinned one")
	sentinelFile := flags.String("sentinel", "dist/sentinel.wasm", "the Sentinel binary to measure")
	tinyFile := flags.String("tiny", "dist/sentinel-tiny.wasm", "the binary of TinyGo to measure beside it")
	workers := flags.String("workers", "1,4,8", "Envoy's worker threads, `numbers` with commas; load and updates come with the last but one")
	flags.IntVar(&o.repeat, "repeat", 3, "how often each Envoy is started")
	flags.DurationVar(&o.load, "load", 10*time.Minute, "how long there is load before memory is read again")
	flags.IntVar(&o.updates, "updates", 100, "how many updates come then, in each of which a rule changes")
	flags.StringVar(&o.figures, "figures", "", "`file` that takes the figures; empty: none")
	only := flags.String("only", "", "measure only the filters whose names match this `expression`")
	flags.Parse(args)
	var err error
	if o.only, err = regexp.Compile(*only); err != nil {
		return err
	}
	if o.workers, err = numbers(*workers); err != nil || flags.NArg() > 0 || o.repeat < 1 || o.updates < 1 || o.load < 0 {
		flags.Usage()
		os.Exit(2)
	}
	if o.binary, err = findEnvoy(ctx, *envoy); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "sentinel-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	modules, err := collectModules(ctx, dir, options{sentinel: *sentinelFile, tiny: *tinyFile, only: sentinelOnly})
	if err != nil {
		return err
	}
	modules = slices.DeleteFunc(modules, func(m module) bool { return m.name == emptyRefusing })
	r, err := measureMemory(ctx, o, modules)
	if err != nil {
		return err
	}
	return errors.Join(figures.Save(o.figures, r), r.writeMarkdown(os.Stdout))
}

// numbers are positive numbers with commas between.
func numbers(text string) ([]int, error) {
	var list []int
	for part := range strings.SplitSeq(text, ",") {
		n, err := strconv.Atoi(part)
		if err != nil || n < 1 {
			return nil, fmt.Errorf("%q: must be a positive number", part)
		}
		list = append(list, n)
	}
	return list, nil
}

// memoryReport is what `bench memory` found.
type memoryReport struct {
	Load    string      `json:"load"`
	Updates int         `json:"updates"`
	Rows    []memoryRow `json:"rows"`
	Targets []target    `json:"targets"`
}

// memoryRow is what one Envoy takes: seconds from its start until its listeners accept, those of CPU among them, which do not
// depend on what else the machine does; and private memory in MB (10^6 bytes) once each worker has answered requests, after
// load, and after updates.
type memoryRow struct {
	Name    string   `json:"name"`
	Workers int      `json:"workers"`
	Ready   summary  `json:"seconds_to_ready"`
	CPU     summary  `json:"cpu_seconds_to_ready"`
	Private summary  `json:"mb_private"`
	Loaded  *float64 `json:"mb_after_load,omitempty"`
	Updated *float64 `json:"mb_after_updates,omitempty"`
}

// measureMemory starts the Envoys one after the other.
func measureMemory(ctx context.Context, o memoryOptions, modules []module) (memoryReport, error) {
	r := memoryReport{Load: o.load.String(), Updates: o.updates}
	long := o.workers[max(len(o.workers)-2, 0)]
	for _, m := range append([]module{{name: unfiltered}}, modules...) {
		if !o.only.MatchString(m.name) {
			continue
		}
		for _, workers := range o.workers {
			log.Printf("memory: %s, %d workers", m.name, workers)
			row := memoryRow{Name: m.name, Workers: workers}
			var ready, cpu, private []float64
			for i := range o.repeat {
				f := footprint{module: m, workers: workers, long: workers == long && i == 0}
				if err := f.measure(ctx, o); err != nil {
					return r, fmt.Errorf("%s, %d workers: %w", m.name, workers, err)
				}
				ready, cpu = append(ready, f.ready.Seconds()), append(cpu, f.cpu.Seconds())
				private = append(private, f.private)
				if f.long {
					row.Loaded, row.Updated = f.loaded, f.updated
				}
			}
			row.Ready, row.CPU, row.Private = summarize(ready), summarize(cpu), summarize(private)
			r.Rows = append(r.Rows, row)
		}
	}
	r.Targets = r.judge(long)
	return r, nil
}

// footprint is one Envoy, and what it took.
type footprint struct {
	module  module
	workers int
	long    bool // whether load and updates come

	ready, cpu      time.Duration
	private         float64
	loaded, updated *float64
}

// listener is that of the module after n updates.
func (f *footprint) listener(n int) envoytest.HTTP {
	switch {
	case f.module.file == "":
		return answering(unfiltered)
	case isOurs(f.module.name):
		return guarded(f.module, configuration(f.module.name, float64(unreached+n)))
	}
	return guarded(f.module, fmt.Sprintf(`{"update": %d}`, n))
}

// measure starts the Envoy and reads its memory.
func (f *footprint) measure(ctx context.Context, o memoryOptions) (err error) {
	begin := time.Now()
	envoy, err := envoytest.Launch(ctx, envoytest.Config{
		Listeners: []envoytest.Listener{f.listener(0)}, Dynamic: true, EnvoyPath: o.binary, Concurrency: f.workers,
		LogLevel: "warn", ReadyTimeout: startTimeout,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, envoy.Stop()) }()
	f.ready = time.Since(begin)
	if f.cpu, err = envoy.CPUTime(); err != nil {
		return err
	}
	if err := serveOnAll(ctx, envoy, f.listener(0).Name, f.workers); err != nil {
		return err
	}
	if f.private, err = privateMB(envoy); err != nil || !f.long {
		return err
	}
	if err := f.serve(ctx, envoy, o.load); err != nil {
		return err
	}
	loaded, err := privateMB(envoy)
	if f.loaded = &loaded; err != nil || f.module.file == "" {
		return err
	}
	return f.update(ctx, envoy, o.updates)
}

// serve has the Envoy answer requests for some time.
func (f *footprint) serve(ctx context.Context, envoy *envoytest.Process, d time.Duration) error {
	c, err := dial(envoy.Addr(f.listener(0).Name), 4*f.workers, requestsFor(paths))
	if err != nil {
		return err
	}
	defer c.close()
	if _, err := sendFor(ctx, c, d); err != nil {
		return err
	}
	return pause(ctx, settled)
}

// update gives the listener other parameters so many times. Envoy drains each for 600 s, so that all are still there at the
// end.
func (f *footprint) update(ctx context.Context, envoy *envoytest.Process, n int) error {
	for i := range n {
		if err := envoy.UpdateListeners(ctx, f.listener(i+1)); err != nil {
			return err
		}
	}
	if err := serveOnAll(ctx, envoy, f.listener(0).Name, f.workers); err != nil {
		return err
	}
	if err := pause(ctx, settled); err != nil {
		return err
	}
	updated, err := privateMB(envoy)
	f.updated = &updated
	return err
}

// privateMB is Envoy's private memory in MB.
func privateMB(envoy *envoytest.Process) (float64, error) {
	bytes, err := envoy.Private()
	return float64(bytes) / 1e6, err
}

// of is the row of a filter with so many workers, nil where there is none.
func (r *memoryReport) of(name string, workers int) *memoryRow {
	for i, row := range r.Rows {
		if row.Name == name && row.Workers == workers {
			return &r.Rows[i]
		}
	}
	return nil
}

// judge compares with the targets.
func (r *memoryReport) judge(workers int) (targets []target) {
	none, plain := r.of(unfiltered, workers), r.of(empty, workers)
	if none == nil || plain == nil {
		return nil
	}
	above := func(row *memoryRow) float64 { return row.Private.Median - none.Private.Median }
	add := func(what string, limit, got float64) {
		targets = append(targets, target{fmt.Sprintf("%s, %d workers", what, workers), limit, got, got <= limit})
	}
	if ours := r.of(sentinel, workers); ours != nil {
		add("memory above no filter, of the empty filter's", 1.4, above(ours)/above(plain))
		add("CPU of a start, of the empty filter's", 1.8, ours.CPU.Median/plain.CPU.Median)
	}
	if tiny := r.of(sentinelTiny, workers); tiny != nil {
		add("TinyGo: MB above no filter", 40, above(tiny))
		add("TinyGo: CPU of a start, of the empty filter's", 0.5, tiny.CPU.Median/plain.CPU.Median)
	}
	return targets
}

// writeMarkdown prints the tables.
func (r *memoryReport) writeMarkdown(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "| filter | workers | start to ready, s | s of CPU | private memory, MB | after %s of load | after %d updates |\n|---|---|---|---|---|---|---|\n",
		r.Load, r.Updates)
	for _, row := range r.Rows {
		fmt.Fprintf(&b, "| %s | %d | %s | %s | %s | %s | %s |\n", row.Name, row.Workers, row.Ready.format(2), row.CPU.format(2), row.Private.format(1),
			figure(known(row.Loaded)), figure(known(row.Updated)))
	}
	writeTargets(&b, r.Targets)
	_, err := io.WriteString(w, b.String())
	return err
}

// known is a value that may be unknown.
func known(v *float64) float64 {
	if v == nil {
		return math.NaN()
	}
	return *v
}
