package engine_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"sentinel-envoy/internal/seeds"
	"sentinel-envoy/shared/config"
	"sentinel-envoy/shared/engine"
	"sentinel-envoy/shared/family/flow"
	"sentinel-envoy/shared/host/memhost"
	"sentinel-envoy/shared/rule"
)

// throttled is a rule on the resource "r" that lets entries in one after the other.
func throttled(id string, threshold float64, maxWaitMs uint32) rule.Flow {
	r := limit(id, threshold, 1000)
	r.ControlBehavior, r.MaxQueueingTimeMs = rule.Throttling, maxWaitMs
	return r
}

// enter asks for an entry into a resource and says until when it must wait, 0 if it need not.
func enter(t *testing.T, f *engine.Filter, resource string, now int64) (e *engine.Entry, until int64, blocked *engine.Block) {
	t.Helper()
	e = &engine.Entry{}
	blocked = f.Enter(resource, now, e)
	until, _ = e.Waiting()
	return e, until, blocked
}

// What waits has one order over all workers and both filters, is counted when it enters, and uses its turn when it leaves.
func TestThrottlingQueuesOverAllWorkers(t *testing.T) {
	w := newProcess(3, cfg(throttled("r", 10, 450)))
	w.run(tick)
	now := w.Now()
	var waiting []*engine.Entry
	for n := range 8 {
		f := w.workers[n%3].http
		if n%2 == 1 {
			f = w.workers[n%3].tcp
		}
		e, until, blocked := enter(t, f, "r", now)
		want := now + int64(n)*100*millisecond
		switch {
		case n == 0 && (blocked != nil || until != 0):
			t.Errorf("the first waits until %d, %+v", until, blocked)
		case n > 0 && n < 5 && (blocked != nil || until != want):
			t.Errorf("number %d waits until %d, want %d", n, until, want)
		case n >= 5 && blocked == nil:
			t.Errorf("number %d waits for longer than it may", n)
		case n >= 5 && (blocked.Reason != rule.FlowFamily.Name || blocked.Seen != 500 || blocked.Threshold != 450 || blocked.RetryAfterMs != 50):
			t.Errorf("number %d: %+v", n, blocked)
		}
		waiting = append(waiting, e)
	}
	waiting[2].Finish(now, false) // leaves: its turn stays taken
	if _, until, _ := enter(t, w.workers[0].http, "r", now+100*millisecond); until != now+500*millisecond {
		t.Errorf("after one has left the next waits until %d", until)
	}
	for _, n := range []int{1, 3, 4} {
		if b := waiting[n].Resume(now + int64(n)*100*millisecond); b != nil {
			t.Errorf("number %d was refused after its wait: %+v", n, b)
		}
	}
	w.run(second)
	if r, ok := w.workers[1].Rates("r", w.Now()); !ok || r.InFlight != 4 {
		t.Errorf("in flight are %+v, want the 4 that have entered", r)
	}
	for _, e := range waiting {
		e.Finish(w.Now(), false)
		e.Finish(w.Now(), false)
	}
	w.run(second)
	if r, _ := w.workers[1].Rates("r", w.Now()); r.InFlight != 0 {
		t.Errorf("in flight are %+v", r)
	}
}

// A worker lets only so many wait; others wait on in other workers, and who need not wait enters.
func TestThrottlingBoundsWhatWaitsInAWorker(t *testing.T) {
	w := newProcess(2, cfg(throttled("r", 1000, 3600_000)))
	w.run(tick)
	now := w.Now()
	var waiting []*engine.Entry
	refused := 0
	for range 5000 {
		e, until, blocked := enter(t, w.workers[0].http, "r", now)
		if blocked != nil {
			refused++
			if blocked.Threshold != engine.MaxWaiting/2 {
				t.Fatalf("refused: %+v", blocked)
			}
		}
		if until != 0 {
			waiting = append(waiting, e)
		}
	}
	if len(waiting) != engine.MaxWaiting/2 || refused != 5000-1-len(waiting) {
		t.Errorf("%d wait, %d were refused", len(waiting), refused)
	}
	if _, until, blocked := enter(t, w.workers[1].http, "r", now); until == 0 || blocked != nil {
		t.Errorf("in another worker: until %d, %+v", until, blocked)
	}
	waiting[7].Finish(now, false)
	if _, until, _ := enter(t, w.workers[0].http, "r", now); until == 0 {
		t.Error("nobody may wait in the place of one who has left")
	}
	w.run(second)
	if got, _ := w.Metric("sentinel_queue_full"); got != uint64(refused) {
		t.Errorf("%d are counted, %d were refused", got, refused)
	}
}

