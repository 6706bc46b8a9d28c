package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"sentinel-envoy/internal/envoytest"
	"sentinel-envoy/internal/load"
	"sentinel-envoy/internal/ratelimit"
)

const (
	// clusterSettle is for how long load is put on the Envoys before calls are counted, for clusterMeasured: the first seconds
	// are for the service's clock, and to learn the load.
	clusterSettle   = 4 * time.Second
	clusterMeasured = 4 * time.Second
)

var (
	// clusterThresholds are the thresholds, in requests a second, and clusterDemands the loads as multiples of them.
	clusterThresholds = []int{30, 100, 300, 1000, 3000}
	clusterDemands    = []float64{0.5, 1, 2}
	// clusterShares are how the load lies on the Envoys.
	clusterShares = []float64{0.75, 0.25}
)

// clusterCurves are the calls to the rate limit service against the threshold of a rule that two Envoys have. Without Redis
// there are none.
func clusterCurves(ctx context.Context, o curveOptions) (_ []curve, err error) {
	dir, err := os.MkdirTemp("", "sentinel-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	var rules strings.Builder
	fmt.Fprintf(&rules, "domain: %s\ndescriptors:\n", rateLimitDomain)
	for _, n := range clusterThresholds {
		fmt.Fprintf(&rules, "- {key: rule, value: r%d, rate_limit: {unit: second, requests_per_unit: %d}}\n", n, n)
	}
	service, err := ratelimit.Start(ctx, dir, rules.String())
	if errors.Is(err, ratelimit.ErrNoRedis) {
		log.Print(err)
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer service.Stop()
	envoys, err := clusterEnvoys(ctx, o, service)
	defer func() {
		for _, e := range envoys {
			err = errors.Join(err, e.Stop())
		}
	}()
	if err != nil {
		return nil, err
	}
	c := curve{title: "Calls to the rate limit service, for a rule of two Envoys that have ¾ and ¼ of the load", x: "threshold, requests/s"}
	for _, d := range clusterDemands {
		c.columns = append(c.columns, fmt.Sprintf("calls per 1,000 requests, demand %g × the threshold", d))
	}
	for _, n := range clusterThresholds {
		var values []float64
		for _, d := range clusterDemands {
			calls, asked, err := clusterLoad(ctx, envoys, clusterListener(n), d*float64(n))
			if err != nil {
				return nil, err
			}
			log.Printf("threshold %d, demand %g: %.0f calls for %.0f requests", n, d, calls, asked)
			values = append(values, 1000*calls/asked)
		}
		c.add(n, values...)
	}
	return []curve{c}, nil
}

// clusterListener is the name of the listener with a threshold.
func clusterListener(threshold int) string { return fmt.Sprint("threshold ", threshold) }

// clusterEnvoys starts the Envoys, each with a listener for each threshold. Those that have started are returned with an error, too.
func clusterEnvoys(ctx context.Context, o curveOptions, service *ratelimit.Service) (all []*envoytest.Process, err error) {
	for range clusterShares {
		config := envoytest.Config{
			EnvoyPath: o.binary, Concurrency: 2, LogLevel: "warn", ReadyTimeout: startTimeout,
			Clusters: []map[string]any{service.Cluster(rateLimitCluster)},
		}
		for _, n := range clusterThresholds {
			config.Listeners = append(config.Listeners, guarded(module{clusterListener(n), o.modules[sentinel]}, fmt.Sprintf(
				`{"resource_name": "R%d", "rate_limit_service": {"cluster": %q, "domain": %q}, "flowRules": [{"id": "r%d", "resource": "R%d",
				"threshold": %d, "clusterMode": true}]}`, n, rateLimitCluster, rateLimitDomain, n, n, n)))
		}
		e, err := envoytest.Launch(ctx, config)
		if err != nil {
			return all, err
		}
		all = append(all, e)
	}
	return all, nil
}

// clusterLoad puts a load on a listener of the Envoys, and returns how many calls they have made meanwhile for how many requests.
func clusterLoad(ctx context.Context, envoys []*envoytest.Process, listener string, qps float64) (calls, asked float64, err error) {
	errs := make([]error, len(envoys))
	var wg sync.WaitGroup
	for i, e := range envoys {
		_, text, err := net.SplitHostPort(e.Addr(listener))
		if err != nil {
			return 0, 0, err
		}
		port, err := strconv.Atoi(text)
		if err != nil {
			return 0, 0, err
		}
		wg.Go(func() {
			_, errs[i] = load.Run(ctx, load.Options{Port: port, QPS: qps * clusterShares[i], Duration: clusterSettle + clusterMeasured + time.Second, Connections: 16})
		})
	}
	var figures [2][2]float64
	for i, wait := range []time.Duration{clusterSettle, clusterMeasured} {
		if err := pause(ctx, wait); err != nil {
			return 0, 0, err
		}
		for _, e := range envoys {
			samples, err := e.Admin.Prometheus(ctx)
			if err != nil {
				return 0, 0, err
			}
			figures[i][0] += envoytest.Sum(samples, "sentinel_cluster_calls")
			figures[i][1] += envoytest.Sum(samples, "sentinel_passed") + envoytest.Sum(samples, "sentinel_blocked")
		}
	}
	wg.Wait()
	return figures[1][0] - figures[0][0], max(figures[1][1]-figures[0][1], 1), errors.Join(errs...)
}
