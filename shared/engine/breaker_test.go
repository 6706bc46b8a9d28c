package engine_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"sentinel-envoy/internal/seeds"
	"sentinel-envoy/shared/config"
	"sentinel-envoy/shared/engine"
	"sentinel-envoy/shared/family/breaker"
	"sentinel-envoy/shared/host/memhost"
	"sentinel-envoy/shared/outcome"
	"sentinel-envoy/shared/record"
	"sentinel-envoy/shared/rule"
)

// breakerSimulation is a random simulation of whole VMs around one circuit breaker, interleaved at every host call. Its service
// is sick at first and well at last.
type breakerSimulation struct {
	t       *testing.T
	rule    rule.CircuitBreaker
	params  breaker.Params
	workers int
	gap     int64 // mean nanoseconds between the requests of a worker
	hangs   int   // one of so many entries ends only when the service is well; 0 for none
	sim     *memhost.Sim
	recover int64 // when the service is well, and nobody stalls or dies any more
	end     int64

	// phase is the record's as the last step left it, opened how often it has opened, probes those of the generation, and
	// running those of all generations.
	phase   breaker.Phase
	since   int64
	opened  int
	probes  []*cityProbe
	running map[*cityProbe]bool
	seen    map[string]int
	// admitted are the entries that each worker let in after the service was well for long.
	admitted map[int]int
}

// cityProbe is a probe that a worker was given.
type cityProbe struct {
	worker int
	good   bool
}

func newBreakerSimulation(t *testing.T, seed uint64) *breakerSimulation {
	rng := rand.New(rand.NewPCG(seed, 0xb4ea))
	c := &breakerSimulation{
		t: t, workers: 1 + rng.IntN([]int{4, 16, 64}[rng.IntN(3)]), gap: millisecond * (5 + rng.Int64N(20)),
		hangs: []int{0, 4, 20}[rng.IntN(3)], sim: memhost.NewSim(seed, start), seen: map[string]int{}, admitted: map[int]int{},
		running: map[*cityProbe]bool{},
	}
	c.rule = rule.CircuitBreaker{
		Target: rule.Target{ID: "b", Resource: "r"}, Strategy: rule.ErrorCount, Threshold: float64(1 + rng.IntN(3)), StatIntervalMs: 1000,
		StatSlidingWindowBucketCount: []uint32{1, 10}[rng.IntN(2)], RetryTimeoutMs: 100 + rng.Uint32N(300),
		ProbeNum: []uint64{0, 1, 3, 10}[rng.IntN(4)],
	}
	c.params = breaker.ParamsOf(&c.rule)
	c.recover = start + 2*second
	// Well again, the places of the dead are free, one retry timeout passes, and the probes that follow end well.
	c.end = c.recover + 4*second + c.params.Retry + 2*second
	return c
}

func (c *breakerSimulation) String() string {
	return fmt.Sprintf("%d workers, a request every %d µs, one of %d hangs, %+v", c.workers, c.gap/1000, c.hangs, c.rule)
}

func (c *breakerSimulation) run() {
	defer c.sim.Close()
	for i := range c.workers {
		c.sim.Go(func(task *memhost.Task) {
			defer c.lose(i)
			c.live(task, i)
		})
	}
	for c.sim.Step() && !c.t.Failed() {
		c.observe()
		live := c.sim.Live()
		switch roll := c.sim.Rand.IntN(4000); {
		case roll < 20:
			c.sim.Advance(c.sim.Rand.Int64N(millisecond / 4))
		case len(live) == 0 || c.sim.Now() > c.recover:
		case roll == 20 && len(live) > 1 && c.sim.Rand.IntN(5) == 0:
			c.sim.Kill(live[c.sim.Rand.IntN(len(live))])
		case roll <= 22:
			c.sim.Stall(live[c.sim.Rand.IntN(len(live))], c.sim.Rand.Int64N(second))
		}
	}
}

// observe follows the record, step by step.
func (c *breakerSimulation) observe() {
	var s breaker.State
	c.sim.Corrupt(func(key string, value []byte) ([]byte, bool) {
		const header = 28 // of a record
		if strings.HasPrefix(key, record.Version+"rec/") && !s.Decode(value[header:], c.params.Window) {
			c.t.Errorf("a record of %d bytes", len(value))
		}
		return nil, false
	})
	if s.Phase == c.phase {
		return
	}
	from := c.phase
	c.phase, c.since = s.Phase, s.Since
	c.seen[s.Phase.String()]++
	switch {
	case s.Phase == breaker.Open:
		c.opened++
	case from == breaker.HalfOpen: // closed
		if good := c.good(); good < int(c.params.Probes) {
			c.t.Errorf("closed after %d successes of its own generation", good)
		}
	}
	if s.Phase != breaker.Closed {
		c.probes = nil
	}
}