// However many wait for one rule, also after an update of its filters, another finds places.
func TestThrottlingLeavesPlacesToOtherRules(t *testing.T) {
	on := func(resource string) rule.Flow {
		r := throttled(resource, 1, 3600_000)
		r.Resource = resource
		return r
	}
	value := perUser("value", 1)
	value.Resource, value.ControlBehavior, value.MaxQueueingTimeMs = "value", rule.Throttling, 3600_000
	c := cfg(on("bulk"), on("login"), on("mail"))
	c.Rules = append(c.Rules, list([]rule.Hotspot{value})...)
	w := newProcess(1, c)
	wk := w.workers[0]
	waits := func(resource string, n int) (waiting int) {
		wk.as("alice")
		for range n {
			wk.http.Stream.Begin()
			if _, until, _ := enter(t, wk.http, resource, w.Now()); until != 0 {
				waiting++
			}
		}
		return waiting
	}
	for range 2 {
		waits("bulk", 6000)
		wk.update(c)
		w.run(second)
	}
	for _, resource := range []string{"login", "value", "mail"} {
		if got := waits(resource, 51); got != 50 { // the first need not wait
			t.Errorf("%d of 50 may wait for %q", got, resource)
		}
	}
	if got := waits("bulk", 10); got != 0 {
		t.Errorf("another %d may wait for the rule that has most places", got)
	}
}

// A rule that refuses after the wait gets the others their counts back, but not the turn.
func TestThrottlingThenRefusal(t *testing.T) {
	w := newProcess(1, cfg(limit("first", 5, 60_000), throttled("r", 10, 1000), limit("last", 1, 60_000)))
	f := w.workers[0].http
	now := w.Now()
	if _, until, b := enter(t, f, "r", now); until != 0 || b != nil {
		t.Fatal(until, b)
	}
	for n := range 8 { // each but the first is refused by the last rule, and spends nothing of the first one's
		e, until, b := enter(t, f, "r", now)
		if b != nil || until != now+100*millisecond {
			t.Fatalf("number %d: until %d, %+v", n, until, b)
		}
		now = until
		if b := e.Resume(now); b == nil || b.Rule != "last" {
			t.Fatalf("number %d: %+v", n, b)
		}
		e.Finish(now, false)
	}
}

// A filter that is replaced lets those go on who wait, by its own rules, and is then gone.
func TestThrottlingWhileAFilterDrains(t *testing.T) {
	for _, leaves := range []bool{false, true} {
		w := newProcess(1, cfg(throttled("r", 10, 1000), limit("last", 1, 60_000)))
		wk := w.workers[0]
		now := w.Now()
		_, _, _ = enter(t, wk.tcp, "r", now) // takes the only permit of the last rule
		old := wk.http
		e, until, _ := enter(t, old, "r", now)
		if until == 0 {
			t.Fatal("it does not wait")
		}
		wk.update(cfg(throttled("r", 20, 1000)))
		if leaves {
			e.Finish(now, false)
		} else if b := e.Resume(until); b == nil || b.Rule != "last" {
			t.Errorf("it goes on by other rules: %+v", b)
		}
		if got := wk.Sizes()["filters"]; got != 3 { // the old TCP filter has a connection
			t.Errorf("%d filters are there, want 3", got)
		}
		if _, until, _ := enter(t, wk.http, "r", now); until == 0 {
			t.Error("an update forgot who has queued")
		}
	}
}

func TestShadowThrottlingDoesNotWait(t *testing.T) {
	c := cfg(throttled("r", 10, 100))
	c.Mode = config.Shadow
	w := newProcess(1, c)
	for n := range 5 {
		e, until, b := enter(t, w.workers[0].http, "r", w.Now())
		if until != 0 || b != nil {
			t.Errorf("number %d: until %d, %+v", n, until, b)
		}
		e.Finish(w.Now(), false)
	}
	w.run(second)
	if got, _ := w.Metric("sentinel_shadow_blocked;resource=r;rule=r;kind=flow"); got != 3 {
		t.Errorf("%d would have been refused, want 3", got)
	}
}

// While another resource is busy, in whichever worker and filter, this one is refused; two ticks later at most.
func TestAssociatedResourceOverAllWorkers(t *testing.T) {
	r := limit("r", 10, 2000)
	r.RelationStrategy, r.RefResource = rule.AssociatedResource, "orders"
	c := cfg(r)
	w := newProcess(0, nil)
	for range 3 { // the TCP filters have no rule, but the resource
		wk := w.join(nil)
		wk.http = wk.NewFilter("sentinel_http", c, nil)
		wk.tcp = wk.NewFilter("sentinel_tcp", &config.Config{ResourceName: "orders"}, nil)
	}
	w.run(10 * tick)
	orders := func(f *engine.Filter, n int) {
		for range n {
			e, _, _ := enter(t, f, "orders", w.Now())
			e.Finish(w.Now(), false)
		}
	}
	orders(w.workers[0].tcp, 4)
	orders(w.workers[1].http, 5)
	w.run(2 * tick)
	for i, wk := range w.workers {
		if got := admit(wk.http, 20, w.Now()); got != 20 {
			t.Errorf("worker %d: with 9 orders in 2 s, %d of 20 were let in", i, got)
		}
	}
	orders(w.workers[2].tcp, 1)
	if got := admit(w.workers[2].http, 20, w.Now()); got != 0 {
		t.Errorf("in the worker that has seen the tenth order itself %d were let in", got)
	}
	w.run(2 * tick)
	for i, wk := range w.workers {
		_, _, b := enter(t, wk.http, "r", w.Now())
		if b == nil || b.Seen != 10 || b.Threshold != 10 {
			t.Errorf("worker %d: with 10 orders in 2 s: %+v", i, b)
		}
	}
	w.run(2500 * millisecond)
	if got := admit(w.workers[1].http, 5, w.Now()); got != 5 {
		t.Errorf("2.5 s later %d of 5 were let in", got)
	}
	for _, wk := range w.workers {
		wk.http.Drain()
		orders(wk.tcp, 1)
	}
	w.run(second)
	if got := w.workers[0].Faults(); got != 0 {
		t.Errorf("%d faults", got)
	}
}

