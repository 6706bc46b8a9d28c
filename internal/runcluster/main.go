// Command runcluster shows one limit for three Envoys: it runs them, each with four workers, Envoy's rate limit service and
// Redis, puts twice the limit on them, most of it on one, and prints what each has admitted in each second.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"gopkg.in/yaml.v3"

	"sentinel-envoy/internal/configfile"
	"sentinel-envoy/internal/envoytest"
	"sentinel-envoy/internal/load"
	"sentinel-envoy/internal/quickstart"
	"sentinel-envoy/internal/ratelimit"
	"sentinel-envoy/internal/ratelimit/rules"
	"sentinel-envoy/shared/config"
)

// shares of the load, an Envoy for each.
var shares = []float64{0.7, 0.2, 0.1}

const limit = 300 // of the example's rule, in a second

type settings struct {
	config, wasm  string
	concurrency   int
	port, service int
	duration      time.Duration
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("runcluster: ")
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	var s settings
	flag.StringVar(&s.config, "config", "envoy/examples/cluster.yaml", "Envoy bootstrap `file` with a cluster called rls")
	flag.StringVar(&s.wasm, "wasm", "dist/sentinel.wasm", "Wasm `file`, made by make wasm")
	flag.IntVar(&s.concurrency, "concurrency", 4, "worker threads of each Envoy")
	flag.IntVar(&s.port, "port", 8101, "port of the first Envoy; the others have the next ones")
	flag.IntVar(&s.service, "upstream-port", 18080, "port of the service behind them")
	flag.DurationVar(&s.duration, "duration", load.MaxDuration, "how long the load is put on them")
	flag.Parse()
	if err := run(ctx, s, os.Stdout, os.Stderr); err != nil {
		stop()
		log.Fatal(err)
	}
}

