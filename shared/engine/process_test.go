package engine_test

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"time"

	"sentinel-envoy/shared/config"
	"sentinel-envoy/shared/engine"
	"sentinel-envoy/shared/family/flow"
	"sentinel-envoy/shared/host/memhost"
	"sentinel-envoy/shared/rule"
)

const (
	millisecond = int64(time.Millisecond)
	second      = int64(time.Second)
	tick        = engine.TickMs * millisecond
	start       = 1000 * second
)

// limit is a flow rule on the resource "r".
func limit(id string, threshold float64, intervalMs uint32) rule.Flow {
	return rule.Flow{Target: rule.Target{ID: id, Resource: "r"}, Threshold: threshold, StatIntervalInMs: uint64(intervalMs)}
}

func cfg(rules ...rule.Flow) *config.Config {
	c := &config.Config{Rules: list(rules)}
	for _, r := range rules {
		c.RuleHash += uint64(len(r.ID)) + uint64(r.Threshold)
	}
	return c
}

// list is some rules of one family as a configuration has them.
func list[T any, R interface {
	*T
	rule.Rule
}](rules []T) (all []rule.Rule) {
	for _, r := range rules {
		all = append(all, R(&r))
	}
	return all
}

// matching is a target of all resources whose whole name an expression matches.
func matching(id, expression string) rule.Target {
	return rule.Target{ID: id, Resource: expression, Regex: true, Pattern: regexp.MustCompile(`\A(?:` + expression + `)\z`)}
}

// process has some workers, in lock-step: between two ticks of everybody nothing happens but what a test does.
type process struct {
	*memhost.Process
	workers []*worker
}

type worker struct {
	*engine.VM
	host      *memhost.Worker
	http, tcp *engine.Filter
	gone      bool
}

// newProcess starts n workers, each with an HTTP and a TCP filter of the same configuration.
func newProcess(n int, c *config.Config) *process {
	w := &process{Process: memhost.NewProcess(start)}
	for range n {
		w.join(c)
	}
	return w
}

func (w *process) join(c *config.Config) *worker {
	host := w.Worker(nil)
	vm := engine.New(host, "test")
	wk := &worker{VM: vm, host: host}
	if c != nil {
		wk.http, wk.tcp = vm.NewFilter("sentinel_http", c, nil), vm.NewFilter("sentinel_tcp", c, nil)
	}
	w.workers = append(w.workers, wk)
	return wk
}

// run lets d nanoseconds pass, in which every worker that is not gone ticks.
func (w *process) run(d int64) {
	for end := w.Now() + d; w.Now() < end; {
		w.Advance(min(tick, end-w.Now()))
		for _, wk := range w.workers {
			if !wk.gone {
				wk.Tick(w.Now())
			}
		}
	}
}

// update replaces both filters of a worker, in Envoy's order: the new ones start before the old ones drain.
func (wk *worker) update(c *config.Config) {
	http, tcp := wk.http, wk.tcp
	wk.http, wk.tcp = wk.NewFilter("sentinel_http", c, nil), wk.NewFilter("sentinel_tcp", c, nil)
	http.Drain()
	tcp.Drain()
}

// admit asks n times for entry into the resource "r", each of which ends at once, and returns how many were let in.
func admit(f *engine.Filter, n int, now int64) (admitted int) {
	for range n {
		var e engine.Entry
		if f.Enter("r", now, &e) == nil {
			admitted++
			e.Finish(now, false)
		}
	}
	return admitted
}

// tally is what was admitted in each bucket of a window, by the time of the decision.
type tally struct {
	window   flow.Window
	admitted map[int64]int64
}

func newTally(intervalMs uint32) *tally {
	return &tally{window: flow.WindowOf(uint64(intervalMs)), admitted: map[int64]int64{}}
}

func (ta *tally) add(at int64) { ta.admitted[ta.window.Bucket(at)]++ }

// worst is the largest sum over any window, and its last bucket.
func (ta *tally) worst() (worst, at int64) {
	for b := range ta.admitted {
		for last := b; last < b+int64(ta.window.Buckets); last++ {
			if sum := ta.sum(last); sum > worst {
				worst, at = sum, last
			}
		}
	}
	return worst, at
}

// sum is what the window whose last bucket is given admitted.
func (ta *tally) sum(last int64) (sum int64) {
	for b := last - int64(ta.window.Buckets) + 1; b <= last; b++ {
		sum += ta.admitted[b]
	}
	return sum
}