// lose takes the probes of a worker that has died, or was silent for long, out of those that are under way.
func (c *breakerSimulation) lose(worker int) {
	for p := range c.running {
		if p.worker == worker {
			delete(c.running, p)
		}
	}
}

// good is how many probes of this generation have ended well.
func (c *breakerSimulation) good() (n int) {
	for _, p := range c.probes {
		if p.good {
			n++
		}
	}
	return n
}

// live is a worker's life.
func (c *breakerSimulation) live(task *memhost.Task, index int) {
	rng := rand.New(rand.NewPCG(uint64(index), uint64(c.gap)))
	vm := engine.New(task, "test")
	filter := vm.NewFilter("sentinel_http", &config.Config{Rules: []rule.Rule{&c.rule}}, nil)
	nextTick := start + rng.Int64N(tick)
	var open []*cityEntry
	knows := 0            // how often it had opened when the last tick began, after which it was open
	const silent = second // a worker may be thought dead some time after that
	last := start
	for now := task.Now(); now < c.end; now = task.Now() {
		if now-last > silent {
			c.lose(index)
		}
		last = now
		if now >= nextTick {
			opened := c.opened
			vm.Tick(now)
			knows = opened
			nextTick = now + tick
		}
		known := knows > 0 && knows == c.opened && c.phase == breaker.Open
		if e := c.enter(filter, index, now, rng); e != nil {
			open = append(open, e)
			if stillOpen := knows == c.opened && c.phase == breaker.Open; known && stillOpen {
				c.t.Errorf("admitted %d µs after it opened, by a worker that has ticked since", (task.Now()-c.since)/1000)
			}
			if now > c.end-second {
				c.admitted[index]++
			}
		}
		open = slices.DeleteFunc(open, func(e *cityEntry) bool {
			if e.endsAt > now {
				return false
			}
			c.exit(e, task.Now())
			return true
		})
		task.Sleep(min(nextTick, now+rng.Int64N(2*c.gap)))
	}
	c.seen["faults"] += int(vm.Faults())
	if c.admitted[index] == 0 {
		c.t.Errorf("worker %d admits nothing though the service has been well for %d ms", index, (c.end-c.recover)/millisecond)
	}
}

type cityEntry struct {
	engine.Entry
	probe  *cityProbe
	endsAt int64
	failed bool
}

// enter asks for an entry, and checks that a probe is one of those that there may be.
func (c *breakerSimulation) enter(f *engine.Filter, worker int, now int64, rng *rand.Rand) *cityEntry {
	e := &cityEntry{}
	opened := c.opened
	if f.Enter("r", now, &e.Entry) != nil {
		return nil
	}
	e.endsAt = now + rng.Int64N(50*millisecond)
	sick := now < c.recover
	e.failed = sick && rng.IntN(3) > 0
	if sick && c.hangs > 0 && rng.IntN(c.hangs) == 0 {
		e.endsAt = c.recover
	}
	for range e.Probes() {
		c.seen["probes"]++
		e.probe = &cityProbe{worker: worker}
		if c.running[e.probe] = true; len(c.running) > int(c.params.Probes) {
			c.t.Errorf("%d of %d probes are under way", len(c.running), c.params.Probes)
		}
		if c.phase == breaker.HalfOpen && opened == c.opened { // else the record has gone on meanwhile
			c.probes = append(c.probes, e.probe)
		}
	}
	return e
}

func (c *breakerSimulation) exit(e *cityEntry, now int64) {
	if e.probe != nil {
		e.probe.good = !e.failed
		delete(c.running, e.probe)
	}
	e.Finish(now, e.failed)
}

func TestBreakerIsOneForAllWorkers(t *testing.T) {
	seen := map[string]int{}
	seeds.Try(t, 30, func(t *testing.T, seed uint64) {
		c := newBreakerSimulation(t, seed)
		c.run()
		for what, n := range c.seen {
			seen[what] += n
		}
		if t.Failed() {
			t.Log(c)
		}
	})
	if seeds.Complete() && (seen["open"] < 50 || seen["closed"] < 30 || seen["probes"] < 100 || seen["faults"] > 0) {
		t.Errorf("%v: too little was tried", seen)
	}
}