// run runs everything until ctx or the load ends. When it returns all is gone.
func run(ctx context.Context, s settings, stdout, stderr io.Writer) (err error) {
	dir, err := os.MkdirTemp("", "sentinel-cluster-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	bootstrap, err := os.ReadFile(s.config)
	if err != nil {
		return err
	}
	limits, err := serviceRules(bootstrap)
	if err != nil {
		return fmt.Errorf("%s: %w", s.config, err)
	}
	fmt.Fprintln(stdout, "starting Redis, the rate limit service and three Envoys; the first time that takes a minute")
	service, err := ratelimit.Start(ctx, dir, limits)
	if err != nil {
		return stopped(ctx, err)
	}
	defer service.Stop()
	upstream, err := quickstart.StartUpstream(s.service)
	if err != nil {
		return err
	}
	defer upstream.Close()
	envoys, err := launch(ctx, s, bootstrap, service, dir)
	defer func() {
		for _, e := range envoys {
			err = errors.Join(err, stopped(ctx, e.Stop())) // Ctrl-C in a terminal ends them, too
		}
	}()
	if err != nil {
		return stopped(ctx, err)
	}
	fmt.Fprint(stdout, "\nReady. Ctrl-C ends everything. The service's configuration, by sentinel convert --to ratelimit:\n\n", limits, "\n")
	for i, e := range envoys {
		fmt.Fprintf(stdout, "  Envoy %d  http://127.0.0.1:%d/  metrics http://%s/stats/prometheus\n", i+1, s.port+i, e.Admin.Addr())
	}
	fmt.Fprintln(stdout)
	return show(ctx, s, envoys, stdout)
}

// stopped is no error where the user has ended it.
func stopped(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// serviceRules are the service's configuration for the first HTTP filter of a bootstrap.
func serviceRules(bootstrap []byte) (string, error) {
	docs, err := configfile.Read(bootstrap)
	if err != nil {
		return "", err
	}
	for _, d := range docs {
		for _, f := range configfile.Find(d, config.KindHTTP) {
			if f.Kind == config.KindHTTP {
				return rules.FromPlugin(f.JSON())
			}
		}
	}
	return "", errors.New("it has no HTTP filter of ours")
}

// launch starts the Envoys. Those that have started are returned with an error, too.
func launch(ctx context.Context, s settings, bootstrap []byte, service *ratelimit.Service, dir string) (all []*envoytest.Process, err error) {
	wasm, err := filepath.Abs(s.wasm)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(wasm); err != nil {
		return nil, fmt.Errorf("%w (`make wasm` builds it)", err)
	}
	for i := range shares {
		rendered, err := quickstart.Render(bootstrap, quickstart.Ports{HTTP: s.port + i, Upstream: s.service}, wasm)
		if err == nil {
			rendered, err = withService(rendered, service)
		}
		if err != nil {
			return all, err
		}
		own := filepath.Join(dir, fmt.Sprint("envoy-", i+1))
		if err := os.Mkdir(own, 0o700); err != nil {
			return all, err
		}
		e, err := envoytest.Launch(ctx, envoytest.Config{Bootstrap: rendered, Concurrency: s.concurrency, LogLevel: "warn", Dir: own})
		if err != nil {
			return all, err
		}
		all = append(all, e)
	}
	return all, nil
}

// withService puts the service in the place of the cluster called rls.
func withService(bootstrap []byte, service *ratelimit.Service) ([]byte, error) {
	var doc map[string]any
	if err := yaml.Unmarshal(bootstrap, &doc); err != nil {
		return nil, err
	}
	resources, _ := doc["static_resources"].(map[string]any)
	clusters, _ := resources["clusters"].([]any)
	for i, c := range clusters {
		if c, ok := c.(map[string]any); ok && c["name"] == "rls" {
			clusters[i] = service.Cluster("rls")
			return yaml.Marshal(doc)
		}
	}
	return nil, errors.New("it has no cluster called rls")
}

// show puts load on the Envoys, and prints what became of it each second. It begins with a second of the machine's clock, since
// the service's windows do.
func show(ctx context.Context, s settings, envoys []*envoytest.Process, stdout io.Writer) error {
	b := &board{out: stdout, envoys: envoys, seconds: map[int][]load.Second{}}
	fmt.Fprintf(stdout, "%d requests/s in all, %.0f %% of them on the first Envoy; together they may admit %d a second\n\n%s\n",
		2*limit, 100*shares[0], limit, "second  Envoy 1  Envoy 2  Envoy 3  together  calls to the service, of 1,000 requests")
	now := time.Now()
	select {
	case <-time.After(now.Truncate(time.Second).Add(time.Second).Sub(now)):
	case <-ctx.Done():
		return nil
	}
	b.calls = b.callsSoFar(ctx)
	errs := make([]error, len(envoys))
	var wg sync.WaitGroup
	for i := range envoys {
		wg.Go(func() {
			_, errs[i] = load.Run(ctx, load.Options{
				Port: s.port + i, QPS: 2 * limit * shares[i], Duration: s.duration, Path: "/get",
				OnSecond: func(sec load.Second) { b.add(ctx, i, sec) },
			})
		})
	}
	wg.Wait()
	return stopped(ctx, errors.Join(errs...))
}

// board brings together what the loads tell.
type board struct {
	mu      sync.Mutex
	out     io.Writer
	envoys  []*envoytest.Process
	seconds map[int][]load.Second
	calls   float64
}

func (b *board) add(ctx context.Context, i int, s load.Second) {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := b.seconds[s.Index]
	if all == nil {
		all = make([]load.Second, len(b.envoys))
	}
	all[i] = s
	b.seconds[s.Index] = all
	var passed, sent uint64
	for _, one := range all {
		if one.Index == 0 {
			return // some have yet to tell
		}
		passed, sent = passed+one.Passed, sent+one.Sent
	}
	delete(b.seconds, s.Index)
	calls := b.callsSoFar(ctx)
	fmt.Fprintf(b.out, "%6d %8d %8d %8d %9d  %.0f\n", s.Index, all[0].Passed, all[1].Passed, all[2].Passed, passed,
		1000*(calls-b.calls)/float64(max(sent, 1)))
	b.calls = calls
}

// callsSoFar is how often the Envoys have called the service, as far as they have told.
func (b *board) callsSoFar(ctx context.Context) (sum float64) {
	for _, e := range b.envoys {
		samples, err := e.Admin.Prometheus(ctx)
		if err != nil {
			return b.calls
		}
		sum += envoytest.Sum(samples, "sentinel_cluster_calls")
	}
	return sum
}
