package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"sentinel-envoy/internal/audit"
	"sentinel-envoy/internal/envoytest"
	"sentinel-envoy/internal/load"
)

const (
	calibrateFor = 2 * time.Second
	// settleFor is how long the plugin may take to write its last audit lines and metrics; it does so in a few ticks.
	settleFor = 5 * time.Second
	pollEvery = 50 * time.Millisecond
)

// rig is one Envoy whose listeners change from batch to batch.
type rig struct {
	concurrency int
	window      window
	wasm        string
	envoy       *envoytest.Process
	upstream    *envoytest.TCPService
}

// measure runs all cells of one concurrency on an Envoy of their own. Progress goes to log.
func measure(ctx context.Context, o options, concurrency int, log io.Writer) (results []result, err error) {
	g, err := start(ctx, o, concurrency)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, g.stop()) }()
	highest := map[cell]int{}
	if o.high {
		if highest, err = g.calibrate(ctx, log); err != nil {
			return nil, err
		}
	}
	for _, batch := range batches(plan(o.window, concurrency, o.thresholds, highest, o.short)) {
		rows, err := g.run(ctx, batch, o.duration)
		if err != nil {
			return results, err
		}
		for _, r := range rows {
			fmt.Fprintln(log, r.progress())
		}
		results = append(results, rows...)
	}
	return results, nil
}

func start(ctx context.Context, o options, concurrency int) (*rig, error) {
	upstream, err := envoytest.NewTCPService("ok")
	if err != nil {
		return nil, err
	}
	g := &rig{concurrency: concurrency, window: o.window, upstream: upstream, wasm: o.wasm}
	g.envoy, err = envoytest.Launch(ctx, envoytest.Config{
		Dynamic: true, Upstreams: []string{upstream.Addr()},
		Concurrency: concurrency, Version: o.version,
		LogLevel: "warn", Components: map[string]string{"wasm": "debug"}, // the audit
		Args: []string{"--drain-time-s", "1", "--drain-strategy", "immediate"}, // listeners of cells that are done
	})
	if err != nil {
		upstream.Close()
		return nil, err
	}
	return g, nil
}

func (g *rig) stop() error {
	err := g.envoy.Stop()
	g.upstream.Close()
	return err
}

// calibrate gives a third of what the machine can answer in each of the kinds of cells: without a limit, and then, as
// refusals cost something else, with that limit. The slowest second counts.
func (g *rig) calibrate(ctx context.Context, log io.Writer) (map[cell]int, error) {
	highest := map[cell]int{}
	for _, c := range kinds(g.window, g.concurrency) {
		trial := c
		trial.threshold, trial.high = unlimited, true
		for range 2 {
			rows, err := g.run(ctx, []cell{trial}, calibrateFor)
			if err != nil {
				return nil, err
			}
			if rows[0].broken() {
				return nil, fmt.Errorf("while calibrating: %s", rows[0].progress())
			}
			trial.threshold = min(trial.threshold, max(1, rows[0].slowest/highDivisor))
			fmt.Fprintf(log, "%d workers, %s: at least %d/s answered\n", c.concurrency, c.what(), rows[0].slowest)
		}
		highest[c] = trial.threshold
	}
	return highest, nil
}

// run runs cells at the same time, for that long, and judges them.
func (g *rig) run(ctx context.Context, cells []cell, d time.Duration) ([]result, error) {
	if err := g.guard(ctx, cells); err != nil {
		return nil, err
	}
	g.envoy.Log.Mark()
	before, err := g.counters(ctx)
	if err != nil {
		return nil, err
	}
	observed, err := g.offer(ctx, cells, d)
	if err != nil {
		return nil, err
	}
	audits, err := g.settle(ctx, cells, observed, before)
	if err != nil {
		return nil, err
	}
	results := make([]result, len(cells))
	for i, c := range cells {
		results[i] = judge(c, audits[i], observed[i])
	}
	return results, nil
}