// counted is a worker whose calls to shared data are counted.
type counted struct {
	*memhost.Worker
	calls int
}

func (c *counted) Get(key string) ([]byte, uint32, error) { c.calls++; return c.Worker.Get(key) }
func (c *counted) Set(key string, value []byte, cas uint32) error {
	c.calls++
	return c.Worker.Set(key, value, cas)
}

// A breaker in use costs no call to the host between two ticks, but for its probes.
func TestBreakerDecidesWithoutTheHost(t *testing.T) {
	p := memhost.NewProcess(start)
	host := &counted{Worker: p.Worker(nil)}
	vm := engine.New(host, "test")
	f := vm.NewFilter("sentinel_http", breakerConfig(rule.CircuitBreaker{Strategy: rule.ErrorCount, Threshold: 50}), nil)
	requests := func(n int, failed bool) (admitted int) {
		for range n {
			var e engine.Entry
			if f.Enter("r", p.Now(), &e) == nil {
				admitted++
				e.Finish(p.Now(), failed)
			}
		}
		return admitted
	}
	tickNow := func() {
		p.Advance(tick)
		vm.Tick(p.Now())
	}
	tickNow()
	requests(1, false) // reads the record
	for _, c := range []struct {
		what     string
		failed   bool
		admitted int
	}{{"closed", false, 100}, {"about to open", true, 100}, {"open", true, 0}} {
		tickNow()
		host.calls = 0
		if got := requests(100, c.failed); got != c.admitted {
			t.Errorf("%s: admitted %d of 100, want %d", c.what, got, c.admitted)
		}
		if host.calls != 0 {
			t.Errorf("%s: %d calls to shared data", c.what, host.calls)
		}
	}
}

func TestClosedBreakerAllocatesNothing(t *testing.T) {
	w := newProcess(1, breakerConfig(rule.CircuitBreaker{Strategy: rule.SlowRequestRatio, Threshold: 0.5, MaxAllowedRtMs: 1}))
	f := w.workers[0].http
	var e engine.Entry
	if n := testing.AllocsPerRun(1000, func() {
		if f.Enter("r", w.Now(), &e) != nil {
			t.Error("refused")
		}
		e.Finish(w.Now(), false)
	}); n > 0 {
		t.Errorf("%v allocations a request", n)
	}
}

// breakerConfig is a configuration with one breaker of the resource "r".
func breakerConfig(r rule.CircuitBreaker) *config.Config {
	r.ID, r.Resource, r.StatIntervalMs, r.RetryTimeoutMs = "b", "r", 1000, 1000
	return &config.Config{Rules: []rule.Rule{&r}}
}

func TestBreakerSaysWhatItDoes(t *testing.T) {
	w := newProcess(3, breakerConfig(rule.CircuitBreaker{Strategy: rule.ErrorRatio, Threshold: 0.5, MinRequestAmount: 4}))
	const gauge = "sentinel_breaker_state;resource=r;rule=b"
	state := func() uint64 {
		v, _ := w.Metric(gauge)
		return v
	}
	for _, wk := range w.workers {
		end(t, wk.http, w.Now(), wk == w.workers[0]) // one success, two failures …
	}
	end(t, w.workers[2].tcp, w.Now(), false) // … and another
	w.run(2 * tick)                          // one opens it, the others hear of it
	if got := state(); got != uint64(breaker.Open) {
		t.Errorf("the gauge is %d when it has opened", got)
	}
	var e engine.Entry
	b := w.workers[1].http.Enter("r", w.Now(), &e)
	if b == nil {
		t.Fatal("an open breaker admitted")
	}
	want := engine.Block{Reason: rule.BreakerFamily.Name, Resource: "r", Rule: "b", Seen: 0.75, Threshold: 0.5,
		Share: true, Measure: "of requests failed in 1000 ms", RetryAfterMs: 980}
	if got := (engine.Block{Reason: b.Reason, Resource: b.Resource, Rule: b.Rule, Seen: b.Seen, Threshold: b.Threshold,
		Share: b.Share, Measure: b.Measure, RetryAfterMs: b.RetryAfterMs}); got != want {
		t.Errorf("%+v\nwant %+v", got, want)
	}
	if text := "75 % of requests failed in 1000 ms, threshold 50 %"; string(b.AppendText(nil)) != text || string(b.AppendFigure(nil)) != "75%/50%" {
		t.Errorf("it says %q and %q, want %q", b.AppendText(nil), b.AppendFigure(nil), text)
	}
	w.run(second)
	if w.workers[1].http.Enter("r", w.Now(), &e) != nil || state() != uint64(breaker.HalfOpen) {
		t.Errorf("no probe after the retry timeout, or the gauge is %d", state())
	}
	e.Finish(w.Now(), false)
	if got := state(); got != uint64(breaker.Closed) {
		t.Errorf("the gauge is %d when it has closed", got)
	}
	var lines []string
	for _, wk := range w.workers {
		for _, line := range wk.host.Lines() {
			if strings.Contains(line, "circuit breaker") {
				lines = append(lines, line)
			}
		}
	}
	slices.Sort(lines)
	if wantLines := []string{
		"circuit breaker b of r: closed -> open, 0.75 of 0.5 ErrorRatio",
		"circuit breaker b of r: half-open -> closed, 0.75 of 0.5 ErrorRatio",
		"circuit breaker b of r: open -> half-open, 0.75 of 0.5 ErrorRatio",
	}; !slices.Equal(lines, wantLines) {
		t.Errorf("logged %q", lines)
	}
}

