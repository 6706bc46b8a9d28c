package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"sentinel-envoy/internal/envoytest"
)

const (
	// leadIn is how long requests are made before their cost is measured for measuredFor. Reports and gauges follow requests
	// by up to a second, and this lets those of earlier requests go by.
	leadIn      = 700 * time.Millisecond
	measuredFor = 600 * time.Millisecond
	// burst is how many requests are made between two looks at the time.
	burst = 256
	// idleFor is how long Envoy is watched doing nothing, after it was left alone for as long: too short for its VMs to rest.
	idleFor = time.Second
	// chunk is how many requests are made ready at a time.
	chunk = 50_000
)

// station is one running Envoy, the CPU time of which is measured.
type station struct {
	curveOptions

	envoy *envoytest.Process
	names []string
	ask   []*client
	// idle is the share of a core that Envoy uses without requests, while its VMs do not rest yet.
	idle float64
}

// openStation starts an Envoy with listeners, and watches it at rest; add tells what is asked of it.
func openStation(ctx context.Context, o curveOptions, workers int, listeners ...envoytest.HTTP) (*station, error) {
	config := envoytest.Config{EnvoyPath: o.binary, Concurrency: workers, LogLevel: "warn", ReadyTimeout: startTimeout}
	for _, l := range listeners {
		config.Listeners = append(config.Listeners, l)
	}
	envoy, err := envoytest.Launch(ctx, config)
	if err != nil {
		return nil, err
	}
	s := &station{curveOptions: o, envoy: envoy}
	if err := s.rest(ctx); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func (s *station) close() error {
	for _, c := range s.ask {
		c.close()
	}
	return s.envoy.Stop()
}

// add has requests made of a listener, and warms it up. The first listener is the one without a filter.
func (s *station) add(ctx context.Context, listener string, requests [][]byte) error {
	return s.addAnswered(ctx, listener, requests, 200)
}

// addAnswered is add for requests that are answered with another status.
func (s *station) addAnswered(ctx context.Context, listener string, requests [][]byte, status int) error {
	c, err := dial(s.envoy.Addr(listener), s.connections, requests)
	if err != nil {
		return err
	}
	c.status = status
	s.names, s.ask = append(s.names, listener), append(s.ask, c)
	if err := c.sendOK(ctx, warmUp); err != nil {
		return fmt.Errorf("%s: %w", listener, err)
	}
	return nil
}

// measure gives the CPU time in µs per request of each but the first, above the first; the median of the calmer half of
// some rounds.
func (s *station) measure(ctx context.Context) ([]float64, error) {
	costs := make([][]float64, s.rounds)
	for round := range costs {
		costs[round] = make([]float64, len(s.ask))
		for place := range s.ask {
			i := (round + place) % len(s.ask)
			var err error
			if costs[round][i], err = s.turn(ctx, s.ask[i]); err != nil {
				return nil, fmt.Errorf("%s: %w", s.names[i], err)
			}
		}
	}
	calm := calmest(costs, func(cost float64) float64 { return cost })
	medians := make([]float64, len(s.ask)-1)
	for i := range medians {
		var above []float64
		for _, cost := range calm {
			above = append(above, cost[i+1]-cost[0])
		}
		medians[i] = summarize(above).Median
	}
	return medians, nil
}

// turn is Envoy's CPU time in µs per request while it answers one after the other, above that of doing nothing.
func (s *station) turn(ctx context.Context, c *client) (float64, error) {
	if _, err := sendFor(ctx, c, leadIn); err != nil {
		return 0, err
	}
	sent := 0
	used, took, err := s.watch(func() (err error) {
		sent, err = sendFor(ctx, c, measuredFor)
		return err
	})
	return (used.Seconds() - s.idle*took.Seconds()) * 1e6 / float64(sent), err
}

// sendFor makes requests for some time, and tells how many.
func sendFor(ctx context.Context, c *client, d time.Duration) (sent int, err error) {
	for end := time.Now().Add(d); time.Now().Before(end); sent += burst {
		if err := c.sendOK(ctx, burst); err != nil {
			return sent, err
		}
	}
	return sent, nil
}

// rest notes what Envoy uses without requests.
func (s *station) rest(ctx context.Context) error {
	if err := pause(ctx, idleFor); err != nil {
		return err
	}
	used, took, err := s.watch(func() error { return pause(ctx, idleFor) })
	s.idle = used.Seconds() / took.Seconds()
	return err
}

// watch gives the CPU time that Envoy uses while f runs, and how long that takes.
func (s *station) watch(f func() error) (used, took time.Duration, err error) {
	begin := time.Now()
	before, err := cpuTime(s.envoy.PID())
	if err != nil {
		return 0, 0, err
	}
	err = f()
	after, cpuErr := cpuTime(s.envoy.PID())
	return after - before, time.Since(begin), errors.Join(err, cpuErr)
}

// pause sleeps, unless the command ends.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// megabytes is Envoy's resident memory in MB (10^6 bytes).
func (s *station) megabytes() (float64, error) {
	rss, err := s.envoy.RSS()
	return float64(rss) / 1e6, err
}

// ruleCurves are the cost of a request against the number of rules, each of a resource of its own: where all requests are
// for one resource, and where they go to all in turn. Each point has an Envoy of its own.
func ruleCurves(ctx context.Context, o curveOptions) ([]curve, error) {
	one := curve{
		title: "Rules, each of its own resource; all requests to one", x: "rules",
		columns: []string{"µs of CPU per request", "ticks without requests: ms of CPU per second", "MB of Envoy, 1 worker"},
	}
	all := curve{
		title: "Resources, each with a rule; requests to all in turn", x: "resources",
		columns: []string{"µs of CPU per request"},
	}
	for _, n := range powersOfTen(o.maxRules) {
		log.Printf("%d rules", n)
		costs, s, err := rulePoint(ctx, o, rulesFor(n), n, 200)
		if err != nil {
			return nil, err
		}
		one.add(n, costs[0], s.idle*1e3, s.mb)
		all.add(n, costs[1])
	}
	return []curve{one, all}, nil
}

// atRest is what an Envoy uses without requests, while its VMs do not rest yet.
type atRest struct{ idle, mb float64 }

// rulePoint measures n rules, with requests for one resource and for all, which are all answered with this status.
func rulePoint(ctx context.Context, o curveOptions, rules string, n, status int) (costs []float64, rest atRest, err error) {
	l := guarded(module{sentinel, o.modules[sentinel]}, rules)
	s, err := openStation(ctx, o, 1, answering(unfiltered), l)
	if err != nil {
		return nil, rest, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	for _, add := range []struct {
		listener      string
		paths, status int
	}{{unfiltered, n, 200}, {sentinel, 1, status}, {sentinel, n, status}} {
		if err := s.addAnswered(ctx, add.listener, requestsFor(add.paths), add.status); err != nil {
			return nil, rest, err
		}
	}
	if costs, err = s.measure(ctx); err != nil {
		return nil, rest, err
	}
	rest.idle = s.idle
	rest.mb, err = s.megabytes()
	return costs, rest, err
}

// valueCurves are the cost of a request against how many values a hotspot rule has seen, in one Envoy that sees more and
// more.
func valueCurves(ctx context.Context, o curveOptions) (_ []curve, err error) {
	c := curve{
		title:   "Distinct values seen by a hotspot rule; requests with up to 10,000 of them in turn",
		x:       "values",
		columns: []string{"µs of CPU per request", "MB of Envoy, 1 worker"},
	}
	l := guarded(module{sentinel, o.modules[sentinel]}, valueConfiguration)
	s, err := openStation(ctx, o, 1, answering(unfiltered), l)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	if err := s.add(ctx, unfiltered, requestsWith(0, 1, 1)); err != nil {
		return nil, err
	}
	if err := s.add(ctx, sentinel, requestsWith(0, 1, 1)); err != nil {
		return nil, err
	}
	seen := 1
	for _, n := range powersOfTen(o.maxValues) {
		log.Printf("%d values", n)
		for seen < n {
			next := min(seen+chunk, n)
			s.ask[1].say(requestsWith(seen, next, 1))
			if err := s.ask[1].sendOK(ctx, next-seen); err != nil {
				return nil, err
			}
			seen = next
		}
		some := requestsWith(0, n, max(n/10000, 1))
		s.ask[0].say(some)
		s.ask[1].say(some)
		costs, err := s.measure(ctx)
		if err != nil {
			return nil, err
		}
		mb, err := s.megabytes()
		if err != nil {
			return nil, err
		}
		c.add(n, costs[0], mb)
	}
	return []curve{c}, nil
}

// valueHeader carries the value that valueConfiguration's rule is about.
const valueHeader = "x-user"

// valueConfiguration limits each value of a header at a threshold that no run reaches.
const valueConfiguration = `{"resource_name": "bench", "hotspotRules": [{"id": "h", "resource": "bench", "metricType": "QPS",
	"paramSource": "Header", "paramKey": "` + valueHeader + `", "threshold": 100000000, "durationInSec": 1}]}`

// requestsWith are requests with every step-th of the values from first up to, but not with, end.
func requestsWith(first, end, step int) [][]byte {
	requests := make([][]byte, 0, (end-first+step-1)/step)
	for i := first; i < end; i += step {
		requests = append(requests, fmt.Appendf(nil, "GET / HTTP/1.1\r\nhost: bench\r\n%s: user-%d\r\n\r\n", valueHeader, i))
	}
	return requests
}

// workerCurves are the cost of a request against Envoy's worker threads, with the connections spread over all.
func workerCurves(ctx context.Context, o curveOptions) ([]curve, error) {
	c := curve{
		title: "Envoy's worker threads, on as many cores as this machine has; one rule", x: "workers",
		columns: []string{"µs of CPU per request", "empty Go filter", "ticks without requests: ms of CPU per second"},
	}
	for workers := 1; workers <= 8; workers *= 2 {
		log.Printf("%d workers", workers)
		costs, idle, err := workerPoint(ctx, o, workers)
		if err != nil {
			return nil, err
		}
		c.add(workers, costs[1], costs[0], idle*1e3)
	}
	return []curve{c}, nil
}

// workerPoint measures the empty filter and one rule with so many workers.
func workerPoint(ctx context.Context, o curveOptions, workers int) (costs []float64, idle float64, err error) {
	plain := guarded(module{empty, o.modules[empty]}, "")
	plain.Wasm[0].VMID = "bench-empty"
	l := guarded(module{sentinel, o.modules[sentinel]}, configuration(sentinel, unreached))
	s, err := openStation(ctx, o, workers, answering(unfiltered), plain, l)
	if err != nil {
		return nil, 0, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	for _, name := range []string{unfiltered, empty, sentinel} {
		if err := s.add(ctx, name, requestsFor(1)); err != nil {
			return nil, 0, err
		}
	}
	costs, err = s.measure(ctx)
	return costs, s.idle, err
}
