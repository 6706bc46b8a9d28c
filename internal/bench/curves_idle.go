package main

import (
	"context"
	"errors"
	"log"
	"time"

	"sentinel-envoy/internal/envoytest"
)

const (
	// idleLeadIn is how long an Envoy is left alone before it counts as idle: a VM goes on ticking for some seconds after its
	// last stream.
	idleLeadIn = 5 * time.Second
	// idleWatched is how long it is then watched.
	idleWatched = 4 * time.Second
)

// idleCurves are what Envoy uses while nobody asks anything of it, against its worker threads. Each point has an Envoy of
// its own, that of Sentinel with both filters.
func idleCurves(ctx context.Context, o curveOptions) ([]curve, error) {
	c := curve{
		title: "Envoy's worker threads without requests", x: "workers",
		columns: []string{"no filter: ms of CPU per second", "empty Go filter", "both filters, 1 rule", "both filters, 1,000 rules"},
	}
	one, many := configuration(sentinel, unreached), rulesFor(paths)
	for _, workers := range []int{1, 4, 8} {
		var used []float64
		for _, listeners := range [][]envoytest.Listener{
			{answering(unfiltered)},
			{guarded(module{empty, o.modules[empty]}, "")},
			both(o.modules[sentinel], one),
			both(o.modules[sentinel], many),
		} {
			ms, err := idlePoint(ctx, o, workers, listeners)
			if err != nil {
				return nil, err
			}
			log.Printf("%d workers, idle: %.1f ms of CPU per second", workers, ms)
			used = append(used, ms)
		}
		c.add(workers, used...)
	}
	return []curve{c}, nil
}

// both are a listener with the HTTP filter of a configuration, and one with the TCP filter and one rule, in one VM.
func both(file, http string) []envoytest.Listener {
	return []envoytest.Listener{
		guarded(module{sentinel, file}, http),
		envoytest.TCP{
			Upstream: "127.0.0.1:9", // nobody connects
			Wasm:     []envoytest.Wasm{{File: file, RootID: "sentinel_tcp", Config: configuration(sentinel, unreached)}},
		},
	}
}

// idlePoint is what an Envoy with listeners uses without requests, in ms of CPU per second.
func idlePoint(ctx context.Context, o curveOptions, workers int, listeners []envoytest.Listener) (ms float64, err error) {
	envoy, err := envoytest.Launch(ctx, envoytest.Config{
		Listeners: listeners, EnvoyPath: o.binary, Concurrency: workers, LogLevel: "warn", ReadyTimeout: startTimeout,
	})
	if err != nil {
		return 0, err
	}
	s := &station{curveOptions: o, envoy: envoy}
	defer func() { err = errors.Join(err, s.close()) }()
	if err := pause(ctx, idleLeadIn); err != nil {
		return 0, err
	}
	used, took, err := s.watch(func() error { return pause(ctx, idleWatched) })
	return used.Seconds() * 1e3 / took.Seconds(), err
}