// end takes an entry into "r" that must be admitted to its end.
func end(t *testing.T, f *engine.Filter, now int64, ok bool) {
	t.Helper()
	var e engine.Entry
	if b := f.Enter("r", now, &e); b != nil {
		t.Fatalf("refused: %+v", *b)
	}
	e.Finish(now, !ok)
}

// A probe that a later rule refuses gives its place to the next.
func TestBreakerTakesARefusedProbeBack(t *testing.T) {
	c := breakerConfig(rule.CircuitBreaker{Strategy: rule.ErrorCount, Threshold: 1})
	second := *rule.Of[rule.CircuitBreaker](c.Rules)[0]
	second.ID, second.RetryTimeoutMs = "later", 5000
	c.Rules = append(c.Rules, &second)
	w := newProcess(2, c)
	end(t, w.workers[0].http, w.Now(), false) // opens both
	w.run(2000 * millisecond)
	var e engine.Entry
	for i := range 4 {
		if b := w.workers[i%2].http.Enter("r", w.Now(), &e); b == nil || b.Rule != "later" {
			t.Fatalf("request %d: %+v, want it refused by the later rule: the first's only probe is under way", i, b)
		}
		w.run(tick)
	}
}

// opened is a process of n workers whose breaker of "r" has just opened.
func opened(t *testing.T, n int, r rule.CircuitBreaker) *process {
	t.Helper()
	w := newProcess(n, breakerConfig(r))
	f := w.workers[0].http
	var e engine.Entry
	f.Enter("r", w.Now(), &e)
	w.Advance(millisecond)
	e.Finish(w.Now(), true)
	w.run(2 * tick)
	if f.Enter("r", w.Now(), &e) == nil {
		t.Fatal("it has not opened")
	}
	return w
}

// probe is a probe that a filter lets in.
func probe(t *testing.T, f *engine.Filter, now int64) *engine.Entry {
	t.Helper()
	e := &engine.Entry{}
	if b := f.Enter("r", now, e); b != nil || len(e.Probes()) != 1 {
		t.Fatalf("not a probe: %+v", b)
	}
	return e
}

// refusesFor lets d nanoseconds pass, in which a filter must admit nobody.
func refusesFor(t *testing.T, w *process, f *engine.Filter, d int64) {
	t.Helper()
	for end := w.Now() + d; w.Now() < end; w.run(tick) {
		var e engine.Entry
		if f.Enter("r", w.Now(), &e) == nil {
			t.Fatalf("admitted %d ms before", (end-w.Now())/millisecond)
		}
	}
}

