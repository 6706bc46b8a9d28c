package main

import (
	"context"
	"fmt"
	"log"
	"math"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"time"

	"sentinel-envoy/shared/config"
	"sentinel-envoy/shared/engine"
	"sentinel-envoy/shared/host/memhost"
	"sentinel-envoy/shared/outcome"
)

const (
	tick = engine.TickMs * int64(time.Millisecond)
	// decisionsMeasured are taken at each point of nativeValueCurves.
	decisionsMeasured = 200_000
	// ticksIn is how many turns of a loop have one tick of a worker that is idle.
	ticksIn = 100
)

// nativeValueCurves are the same as valueCurves of the engine alone, natively, over a host in memory.
func nativeValueCurves(ctx context.Context, o curveOptions) ([]curve, error) {
	c := curve{
		title: "The same without Envoy, natively over a host in memory", x: "values",
		columns: []string{"ns of CPU per request", "MB of the worker's heap", "shared-data keys", "MB of shared data"},
	}
	parsed, err := config.Parse([]byte(valueConfiguration), config.KindHTTP)
	if err != nil {
		return nil, err
	}
	w := newNativeWorker(parsed)
	base := heapMB()
	seen := 0
	for _, n := range powersOfTen(o.maxNative) {
		log.Printf("%d values natively", n)
		for ; seen < n; seen++ {
			if seen%chunk == 0 && ctx.Err() != nil {
				return nil, ctx.Err()
			}
			w.use(seen)
		}
		rng := rand.New(rand.NewPCG(1, uint64(n)))
		cost, err := cpuOf(decisionsMeasured, func(int) { w.use(rng.IntN(n)) })
		if err != nil {
			return nil, err
		}
		keys, bytes := w.process.Keys()
		c.add(n, cost, heapMB()-base-float64(bytes)/1e6, float64(keys), float64(bytes)/1e6)
	}
	if w.refused > 0 {
		return nil, fmt.Errorf("%d requests were refused", w.refused)
	}
	runtime.KeepAlive(w)
	return []curve{c}, nil
}

// nativeRuleCurves are the same as ruleCurves of the engine alone, natively, over a host in memory.
func nativeRuleCurves(ctx context.Context, o curveOptions) ([]curve, error) {
	c := curve{
		title: "The same without Envoy, natively over a host in memory, at 20,000 requests/s", x: "rules",
		columns: []string{"ns of CPU per request to all in turn", "to one", "idle: µs of CPU per tick"},
	}
	for _, n := range powersOfTen(o.maxRules) {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		parsed, err := config.Parse([]byte(rulesFor(n)), config.KindHTTP)
		if err != nil {
			return nil, err
		}
		w := newNativeWorker(parsed)
		names := make([]string, n)
		for i := range names {
			names[i] = path(i)
		}
		costs := make([]float64, 0, 3)
		for _, f := range []func(i int){
			func(i int) { w.enter(names[i%n]) },
			func(i int) { w.enter(names[0]) },
			func(i int) {
				if i%ticksIn == 0 {
					w.process.Advance(tick)
					w.tick()
				}
			},
		} {
			cost, err := cpuOf(decisionsMeasured, f)
			if err != nil {
				return nil, err
			}
			costs = append(costs, cost)
		}
		c.add(n, costs[0], costs[1], costs[2]*ticksIn/1e3)
	}
	return []curve{c}, nil
}

// cpuOf is the CPU time in ns of one of n calls of f, after as many that do not count.
func cpuOf(n int, f func(i int)) (float64, error) {
	for i := range n {
		f(i)
	}
	before, err := cpuTime(os.Getpid())
	if err != nil {
		return 0, err
	}
	for i := range n {
		f(i)
	}
	after, err := cpuTime(os.Getpid())
	return float64((after - before).Nanoseconds()) / float64(n), err
}

// nativeWorker is one worker of a process in memory, 20,000 requests to which take a second of its virtual time.
type nativeWorker struct {
	process  *memhost.Process
	vm       *engine.VM
	filter   *engine.Filter
	lastTick int64
	value    []byte
	refused  int
}

func newNativeWorker(c *config.Config) *nativeWorker {
	w := &nativeWorker{process: memhost.NewProcess(int64(1000 * time.Second))}
	w.vm = engine.New(w.process.Worker(nil), "bench")
	w.filter = w.vm.NewFilter("sentinel_http", c, nil)
	w.filter.Stream.Of(w)
	return w
}

// tick does what is due in the worker's ticks.
func (w *nativeWorker) tick() {
	if now := w.process.Now(); now-w.lastTick >= tick {
		w.lastTick = now
		w.vm.Tick(now)
	}
}

// enter enters and exits a resource.
func (w *nativeWorker) enter(resource string) {
	w.process.Advance(int64(50 * time.Microsecond))
	w.tick()
	var e engine.Entry
	now := w.process.Now()
	w.filter.Stream.Begin()
	if w.filter.Enter(resource, now, &e) != nil {
		w.refused++
		return
	}
	e.Exit(now, outcome.End{Outcome: outcome.Well})
}

// use enters and exits with the i-th value.
func (w *nativeWorker) use(i int) {
	w.value = strconv.AppendInt(append(w.value[:0], "user-"...), int64(i), 10)
	w.enter("bench")
}

