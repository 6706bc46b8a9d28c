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
	clusterSettle   = 5 * time.Second
	clusterMeasured = 6 * time.Second
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
	c := curve{title: "Calls to the rate limit service, for a rule of two Envoys that have ¾ and ¼ of the load", x: "threshold, requests/s"}
	for _, d := range clusterDemands {
		c.columns = append(c.columns, fmt.Sprintf("calls per 1,000 requests, demand %g × the threshold", d))
	}
	for _, n := range clusterThresholds {
		log.Printf("threshold %d", n)
		values, err := clusterPoint(ctx, o, service, n)
		if err != nil {
			return nil, err
		}
		c.add(n, values...)
	}
	return []curve{c}, nil
}

// clusterPoint measures one threshold at each demand, by Envoys of its own.
func clusterPoint(ctx context.Context, o curveOptions, service *ratelimit.Service, threshold int) (values []float64, err error) {
	var envoys []*envoytest.Process
	defer func() {
		for _, e := range envoys {
			err = errors.Join(err, e.Stop())
		}
	}()
	for range clusterShares {
		l := guarded(module{sentinel, o.modules[sentinel]}, fmt.Sprintf(`{"resource_name": "R", "rate_limit_service": {"cluster": %q,
			"domain": %q}, "flowRules": [{"id": "r%d", "resource": "R", "threshold": %d, "clusterMode": true}]}`,
			rateLimitCluster, rateLimitDomain, threshold, threshold))
		e, err := envoytest.Launch(ctx, envoytest.Config{
			EnvoyPath: o.binary, Concurrency: 2, LogLevel: "warn", ReadyTimeout: startTimeout,
			Listeners: []envoytest.Listener{l}, Clusters: []map[string]any{service.Cluster(rateLimitCluster)},
		})
		if err != nil {
			return nil, err
		}
		envoys = append(envoys, e)
	}
	for _, d := range clusterDemands {
		calls, asked, err := clusterLoad(ctx, envoys, d*float64(threshold))
		if err != nil {
			return nil, err
		}
		values = append(values, 1000*calls/asked)
	}
	return values, nil
}

// clusterLoad puts a load on the Envoys, and returns how many calls they have made meanwhile for how many requests.
func clusterLoad(ctx context.Context, envoys []*envoytest.Process, qps float64) (calls, asked float64, err error) {
	errs := make([]error, len(envoys))
	var wg sync.WaitGroup
	for i, e := range envoys {
		_, text, err := net.SplitHostPort(e.Addr(sentinel))
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