// An expression is a rule for each resource whose whole name it matches.
func TestExpressionLimitsEachResource(t *testing.T) {
	r := rule.Flow{Target: matching("r", "/api/.*|shop"), Threshold: 3, StatIntervalInMs: 60_000}
	c := cfg(r)
	c.ResourceName = "shop"
	c.Resources = []config.Resource{{Name: "/api/a"}, {Name: "/api/b"}, {Name: "shopping"}, {Name: "v1/api/"}}
	w := newProcess(2, c)
	for name, want := range map[string]int{"/api/a": 3, "/api/b": 3, "shop": 3, "shopping": 10, "v1/api/": 10} {
		admitted := 0
		for n := range 10 {
			if _, _, b := enter(t, w.workers[n%2].http, name, w.Now()); b == nil {
				admitted++
			} else if b.Rule != "r" || b.Resource != name {
				t.Errorf("%s: %+v", name, b)
			}
		}
		if admitted != want {
			t.Errorf("%s: %d of 10 were let in, want %d", name, admitted, want)
		}
	}
}

// Whole VMs, with stalls, deaths and updates: turns are never closer than the shorter interval.
func TestThrottlingOfWholeVMs(t *testing.T) {
	const runs = 60
	total := 0
	seeds.Try(t, runs, func(t *testing.T, seed uint64) {
		rng := rand.New(rand.NewPCG(seed, 5))
		threshold := []float64{5, 20, 200}[rng.IntN(3)]
		rules := cfg(throttled("r", threshold, 300))
		if rng.IntN(2) == 0 {
			r := rule.Of[rule.Flow](rules.Rules)[0]
			*r = warmUp(*r, 2, 3)
		}
		sim := memhost.NewSim(seed, start)
		defer sim.Close()
		var turns []int64
		for i := range 1 + rng.IntN(32) {
			sim.Go(func(task *memhost.Task) { visitors(task, rules, uint64(i), &turns) })
		}
		for sim.Step() {
			live := sim.Live()
			switch {
			case len(live) == 0:
			case rng.IntN(100) == 0:
				sim.Advance(rng.Int64N(millisecond / 4))
			case rng.IntN(2000) == 0:
				sim.Stall(live[rng.IntN(len(live))], rng.Int64N(second))
			case rng.IntN(5000) == 0 && len(live) > 1:
				sim.Kill(live[rng.IntN(len(live))])
			}
		}
		slices.Sort(turns)
		gap := flow.Pace{IntervalMs: 1000}.Gap(threshold, 1)
		for i := 1; i < len(turns); i++ {
			if turns[i]-turns[i-1] < gap {
				t.Fatalf("two turns are %d ns apart, want %d", turns[i]-turns[i-1], gap)
			}
		}
		total += len(turns)
	})
	if seeds.Complete() && total < 10*runs { // one alone may be cold, with a gap of 600 ms, and stalled
		t.Errorf("only %d turns in %d times two seconds", total, runs)
	}
}

// visitors are a worker's requests for two seconds. They enter at their turn, or leave before; it adds to turns when
// that is.
func visitors(task *memhost.Task, c *config.Config, seed uint64, turns *[]int64) {
	rng := rand.New(rand.NewPCG(seed, 6))
	vm := engine.New(task, "test")
	f := vm.NewFilter("sentinel_http", c, nil)
	type visitor struct {
		engine.Entry
		until int64
	}
	var waiting []*visitor
	for now := int64(start); now < start+2*second; now = task.Now() {
		vm.Tick(now)
		v := &visitor{}
		if f.Enter("r", now, &v.Entry) == nil {
			if until, waits := v.Waiting(); waits {
				v.until = until
				waiting = append(waiting, v)
				*turns = append(*turns, until)
			} else {
				*turns = append(*turns, v.DecidedAt()...)
				v.Finish(now, false)
			}
		}
		waiting = slices.DeleteFunc(waiting, func(v *visitor) bool {
			switch {
			case v.until <= now:
				_ = v.Resume(now)
				v.Finish(now, false)
				return true
			case rng.IntN(50) == 0:
				v.Finish(now, false)
				return true
			}
			return false
		})
		task.Sleep(now + rng.Int64N(20*millisecond))
	}
}