// simulation is a random simulation of whole VMs, interleaved at every host call, with deaths, stalls and updates.
type simulation struct {
	workers        int
	first, second  float64 // thresholds before and after an update that reaches each worker at another time
	intervalMs     uint32
	rate           int64 // mean nanoseconds between the requests of a worker
	deaths, stalls bool
	rubbish        bool
	start, end     int64
	tally          *tally
	sim            *memhost.Sim
	fault          error
	observe        func() // called after each step
	watched        *memhost.Worker
	rng            *rand.Rand
	failureMode    config.FailureMode
}

func newSimulation(seed uint64) *simulation {
	rng := rand.New(rand.NewPCG(seed, 0xc17))
	first := []float64{0, 1, 7, 50, 200}[rng.IntN(5)]
	c := &simulation{
		rng: rng, workers: 1 + rng.IntN(8), first: first, second: first,
		intervalMs:  []uint32{1000, 500, 2000, 700}[rng.IntN(4)],
		rate:        millisecond * (1 + rng.Int64N(10)),
		start:       start + rng.Int64N(second),
		failureMode: config.FailClosed,
	}
	c.end = c.start + 3*second
	c.sim = memhost.NewSim(seed, c.start)
	c.watched = c.sim.Worker(nil)
	c.tally = newTally(c.intervalMs)
	return c
}

func (c *simulation) String() string {
	return fmt.Sprintf("%d workers, threshold %g then %g in %d ms, a request every %d µs, deaths %t, stalls %t",
		c.workers, c.first, c.second, c.intervalMs, c.rate/1000, c.deaths, c.stalls)
}

func (c *simulation) config(threshold float64) *config.Config {
	g := cfg(limit("r", threshold, c.intervalMs))
	g.FailureMode = c.failureMode
	return g
}

func (c *simulation) run() {
	defer c.sim.Close()
	for i := range c.workers {
		c.sim.Go(func(task *memhost.Task) { c.live(task, i) })
	}
	for c.sim.Step() {
		c.disturb()
		if c.observe != nil {
			c.observe()
		}
	}
}

// live is a worker's life: requests to both of its filters, ticks, and one update.
func (c *simulation) live(task *memhost.Task, index int) {
	rng := rand.New(rand.NewPCG(uint64(index), uint64(c.start)))
	vm := engine.New(task, "test")
	wk := &worker{VM: vm}
	before := c.config(c.first)
	wk.http, wk.tcp = vm.NewFilter("sentinel_http", before, nil), vm.NewFilter("sentinel_tcp", before, nil)
	updateAt := c.start + second + rng.Int64N(second)
	nextTick := c.start + rng.Int64N(tick)
	var open []engine.Entry
	for now := c.start; now < c.end; now = task.Now() {
		if now >= nextTick {
			vm.Tick(now)
			nextTick = now + tick
		}
		if updateAt > 0 && now >= updateAt {
			updateAt = 0
			wk.update(c.config(c.second))
		}
		open = c.request(wk, now, rng, open)
		task.Sleep(min(nextTick, now+rng.Int64N(2*c.rate)))
	}
}

// request enters one of the filters, and ends some entry.
func (c *simulation) request(wk *worker, now int64, rng *rand.Rand, open []engine.Entry) []engine.Entry {
	f := wk.http
	if rng.IntN(2) == 0 {
		f = wk.tcp
	}
	var e engine.Entry
	if f.Enter("r", now, &e) == nil {
		for _, at := range e.DecidedAt() {
			c.tally.add(at)
		}
		open = append(open, e)
	}
	if n := len(open); n > 0 && rng.IntN(2) == 0 {
		open[n-1].Finish(now, rng.IntN(4) == 0)
		open = open[:n-1]
	}
	return open
}

func (c *simulation) disturb() {
	live := c.sim.Live()
	if len(live) == 0 {
		return
	}
	some := live[c.sim.Rand.IntN(len(live))]
	switch {
	case c.sim.Rand.IntN(100) == 0:
		c.sim.Advance(c.sim.Rand.Int64N(millisecond / 4))
	case c.stalls && c.sim.Rand.IntN(1000) == 0:
		c.sim.Stall(some, c.sim.Rand.Int64N(2*second))
	case c.deaths && len(live) > 1 && c.sim.Rand.IntN(3000) == 0:
		c.sim.Kill(some)
	case c.fault != nil && c.sim.Rand.IntN(200) == 0 && some.Worker != nil:
		some.Fail(c.fault)
	case c.fault != nil && c.sim.Rand.IntN(50) == 0 && some.Worker != nil:
		some.Fail(nil)
	case c.rubbish && c.sim.Rand.IntN(500) == 0:
		c.sim.Corrupt(func(_ string, value []byte) ([]byte, bool) { return memhost.Rubbish(c.rng, value), c.rng.IntN(4) == 0 })
	}
}
