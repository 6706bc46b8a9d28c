package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"sentinel-envoy/internal/envoytest"
	"sentinel-envoy/internal/load"
	"sentinel-envoy/internal/wasmbuild/build"
)

const (
	listener    = "profile"
	connections = 16
	// warmUp is how many requests Envoy answers before samples are taken.
	warmUp = 20_000
	// loadMargin is by how much the load may outlast the sampling, while perf starts and writes.
	loadMargin = 30 * time.Second
)

// session is what a profile is taken of: an Envoy binary and how to start it.
type session struct {
	dir    string // where perf writes
	path   string // of the requests
	config envoytest.Config
}

// offered is what Envoy did while it was profiled.
type offered struct {
	Requests uint64
	Statuses map[string]uint64 // of their answers
	CPU      time.Duration     // of all of Envoy's threads
	Elapsed  time.Duration
}

// prepare makes in dir the Envoy and the plugin. From then on the command works in dir: V8 leaves log files where it runs.
func prepare(ctx context.Context, dir string, o options, configuration string) (*session, error) {
	found, err := findEnvoy(ctx, o.envoy)
	if err != nil {
		return nil, err
	}
	envoy, wasm := filepath.Join(dir, "envoy"), filepath.Join(dir, "plugin.wasm")
	if err := copyProfiled(envoy, found); err != nil {
		return nil, err
	}
	log.Print("building ./plugins with names")
	if _, err := build.Build(ctx, build.Options{Package: "sentinel-envoy/plugins", Out: wasm, Names: true}); err != nil {
		return nil, err
	}
	return &session{dir: dir, path: o.path, config: envoytest.Config{
		EnvoyPath:   envoy,
		Concurrency: 1,
		LogLevel:    "warn",
		Listeners: []envoytest.Listener{envoytest.HTTP{
			Name:   listener,
			Routes: []envoytest.Route{{DirectStatus: 200}},
			Wasm:   []envoytest.Wasm{{File: wasm, RootID: "sentinel_http", Config: configuration}},
		}},
	}}, nil
}

// profile starts the Envoy, samples it under load for d, and gives what perf script says.
func (s *session) profile(ctx context.Context, perf string, d time.Duration) (text []byte, got offered, err error) {
	leave, err := enter(s.dir)
	if err != nil {
		return nil, got, err
	}
	defer leave()
	log.Print("starting Envoy")
	envoy, err := envoytest.Launch(ctx, s.config)
	if err != nil {
		return nil, got, err
	}
	defer func() {
		err = errors.Join(err, envoy.Stop(), removeIfThere(symbolFile(envoy.PID())))
	}()
	to, err := s.target(envoy)
	if err != nil {
		return nil, got, err
	}
	first := to
	first.Requests = warmUp
	if _, err := load.Run(ctx, first); err != nil {
		return nil, got, err
	}
	log.Printf("taking samples for %v", d)
	data := filepath.Join(s.dir, "perf.data")
	to.Duration = d + loadMargin
	if got, err = underLoad(ctx, envoy, to, func() error { return record(ctx, perf, data, envoy.PID(), d) }); err != nil {
		return nil, got, err
	}
	text, err = script(ctx, perf, data)
	return text, got, err
}

// target is the load on an Envoy's listener: a closed loop.
func (s *session) target(envoy *envoytest.Process) (load.Options, error) {
	_, text, err := net.SplitHostPort(envoy.Addr(listener))
	if err != nil {
		return load.Options{}, err
	}
	port, err := strconv.Atoi(text)
	return load.Options{Port: port, Path: s.path, Connections: connections}, err
}

// underLoad runs f while Envoy is under load, which ends when f does. What it gives is about all of the load.
func underLoad(ctx context.Context, envoy *envoytest.Process, to load.Options, f func() error) (offered, error) {
	before, err := envoy.CPUTime()
	if err != nil {
		return offered{}, err
	}
	loadCtx, stop := context.WithCancel(ctx)
	defer stop()
	type outcome struct {
		load.Summary
		err error
	}
	done := make(chan outcome, 1)
	go func() {
		s, err := load.Run(loadCtx, to)
		done <- outcome{s, err}
	}()
	err = f()
	stop()
	o := <-done
	after, cpuErr := envoy.CPUTime()
	if err := errors.Join(err, o.err, cpuErr, ctx.Err()); err != nil {
		return offered{}, err
	}
	if o.Sent == 0 {
		return offered{}, fmt.Errorf("no request was made: %s", o.LastError)
	}
	return offered{o.Sent, o.Status, after - before, o.Elapsed}, nil
}

// enter makes dir the working directory until leave is called.
func enter(dir string) (leave func(), err error) {
	before, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	return func() { _ = os.Chdir(before) }, os.Chdir(dir)
}

// removeIfThere removes a file that may not exist.
func removeIfThere(file string) error {
	if err := os.Remove(file); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