// A healthy service that takes longer than the retry timeout, and longer than a dead worker is waited for, closes it.
func TestBreakerProbeThatTakesLong(t *testing.T) {
	for _, takes := range []int64{1500 * millisecond, 3500 * millisecond, 60 * second} {
		w := opened(t, 2, rule.CircuitBreaker{Strategy: rule.ErrorCount, Threshold: 1})
		w.run(second)
		e := probe(t, w.workers[0].http, w.Now())
		refusesFor(t, w, w.workers[1].http, takes)
		e.Finish(w.Now(), false)
		w.run(tick)
		end(t, w.workers[1].http, w.Now(), true)
		end(t, w.workers[1].tcp, w.Now(), true)
	}
}

// A stream that its service answers well is a probe that succeeds, however long it lasts. So is, at once, one that was
// answered soon enough.
func TestBreakerProbeThatLasts(t *testing.T) {
	for strategy, settles := range map[rule.BreakerStrategy]int64{
		rule.ErrorCount: second, rule.ErrorRatio: second, rule.SlowRequestRatio: 0,
	} {
		w := opened(t, 1, rule.CircuitBreaker{Strategy: strategy, Threshold: 1})
		f := w.workers[0].tcp
		w.run(second)
		e := probe(t, f, w.Now())
		if !e.AwaitsAnswer() {
			t.Fatalf("%v: awaits no answer", strategy)
		}
		e.Answered(w.Now())
		e.Answers(outcome.Well, w.Now())
		refusesFor(t, w, f, settles)
		w.run(2 * tick)
		end(t, f, w.Now(), true)
		e.Finish(w.Now(), true) // a completion like any other now
		w.run(2 * tick)
		if got := f.Enter("r", w.Now(), e) == nil; got != (strategy != rule.ErrorCount) {
			t.Errorf("%v: after the end of the stream that lasted the next is admitted: %t", strategy, got)
		}
	}
}

// An answer that begins badly, or breaks off soon, is a failure.
func TestBreakerProbeThatBeginsToBeAnswered(t *testing.T) {
	for _, begins := range []outcome.Outcome{outcome.Well, outcome.Badly} {
		w := opened(t, 1, rule.CircuitBreaker{Strategy: rule.ErrorCount, Threshold: 1})
		f := w.workers[0].http
		w.run(second)
		e := probe(t, f, w.Now())
		e.Answered(w.Now())
		e.Answers(begins, w.Now())
		w.run(500 * millisecond)
		if begins == outcome.Well {
			e.Finish(w.Now(), true)
		} else {
			w.run(600 * millisecond) // the stream goes on
		}
		if got, _ := w.Metric("sentinel_breaker_state;resource=r;rule=b"); got != uint64(breaker.Open) {
			t.Errorf("it began %v: the gauge is %d", begins, got)
		}
	}
}

// What says nothing of the service does not count, and a probe that ends so gives its place back.
func TestBreakerOfEndsThatSayNothing(t *testing.T) {
	silent := outcome.End{ResponseMs: outcome.NoTime}
	for _, strategy := range []rule.BreakerStrategy{rule.ErrorCount, rule.ErrorRatio, rule.SlowRequestRatio} {
		w := opened(t, 1, rule.CircuitBreaker{Strategy: strategy, Threshold: 1, MinRequestAmount: 1})
		f := w.workers[0].http
		w.run(second)
		for range 10 {
			probe(t, f, w.Now()).Exit(w.Now(), silent)
		}
		last := probe(t, f, w.Now())
		refusesFor(t, w, f, 10*tick)
		last.Exit(w.Now(), outcome.End{Outcome: outcome.Well})
		w.run(2 * tick)
		for range 10 {
			var e engine.Entry
			if b := f.Enter("r", w.Now(), &e); b != nil {
				t.Fatalf("%v: refused: %+v", strategy, b)
			}
			e.Exit(w.Now(), silent)
			w.run(2 * tick)
		}
	}
}

// A client that waited longer than a service may take has seen a slow one.
func TestBreakerOfClientsThatLeave(t *testing.T) {
	w := newProcess(1, breakerConfig(rule.CircuitBreaker{
		Strategy: rule.SlowRequestRatio, Threshold: 1, MinRequestAmount: 3, MaxAllowedRtMs: 200,
	}))
	f := w.workers[0].http
	leave := func(ms int64) {
		for range 3 {
			var e engine.Entry
			if b := f.Enter("r", w.Now(), &e); b != nil {
				t.Fatalf("refused: %+v", b)
			}
			e.Exit(w.Now(), outcome.End{ResponseMs: ms, GaveUp: true})
		}
		w.run(2 * tick)
	}
	leave(200)
	leave(201)
	var e engine.Entry
	if f.Enter("r", w.Now(), &e) == nil {
		t.Error("three clients that left after 201 ms have not opened it")
	}
}

