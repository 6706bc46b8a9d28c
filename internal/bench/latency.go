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
	"time"

	"sentinel-envoy/internal/envoytest"
	"sentinel-envoy/internal/load"
	"sentinel-envoy/internal/ratelimit"
)

const (
	// capacityTurns are how often each listener's capacity is measured; the median counts.
	capacityTurns = 3
	// slowestShare is how much load latency is measured at: half of what the slowest listener can take.
	slowestShare = 0.5
)

// latencyOptions are the flags of `bench latency`.
type latencyOptions struct {
	envoy       string
	sentinel    string
	rounds      int
	turn        time.Duration
	connections int
}

// latencyMain is the command `bench latency`.
func latencyMain(ctx context.Context, args []string) error {
	var o latencyOptions
	flags := flag.NewFlagSet("bench latency", flag.ExitOnError)
	flags.StringVar(&o.envoy, "envoy", "", "Envoy `binary`; empty: $ENVOY_PATH, then the pinned one")
	flags.StringVar(&o.sentinel, "sentinel", "dist/sentinel.wasm", "the Sentinel binary to measure")
	flags.IntVar(&o.rounds, "rounds", 13, "how often each filter is measured; at least 3")
	flags.DurationVar(&o.turn, "turn", time.Second, "how long it is measured each time")
	flags.IntVar(&o.connections, "connections", 8, "keep-alive connections")
	flags.Parse(args)
	if flags.NArg() > 0 || o.rounds < 3 || o.turn <= 0 || o.connections < 1 {
		flags.Usage()
		os.Exit(2)
	}
	return measureLatency(ctx, o, os.Stdout)
}

// latencyRow is what one filter adds to a request's time, in µs; for the listener without a filter, the whole.
type latencyRow struct {
	name     string
	capacity float64 // requests per second
	p50, p99 summary
	late     float64 // share of the requests that left more than 10 ms late, or never
}

// measureLatency prints a table of all filters at half of what the slowest of them can take, and one of those that ask
// nobody, at half of what the slowest of those can take.
func measureLatency(ctx context.Context, o latencyOptions, w io.Writer) error {
	dir, err := os.MkdirTemp("", "sentinel-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	r, err := startLatencyRig(ctx, dir, o)
	if err != nil {
		return err
	}
	defer r.stop()
	capacities, err := r.capacities(ctx)
	if err != nil {
		return err
	}
	inside := slices.DeleteFunc(slices.Clone(r.names), func(name string) bool { return name == service || name == clustered })
	if len(inside) < len(r.names) {
		if err := r.table(ctx, w, r.names, capacities); err != nil {
			return err
		}
		fmt.Fprintln(w)
	}
	if err := r.table(ctx, w, inside, capacities); err != nil {
		return err
	}
	if r.missing != nil {
		fmt.Fprintf(w, "\nWithout %s: %v\n", service, r.missing)
	}
	return r.envoy.Stop()
}

// latencyRig is one Envoy with a listener per filter.
type latencyRig struct {
	latencyOptions

	names   []string // of the listeners; the first has no filter
	envoy   *envoytest.Process
	remote  *ratelimit.Service
	missing error // why there is no rate limit service
}

// startLatencyRig starts everything and checks that each filter with a limit does limit.
func startLatencyRig(ctx context.Context, dir string, o latencyOptions) (_ *latencyRig, err error) {
	binary, err := findEnvoy(ctx, o.envoy)
	if err != nil {
		return nil, err
	}
	modules, err := collectModules(ctx, dir, options{sentinel: o.sentinel, only: sentinelOnly})
	if err != nil {
		return nil, err
	}
	r := &latencyRig{latencyOptions: o}
	defer func() {
		if err != nil {
			r.stop()
		}
	}()
	if r.remote, r.missing = ratelimit.Start(ctx, dir, rateLimitRules()); r.missing != nil {
		log.Printf("no row for %s: %v", service, r.missing)
	}
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	config := envoytest.Config{EnvoyPath: binary, Concurrency: 1, LogLevel: "warn", ReadyTimeout: startTimeout}
	if r.remote != nil {
		config.Clusters = append(config.Clusters, r.remote.Cluster(rateLimitCluster))
	}
	variants := latencyVariants(modules, r.remote != nil)
	if config.Listeners, err = latencyListeners(variants, address); err != nil {
		return nil, err
	}
	if r.envoy, err = envoytest.Launch(ctx, config); err != nil {
		return nil, err
	}
	for _, v := range variants {
		c, err := prepare(ctx, r.envoy, v, o.connections)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", v.name, err)
		}
		c.close()
		r.names = append(r.names, v.name)
	}
	return r, nil
}

func (r *latencyRig) stop() {
	if r.envoy != nil {
		_ = r.envoy.Stop()
	}
	if r.remote != nil {
		r.remote.Stop()
	}
}