// guard replaces Envoy's listeners by those of the cells.
func (g *rig) guard(ctx context.Context, cells []cell) error {
	// Envoy does not choose them: listeners without a port that are added while others are removed would all be given a
	// removed one's socket.
	ports, err := envoytest.FreePorts(2 * len(cells))
	if err != nil {
		return err
	}
	var listeners []envoytest.Listener
	for i, c := range cells {
		l, err := c.listeners(g.wasm, g.upstream.Addr(), ports[2*i], ports[2*i+1])
		if err != nil {
			return err
		}
		listeners = append(listeners, l...)
	}
	return g.envoy.UpdateListeners(ctx, listeners...)
}

// offer runs the load of all cells.
func (g *rig) offer(ctx context.Context, cells []cell, d time.Duration) ([]seen, error) {
	type outcome struct {
		cell    int
		summary load.Summary
		err     error
	}
	loads := make([][]load.Options, len(cells))
	for i, c := range cells {
		var err error
		if loads[i], err = c.loads(g.envoy.Addr, d); err != nil {
			return nil, err
		}
	}
	outcomes := make(chan outcome)
	var running sync.WaitGroup
	for i := range cells {
		for _, o := range loads[i] {
			running.Go(func() {
				s, err := load.Run(ctx, o)
				outcomes <- outcome{i, s, err}
			})
		}
	}
	go func() {
		running.Wait()
		close(outcomes)
	}()
	observed := make([]seen, len(cells))
	var errs []error
	for o := range outcomes {
		s := &observed[o.cell]
		s.sent += int(o.summary.Sent)
		s.passed += int(o.summary.Passed)
		s.failed += int(o.summary.Failed)
		s.elapsed = max(s.elapsed, o.summary.Elapsed.Seconds())
		errs = append(errs, o.err)
	}
	return observed, errors.Join(append(errs, ctx.Err())...)
}

// settle waits until the audit, the metrics and the clients agree about each cell, and fills in what the metrics say.
// Where they don't come to agree it gives what there is.
func (g *rig) settle(ctx context.Context, cells []cell, observed []seen, before map[string]int) ([]*decisions, error) {
	late := time.After(settleFor)
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	var audits []*decisions
	for {
		now, err := g.counters(ctx)
		if err == nil {
			audits, err = g.audits(cells)
		}
		if err != nil {
			return nil, err
		}
		agreed := true
		for i, c := range cells {
			s := &observed[i]
			since := func(name string) int { return now[name] - before[name] }
			s.metric = since("sentinel_passed;resource=" + c.rule())
			s.faults, s.retries = since("sentinel_faults"), since("sentinel_cas_retries")
			total := audits[i].total()
			agreed = agreed && total.admitted == s.metric && total.admitted == s.passed && total.all() == s.sent
		}
		if agreed {
			return audits, nil
		}
		select {
		case <-late:
			return audits, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-tick.C:
		}
	}
}

func (g *rig) audits(cells []cell) ([]*decisions, error) {
	byRule, err := sumAudit(g.envoy.Log.All(audit.Pattern), g.window)
	if err != nil {
		return nil, err
	}
	audits := make([]*decisions, len(cells))
	for i, c := range cells {
		if audits[i] = byRule[c.rule()]; audits[i] == nil {
			audits[i] = &decisions{}
		}
	}
	return audits, nil
}

// counters gives our metrics in Envoy, by their names without its prefix.
func (g *rig) counters(ctx context.Context) (map[string]int, error) {
	const prefix = "wasmcustom."
	stats, err := g.envoy.Admin.Stats(ctx, `^wasmcustom\.sentinel_`)
	counters := make(map[string]int, len(stats))
	for name, value := range stats {
		counters[strings.TrimPrefix(name, prefix)] = int(value)
	}
	return counters, err
}

// keep copies the Wasm binary to dir, so that a build meanwhile does not change what is measured, and gives its path.
func keep(wasm, dir string) (string, error) {
	code, err := os.ReadFile(wasm)
	if errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("%s does not exist: run `make wasm` first", wasm)
	}
	if err != nil {
		return "", err
	}
	kept := filepath.Join(dir, "sentinel.wasm")
	return kept, os.WriteFile(kept, code, 0o644)
}