// One id in two filters is one breaker, which each judges by its own rule.
func TestBreakerOfTwoFilters(t *testing.T) {
	w := newProcess(1, nil)
	vm := w.workers[0].VM
	filter := func(name string, threshold float64, retryMs uint32) *engine.Filter {
		c := breakerConfig(rule.CircuitBreaker{Strategy: rule.ErrorCount, Threshold: threshold, MinRequestAmount: 1})
		rule.Of[rule.CircuitBreaker](c.Rules)[0].RetryTimeoutMs = retryMs
		return vm.NewFilter(name, c, nil)
	}
	strict, lax := filter("strict", 3, 1000), filter("lax", 100, 5000)
	for range 5 {
		end(t, lax, w.Now(), false)
	}
	w.run(2 * tick)
	end(t, lax, w.Now(), false)
	end(t, strict, w.Now(), true)
	w.run(2 * tick)
	var e engine.Entry
	if strict.Enter("r", w.Now(), &e) == nil || lax.Enter("r", w.Now(), &e) == nil {
		t.Fatal("6 of 3 failures have not opened it for both")
	}
	w.run(second)
	if lax.Enter("r", w.Now(), &e) == nil {
		t.Error("admitted before the retry timeout of the filter's own rule")
	}
	probe(t, strict, w.Now()).Finish(w.Now(), false)
	w.run(2 * tick)
	end(t, lax, w.Now(), true)
}

// Each resource that an expression matches has a breaker of its own.
func TestBreakerOfAnExpression(t *testing.T) {
	c := breakerConfig(rule.CircuitBreaker{Strategy: rule.ErrorCount, Threshold: 1})
	*c.Rules[0].For() = matching("b", "r|s")
	for _, name := range []string{"r", "s", "rs"} {
		c.Resources = append(c.Resources, config.Resource{Name: name})
	}
	w := newProcess(2, c)
	end(t, w.workers[0].http, w.Now(), false)
	w.run(2 * tick)
	for name, admits := range map[string]bool{"r": false, "s": true, "rs": true} {
		var e engine.Entry
		if got := w.workers[1].http.Enter(name, w.Now(), &e) == nil; got != admits {
			t.Errorf("%s is admitted: %t", name, got)
		}
	}
}

// A shadow breaker opens for itself, and lets everybody in.
func TestBreakerInShadowMode(t *testing.T) {
	enforced := breakerConfig(rule.CircuitBreaker{Strategy: rule.ErrorCount, Threshold: 1})
	shadow := *enforced
	shadow.Mode = config.Shadow
	w := newProcess(1, nil)
	vm := w.workers[0]
	f, g := vm.NewFilter("sentinel_http", &shadow, nil), vm.NewFilter("sentinel_tcp", enforced, nil)
	end(t, f, w.Now(), false)
	w.run(second / 2)
	end(t, f, w.Now(), true)
	end(t, g, w.Now(), true)
	w.run(second)
	if got, _ := w.Metric("sentinel_shadow_blocked;resource=r;rule=b;kind=circuitBreaker"); got != 1 {
		t.Errorf("%d shadow refusals", got)
	}
	if got, _ := w.Metric("sentinel_shadow_breaker_state;resource=r;rule=b"); got != uint64(breaker.Open) {
		t.Errorf("the shadow's gauge is %d", got)
	}
	if got, _ := w.Metric("sentinel_breaker_state;resource=r;rule=b"); got != uint64(breaker.Closed) {
		t.Errorf("the gauge is %d", got)
	}
}

// What is kept for a rule goes with the rule.
func TestBreakerIsForgotten(t *testing.T) {
	c := breakerConfig(rule.CircuitBreaker{Strategy: rule.ErrorCount, Threshold: 1})
	w := newProcess(1, c)
	wk := w.workers[0]
	end(t, wk.http, w.Now(), false)
	w.run(tick)
	wk.update(&config.Config{})
	w.run(2 * tick)
	if got := wk.Records(); got != 0 {
		t.Errorf("%d records are kept", got)
	}
	if got, _ := w.Metric("sentinel_breaker_state;resource=r;rule=b"); got != uint64(breaker.Closed) {
		t.Errorf("the gauge of a rule that is gone is %d", got)
	}
}