// Header implements request.Host.
func (w *nativeWorker) Header(string) (string, bool) { return string(w.value), true }

// Lines implements request.Host.
func (w *nativeWorker) Lines(dst []string, _ string) []string { return append(dst, string(w.value)) }

// Property implements request.Host.
func (w *nativeWorker) Property([]string) (string, bool) { return string(w.value), true }

// heapMB is what is in use of the heap after a collection, in MB (10^6 bytes).
func heapMB() float64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc) / 1e6
}

const (
	simulatedFor  = int64(time.Second)
	simulatedStep = int64(time.Millisecond)
	// requestsEach is the rate that each worker brings along, and requestsAll one that all share, per second.
	requestsEach = 1000
	requestsAll  = 51_200
)

// simulatedCurves are what a decision asks of the host against the number of workers, interleaved at every host call. All
// workers wake in the same instant, once in a millisecond: no real contention is worse.
func simulatedCurves(ctx context.Context, _ curveOptions) ([]curve, error) {
	var curves []curve
	for _, load := range []struct {
		title string
		rate  func(workers int) float64 // of each worker, per second
	}{
		{fmt.Sprintf("each brings %d requests/s", requestsEach), func(int) float64 { return requestsEach }},
		{fmt.Sprintf("%d requests/s spread over all", requestsAll), func(n int) float64 { return requestsAll / float64(n) }},
	} {
		c := curve{
			title: "Simulated workers, " + load.title + ": with a threshold that is never reached, and with one at half of that", x: "workers",
			columns: []string{
				"half: shared-data calls per request", "half: lost CAS per request", "half: admitted, of the threshold",
				"never: calls", "never: lost CAS", "ticks: shared-data calls per worker and second",
			},
		}
		for n := 1; n <= 256; n *= 4 {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			threshold := math.Ceil(load.rate(n) * float64(n) / 2)
			half, never := simulate(n, load.rate(n), threshold), simulate(n, load.rate(n), unreached)
			seconds := float64(simulatedFor) / float64(time.Second)
			c.add(n, half.perRequest(half.entering), half.perRequest(half.lost), float64(half.admitted)/threshold/seconds,
				never.perRequest(never.entering), never.perRequest(never.lost), float64(never.ticking)/float64(n)/seconds)
		}
		curves = append(curves, c)
	}
	return curves, nil
}

// simulated is what a simulation counted.
type simulated struct {
	requests, admitted int
	entering, ticking  int // calls to shared data while a request enters or exits, and in ticks
	lost               int // compare-and-sets by requests
}

func (s simulated) perRequest(n int) float64 { return float64(n) / float64(s.requests) }

// countingHost counts one worker's calls to shared data.
type countingHost struct {
	*memhost.Worker

	counts *simulated
	inTick bool
}

func (h *countingHost) shared() {
	if h.inTick {
		h.counts.ticking++
	} else {
		h.counts.entering++
	}
}

// Get implements host.SharedData.
func (h *countingHost) Get(key string) ([]byte, uint32, error) {
	h.shared()
	return h.Worker.Get(key)
}

// Set implements host.SharedData.
func (h *countingHost) Set(key string, value []byte, cas uint32) error {
	h.shared()
	err := h.Worker.Set(key, value, cas)
	if err != nil && !h.inTick {
		h.counts.lost++
	}
	return err
}

// simulate runs n workers at a rate each per second under one flow rule. What the first second costs, in which workers
// find each other, is not counted.
func simulate(n int, rate, threshold float64) simulated {
	var counts simulated
	begin := int64(1000 * time.Second)
	counted := begin + int64(time.Second)
	sim := memhost.NewSim(uint64(n), begin)
	defer sim.Close()
	c, err := config.Parse([]byte(encode(map[string]any{
		"resource_name": "bench", "flowRules": []any{flowRule("r", "bench", threshold)},
	})), config.KindHTTP)
	if err != nil {
		panic(err) // our own text
	}
	for i := range n {
		sim.Go(func(t *memhost.Task) {
			rng := rand.New(rand.NewPCG(uint64(i), uint64(n)))
			h := &countingHost{Worker: t.Worker, counts: &simulated{}}
			vm := engine.New(h, "bench")
			filter := vm.NewFilter("sentinel_http", c, nil)
			nextTick := begin + rng.Int64N(tick)/simulatedStep*simulatedStep
			due := 0.0
			for now := begin; now < counted+simulatedFor; now = t.Now() {
				if now >= counted {
					h.counts = &counts
				}
				if now >= nextTick {
					h.inTick = true
					vm.Tick(now)
					h.inTick = false
					nextTick = now + tick
				}
				for due += 2 * rng.Float64() * rate * float64(simulatedStep) / float64(time.Second); due >= 1; due-- {
					h.counts.requests++
					var e engine.Entry
					if filter.Enter("bench", now, &e) == nil {
						h.counts.admitted++
						e.Exit(now, outcome.End{Outcome: outcome.Well})
					}
				}
				t.Sleep(now + simulatedStep)
			}
		})
	}
	for sim.Step() {
	}
	return counts
}
