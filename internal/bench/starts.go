package main

import (
	"context"
	"fmt"
	"log"
	"time"

	"sentinel-envoy/internal/envoytest"
)

const (
	// fewWorkers and manyWorkers are what memory is compared between.
	fewWorkers  = 1
	manyWorkers = 4
	// requestsPerWorker reach each worker before its memory is read.
	requestsPerWorker = 1000
)

// startRow is what one filter costs besides requests.
type startRow struct {
	Name string `json:"name"`
	// Ready is the time from Envoy's start until its listeners accept, in seconds.
	Ready summary `json:"seconds_to_ready"`
	// PerWorker is resident memory per further worker thread in MB (10^6 bytes), Envoy's own included.
	PerWorker summary `json:"mb_per_worker"`
}

// measureStarts starts an Envoy per variant, number of workers and repetition, one after the other.
func measureStarts(ctx context.Context, binary string, variants []variant, repeat int) ([]startRow, error) {
	ready := make([][]float64, len(variants))
	perWorker := make([][]float64, len(variants))
	for round := range repeat {
		for i, v := range variants {
			if v.name == sentinelGo && round > 0 {
				continue // No target needs more of it, and each start takes most of a minute.
			}
			log.Printf("start and memory, round %d of %d: %s", round+1, repeat, v.name)
			few, err := startOnce(ctx, binary, v.listener, fewWorkers)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", v.name, err)
			}
			many, err := startOnce(ctx, binary, v.listener, manyWorkers)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", v.name, err)
			}
			ready[i] = append(ready[i], few.ready.Seconds(), many.ready.Seconds())
			perWorker[i] = append(perWorker[i], float64(many.rss-few.rss)/1e6/(manyWorkers-fewWorkers))
		}
	}
	rows := make([]startRow, len(variants))
	for i, v := range variants {
		rows[i] = startRow{v.name, summarize(ready[i]), summarize(perWorker[i])}
	}
	return rows, nil
}

// started is what one Envoy start showed.
type started struct {
	ready time.Duration
	rss   int64 // bytes
}

// startOnce starts an Envoy, has every worker answer requests, and reads its memory.
func startOnce(ctx context.Context, binary string, l envoytest.HTTP, workers int) (started, error) {
	begin := time.Now()
	envoy, err := envoytest.Launch(ctx, envoytest.Config{
		Listeners: []envoytest.Listener{l}, EnvoyPath: binary, Concurrency: workers, LogLevel: "warn",
		ReadyTimeout: startTimeout,
	})
	if err != nil {
		return started{}, err
	}
	s := started{ready: time.Since(begin)}
	if err = serveOnAll(ctx, envoy, l.Name, workers); err == nil {
		s.rss, err = envoy.RSS()
	}
	if stopErr := envoy.Stop(); err == nil {
		err = stopErr
	}
	return s, err
}

// serveOnAll sends requests over one connection per worker, which Envoy's exact balance puts on one worker each, and
// fails if Envoy's own counters say otherwise.
func serveOnAll(ctx context.Context, envoy *envoytest.Process, listener string, workers int) error {
	c, err := dial(envoy.Addr(listener), workers, requestsFor(paths))
	if err != nil {
		return err
	}
	defer c.close()
	if err := c.sendOK(ctx, workers*requestsPerWorker); err != nil {
		return err
	}
	stats, err := envoy.Admin.Stats(ctx, `^listener\..*worker_\d+\.downstream_cx_active$`)
	if err != nil {
		return err
	}
	if len(stats) != workers {
		return fmt.Errorf("%d workers have connections, not %d: %v", len(stats), workers, stats)
	}
	for name, active := range stats {
		if active == 0 {
			return fmt.Errorf("a worker served no request: %s is 0", name)
		}
	}
	return nil
}
