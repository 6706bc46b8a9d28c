package main

import (
	"cmp"
	"context"
	"fmt"
	"log"
	"slices"
	"time"

	"sentinel-envoy/internal/envoytest"
)

const (
	// warmUp is how many requests each filter gets before its first measured round: V8 optimises code that is hot.
	warmUp = 10000
	// turnRequests is how many requests a filter gets before it is the next one's turn.
	turnRequests = 256
	// settle is what Envoy gets to end the last streams of a turn: it does so after their answers.
	settle = time.Millisecond
	// controlRequests go to a listener with a threshold of controlThreshold.
	controlRequests = 100
	// startTimeout bounds one Envoy start; a Wasm module of 20 MB compiles for half a minute on a slow machine.
	startTimeout = 4 * time.Minute
)

// cpuRow is what one filter costs.
type cpuRow struct {
	Name string `json:"name"`
	// PerRequest is Envoy's CPU time in µs per request above the listener without a filter; for that one itself, the
	// whole.
	PerRequest summary `json:"us_per_request"`
	// OfEmpty is PerRequest as a multiple of the empty filter's in the same round, of that which answers where all refuse.
	OfEmpty summary `json:"of_empty"`
}

// measureCPU runs one Envoy with a listener per variant, the first of each group without a filter, and gives each in turn a
// share of requests, over and over. It returns the rows of each group. a may be nil.
func measureCPU(ctx context.Context, binary string, own group, a *asking, o options) (ownRows, askingRows []cpuRow, err error) {
	config := envoytest.Config{EnvoyPath: binary, Concurrency: o.workers, LogLevel: "warn", ReadyTimeout: startTimeout}
	variants := own.variants
	if a != nil {
		variants = slices.Concat(own.variants, a.variants)
		config.Listeners = append(config.Listeners, a.upstream)
		config.Clusters = append(config.Clusters, a.remote.Cluster(rateLimitCluster))
	}
	for _, v := range variants {
		config.Listeners = append(config.Listeners, v.listener)
		if v.control != nil {
			config.Listeners = append(config.Listeners, *v.control)
		}
	}
	log.Printf("starting Envoy with %d listeners; it compiles each module", len(config.Listeners))
	envoy, err := envoytest.Launch(ctx, config)
	if err != nil {
		return nil, nil, err
	}
	samples, err := sampleCPU(ctx, envoy, variants, o)
	if stopErr := envoy.Stop(); err == nil {
		err = stopErr
	}
	if err != nil {
		return nil, nil, err
	}
	ownRows = cpuRows(own.variants, samples, own.yardstick)
	if a != nil {
		for i := range samples {
			samples[i] = samples[i][len(own.variants):]
		}
		askingRows = cpuRows(a.variants, samples, a.yardstick)
	}
	return ownRows, askingRows, nil
}

// sampleCPU gives the CPU time in µs per request, by round and variant.
func sampleCPU(ctx context.Context, envoy *envoytest.Process, variants []variant, o options) ([][]float64, error) {
	clients := make([]*client, len(variants))
	for i, v := range variants {
		var err error
		if clients[i], err = prepare(ctx, envoy, v, o.connections); err != nil {
			return nil, fmt.Errorf("%s: %w", v.name, err)
		}
		defer clients[i].close()
	}
	samples := make([][]float64, o.rounds)
	for round := range samples {
		log.Printf("CPU, round %d of %d", round+1, o.rounds)
		var err error
		if samples[round], err = sampleRound(ctx, envoy.PID(), clients, o.requests); err != nil {
			return nil, err
		}
	}
	return samples, nil
}

// sampleRound gives the CPU time in µs per request of process pid, by client. Each makes n requests, a short turn at a
// time, so that whatever else slows the machine meets all of them; the calmer half of the passes counts.
func sampleRound(ctx context.Context, pid int, clients []*client, n int) ([]float64, error) {
	passes := make([][]time.Duration, (n+turnRequests-1)/turnRequests)
	for pass := range passes {
		passes[pass] = make([]time.Duration, len(clients))
		for place := range clients {
			i := (pass + place) % len(clients)
			if pass%2 == 1 { // so that no filter always follows the same neighbour's load
				i = len(clients) - 1 - i
			}
			var err error
			if passes[pass][i], err = cpuOfRequests(ctx, pid, clients[i], turnRequests); err != nil {
				return nil, err
			}
		}
	}
	return calmerHalf(passes), nil
}