// latencyVariants are the listeners of the CPU measurement that matter here, and one that asks the service.
func latencyVariants(modules []module, remote bool) []variant {
	variants := slices.DeleteFunc(cpuVariants(modules), func(v variant) bool {
		return !slices.Contains([]string{unfiltered, native, empty, sentinel}, v.name)
	})
	if remote {
		variants = append(variants, serviceVariant())
		if i := slices.IndexFunc(modules, func(m module) bool { return m.name == sentinel }); i >= 0 {
			variants = append(variants, clusterVariant(modules[i]))
		}
	}
	return variants
}

// latencyListeners are all listeners of the Envoy: those of the variants forward to one on address, which answers.
func latencyListeners(variants []variant, address string) ([]envoytest.Listener, error) {
	last, err := upstreamListener(address)
	if err != nil {
		return nil, err
	}
	listeners := []envoytest.Listener{last}
	for _, v := range variants {
		v = v.forwarding(address)
		listeners = append(listeners, v.listener)
		if v.control != nil {
			listeners = append(listeners, *v.control)
		}
	}
	return listeners, nil
}

// freeAddress is a loopback address that nothing listens on.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// capacities are the requests per second that each listener answers when every answer is followed by a request.
func (r *latencyRig) capacities(ctx context.Context) (map[string]float64, error) {
	samples := map[string][]float64{}
	for turn := range capacityTurns {
		log.Printf("capacity, turn %d of %d", turn+1, capacityTurns)
		for _, name := range r.names {
			s, err := r.offer(ctx, name, 0)
			if err != nil {
				return nil, err
			}
			samples[name] = append(samples[name], float64(s.Passed)/s.Elapsed.Seconds())
		}
	}
	capacities := map[string]float64{}
	for name, values := range samples {
		capacities[name] = summarize(values).Median
	}
	return capacities, nil
}

// offer sends requests to a listener at a rate, or as fast as it answers where that is 0.
func (r *latencyRig) offer(ctx context.Context, listener string, rate float64) (load.Summary, error) {
	_, text, err := net.SplitHostPort(r.envoy.Addr(listener))
	if err != nil {
		return load.Summary{}, err
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		return load.Summary{}, err
	}
	s, err := load.Run(ctx, load.Options{Port: port, QPS: rate, Duration: r.turn, Connections: r.connections})
	if err = errors.Join(err, ctx.Err()); err == nil && s.Passed != s.Sent {
		err = fmt.Errorf("not every answer is 200: %v %v", s.Status, s.Errors)
	}
	return s, err
}

// table measures the named listeners in turn, over and over, and prints what they add to the first one's latency.
func (r *latencyRig) table(ctx context.Context, w io.Writer, names []string, capacities map[string]float64) error {
	rate := capacities[names[0]]
	for _, name := range names {
		rate = min(rate, capacities[name])
	}
	rate *= slowestShare
	rounds := make([][]load.Summary, r.rounds)
	for round := range rounds {
		log.Printf("latency at %.0f/s, round %d of %d", rate, round+1, r.rounds)
		rounds[round] = make([]load.Summary, len(names))
		for place := range names {
			i := (round + place) % len(names)
			var err error
			if rounds[round][i], err = r.offer(ctx, names[i], rate); err != nil {
				return fmt.Errorf("%s: %w", names[i], err)
			}
		}
	}
	rows := latencyRows(names, calmest(rounds, slowness))
	for i := range rows {
		rows[i].capacity = capacities[rows[i].name]
	}
	return writeLatency(w, rows, rate, r.rounds, r.turn)
}

// slowness tells the calm rounds from others.
func slowness(s load.Summary) time.Duration { return s.P50 + s.P99 }

// latencyRows sums up rounds, each with a summary per listener, the first of which has no filter.
func latencyRows(names []string, rounds [][]load.Summary) []latencyRow {
	rows := make([]latencyRow, len(names))
	for i, name := range names {
		var p50, p99 []float64
		var late, due uint64
		for _, round := range rounds {
			base := load.Latency{}
			if i > 0 {
				base = round[0].Latency
			}
			p50 = append(p50, micros(round[i].P50-base.P50))
			p99 = append(p99, micros(round[i].P99-base.P99))
			late += round[i].Behind + round[i].Unsent
			due += round[i].Sent + round[i].Unsent
		}
		rows[i] = latencyRow{name: name, p50: summarize(p50), p99: summarize(p99), late: float64(late) / float64(max(due, 1))}
	}
	return rows
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// writeLatency prints rows as a table in Markdown.
func writeLatency(w io.Writer, rows []latencyRow, rate float64, rounds int, turn time.Duration) error {
	var b strings.Builder
	fmt.Fprintf(&b, "Latency above a listener without a filter at %.0f requests/s, half of what the slowest row takes: median of\n"+
		"the calmer half of %d interleaved turns of %v (least … most), counted from when a request was due.\n\n"+
		"| filter | takes, requests/s | p50, µs | p99, µs | left late |\n|---|---|---|---|---|\n", rate, rounds, turn)
	for i, row := range rows {
		name := row.name
		if i == 0 {
			name += " (the whole)"
		}
		fmt.Fprintf(&b, "| %s | %.0f | %s | %s | %.1f %% |\n", name, row.capacity, row.p50.format(0), row.p99.format(0), 100*row.late)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
