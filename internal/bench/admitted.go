package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"sentinel-envoy/internal/envoytest"
	"sentinel-envoy/internal/figures"
	"sentinel-envoy/internal/load"
)

// admittedOptions are the flags of `bench admitted`.
type admittedOptions struct {
	envoy     string
	sentinel  string
	threshold int
	seconds   int
	figures   string
}

// admittedMain is the command `bench admitted`.
func admittedMain(ctx context.Context, args []string) error {
	var o admittedOptions
	flags := flag.NewFlagSet("bench admitted", flag.ExitOnError)
	flags.StringVar(&o.envoy, "envoy", "", "Envoy `binary`; empty: $ENVOY_PATH, then the pinned one")
	flags.StringVar(&o.sentinel, "sentinel", "dist/sentinel.wasm", "the Sentinel binary to measure")
	flags.IntVar(&o.threshold, "threshold", 50, "requests per second of each filter, 10 to 200")
	flags.IntVar(&o.seconds, "seconds", 8, "how long each number of workers is measured, 5 to 60 s")
	flags.StringVar(&o.figures, "figures", "", "`file` that takes the figures for make pictures; empty: none")
	flags.Parse(args)
	if flags.NArg() > 0 || o.threshold < 10 || o.threshold > 200 || o.seconds < 5 || o.seconds > 60 {
		flags.Usage()
		os.Exit(2)
	}
	found, err := measureAdmitted(ctx, o)
	if err != nil {
		return err
	}
	return errors.Join(writeAdmitted(os.Stdout, found), figures.Save(o.figures, found))
}

const (
	// mostWorkers is up to how many workers are measured, in powers of two.
	mostWorkers = 8
	// demandOf is how many times its threshold a filter is offered: more than all workers admit that count alone.
	demandOf = 12
	// perWorker is how many connections per worker carry the load.
	perWorker = 4
)

// limiters are the filters that are compared.
var limiters = []string{sentinelGo, native, sentinel}

func measureAdmitted(ctx context.Context, o admittedOptions) (*figures.Admitted, error) {
	dir, err := os.MkdirTemp("", "sentinel-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	binary, err := findEnvoy(ctx, o.envoy)
	if err != nil {
		return nil, err
	}
	modules, err := collectModules(ctx, dir, options{sentinel: o.sentinel})
	if err != nil {
		return nil, err
	}
	found := &figures.Admitted{Threshold: float64(o.threshold), Offered: float64(demandOf * o.threshold)}
	for workers := 1; workers <= mostWorkers; workers *= 2 {
		log.Printf("%d workers", workers)
		point, err := admittedPoint(ctx, binary, modules, workers, o)
		if err != nil {
			return nil, fmt.Errorf("%d workers: %w", workers, err)
		}
		found.Points = append(found.Points, point)
	}
	return found, nil
}

// admittedPoint loads all limiters of one Envoy at the same time.
func admittedPoint(ctx context.Context, binary string, modules []module, workers int, o admittedOptions) (_ figures.AdmittedPoint, err error) {
	point := figures.AdmittedPoint{Workers: workers, Filters: map[string]float64{}}
	envoy, err := envoytest.Launch(ctx, envoytest.Config{
		EnvoyPath: binary, Concurrency: workers, LogLevel: "warn", ReadyTimeout: startTimeout, Listeners: limiting(modules, o.threshold),
	})
	if err != nil {
		return point, err
	}
	defer func() { err = errors.Join(err, envoy.Stop()) }()
	var wait sync.WaitGroup
	errs, medians := make([]error, len(limiters)), make([]float64, len(limiters))
	for i, name := range limiters {
		wait.Go(func() { medians[i], errs[i] = admittedBy(ctx, envoy.Addr(name), workers, o) })
	}
	wait.Wait()
	for i, name := range limiters {
		point.Filters[name] = medians[i]
	}
	return point, errors.Join(errs...)
}

// limiting are listeners of the limiters, each with the same threshold.
func limiting(modules []module, threshold int) []envoytest.Listener {
	own := answering(native)
	own.Filters = []map[string]any{nativeFilter(threshold, "1s")}
	listeners := []envoytest.Listener{own}
	for _, m := range modules {
		if slices.Contains(limiters, m.name) {
			l := guarded(m, configuration(m.name, float64(threshold)))
			l.Wasm[0].VMID = "bench " + m.name
			listeners = append(listeners, l)
		}
	}
	return listeners
}

// admittedBy is how many requests one listener admits in the median second. The first and the last second are left out: a
// part of a limiter's window lies outside of the run.
func admittedBy(ctx context.Context, addr string, workers int, o admittedOptions) (float64, error) {
	_, portText, err := net.SplitHostPort(addr)
	if err != nil {
		return 0, err
	}
	port, err := strconv.Atoi(portText)
	if err != nil {
		return 0, err
	}
	var passed []float64
	s, err := load.Run(ctx, load.Options{
		Port: port, QPS: float64(demandOf * o.threshold), Duration: time.Duration(o.seconds) * time.Second,
		Connections: perWorker * workers, OnSecond: func(s load.Second) { passed = append(passed, float64(s.Passed)) },
	})
	if err == nil {
		err = ctx.Err()
	}
	if err == nil && (s.Failed > 0 || s.Blocked == 0 || len(passed) < 4) {
		err = fmt.Errorf("%d passed, %d were refused, %d failed: nothing to compare", s.Passed, s.Blocked, s.Failed)
	}
	if err != nil {
		return 0, err
	}
	return summarize(passed[1 : len(passed)-2]).Median, nil
}

// writeAdmitted prints the figures as a table.
func writeAdmitted(w io.Writer, found *figures.Admitted) error {
	var b strings.Builder
	fmt.Fprintf(&b, "Admitted per second of %.0f offered, with a threshold of %.0f:\n\n| workers | %s |\n|---|%s\n",
		found.Offered, found.Threshold, strings.Join(limiters, " | "), strings.Repeat("---|", len(limiters)))
	for _, p := range found.Points {
		fmt.Fprintf(&b, "| %d |", p.Workers)
		for _, name := range limiters {
			fmt.Fprintf(&b, " %.0f |", p.Filters[name])
		}
		b.WriteString("\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}