// calmerHalf gives the mean CPU time in µs per request, by client, over the calmest of the passes.
func calmerHalf(passes [][]time.Duration) []float64 {
	calm := calmest(passes, time.Duration.Nanoseconds)
	perRequest := make([]float64, len(calm[0]))
	for _, pass := range calm {
		for i, used := range pass {
			perRequest[i] += used.Seconds() * 1e6 / float64(len(calm)*turnRequests)
		}
	}
	return perRequest
}

// calmest gives that half of the passes, by client, which took the least in all, by what each part of one took. A pass is
// kept or dropped whole: no client is favoured, and each one's dear moments, such as its garbage collections, stay in it.
func calmest[P any, T cmp.Ordered](passes [][]P, took func(P) T) [][]P {
	total := func(pass []P) (sum T) {
		for _, part := range pass {
			sum += took(part)
		}
		return sum
	}
	sorted := slices.SortedFunc(slices.Values(passes), func(a, b []P) int { return cmp.Compare(total(a), total(b)) })
	return sorted[:(len(sorted)+1)/2]
}

// prepare opens the connections to a variant's listener, warms it up, and checks that a filter with rules does limit.
func prepare(ctx context.Context, envoy *envoytest.Process, v variant, connections int) (*client, error) {
	if v.control != nil {
		if err := checkControl(ctx, envoy.Addr(v.control.Name)); err != nil {
			return nil, err
		}
	}
	held, err := v.delayFirst(envoy)
	if err != nil {
		return nil, err
	}
	c, err := dial(envoy.Addr(v.name), connections, requestsFor(paths, v.header))
	if err != nil {
		return nil, err
	}
	c.held = held
	if _, err := c.send(ctx, warmUp); err != nil {
		c.close()
		return nil, err
	}
	if v.status != 0 {
		c.status = v.status
	}
	return c, nil
}

// checkControl fails unless a listener with a threshold of controlThreshold admits some of a hundred requests in a row
// and blocks most.
func checkControl(ctx context.Context, address string) error {
	c, err := dial(address, 1, requestsFor(1))
	if err != nil {
		return err
	}
	defer c.close()
	statuses, err := c.send(ctx, controlRequests)
	if err != nil {
		return err
	}
	if statuses[200] == 0 || statuses[429] < controlRequests/2 || statuses[200]+statuses[429] != controlRequests {
		return fmt.Errorf("it does not limit: with a threshold of %d, %d requests got these statuses: %v",
			controlThreshold, controlRequests, statuses)
	}
	return nil
}

// cpuOfRequests is the CPU time that process pid uses while c makes n requests.
func cpuOfRequests(ctx context.Context, pid int, c *client, n int) (time.Duration, error) {
	before, err := cpuTime(pid)
	if err != nil {
		return 0, err
	}
	if err := c.sendOK(ctx, n); err != nil {
		return 0, err
	}
	time.Sleep(settle)
	after, err := cpuTime(pid)
	return after - before, err
}

// cpuRows sums up samples by round and variant. What is compared was measured in the same round.
func cpuRows(variants []variant, samples [][]float64, yardstickName string) []cpuRow {
	rows := make([]cpuRow, len(variants))
	yardstick := slices.IndexFunc(variants, func(v variant) bool { return v.name == yardstickName })
	for i, v := range variants {
		above := make([]float64, len(samples))
		var ofEmpty []float64
		for round, sample := range samples {
			if i == 0 {
				above[round] = sample[0]
				continue
			}
			above[round] = sample[i] - sample[0]
			if emptyAbove := sample[yardstick] - sample[0]; emptyAbove > 0 {
				ofEmpty = append(ofEmpty, above[round]/emptyAbove)
			}
		}
		rows[i] = cpuRow{v.name, summarize(above), summarize(ofEmpty)}
	}
	return rows
}
