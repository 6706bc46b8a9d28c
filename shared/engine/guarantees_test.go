package engine_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"sentinel-envoy/internal/seeds"
	"sentinel-envoy/shared/config"
	"sentinel-envoy/shared/engine"
	"sentinel-envoy/shared/host"
	"sentinel-envoy/shared/host/memhost"
	"sentinel-envoy/shared/metrics"
	"sentinel-envoy/shared/record"
	"sentinel-envoy/shared/rule"
	"sentinel-envoy/shared/stat"
)

func TestGuarantee1NeverOverWithWholeVMs(t *testing.T) {
	admitted := int64(0)
	seeds.Try(t, 200, func(t *testing.T, seed uint64) {
		c := newSimulation(seed)
		c.deaths, c.stalls = c.rng.IntN(2) == 0, c.rng.IntN(2) == 0
		c.run()
		for _, n := range c.tally.admitted {
			admitted += n
		}
		if worst, at := c.tally.worst(); worst > int64(c.first) {
			t.Errorf("window up to bucket %d admitted %d: %v", at, worst, c)
		}
	})
	if seeds.Complete() && admitted < 10_000 {
		t.Errorf("only %d were let in, of all simulations: nothing could have been over", admitted)
	}
}

func TestGuarantee1AtMostTheLargerWhileAThresholdChanges(t *testing.T) {
	seeds.Try(t, 200, func(t *testing.T, seed uint64) {
		c := newSimulation(seed)
		c.deaths, c.stalls = c.rng.IntN(2) == 0, c.rng.IntN(2) == 0
		c.second = []float64{0, 1, 7, 50, 200}[c.rng.IntN(5)]
		c.run()
		if worst, at := c.tally.worst(); worst > int64(max(c.first, c.second)) {
			t.Errorf("window up to bucket %d admitted %d: %v", at, worst, c)
		}
	})
}

func TestGuarantee2UnspentPermitsAreBackAfterATick(t *testing.T) {
	w := newProcess(2, cfg(limit("r", 1000, 1000)))
	busy, other := w.workers[0], w.workers[1]
	admitted := 0
	for range 300 { // fast enough for reservations; then its traffic stops
		admitted += admit(busy.http, 1, w.Now())
		w.Advance(10_000)
	}
	w.run(tick)
	admitted += admit(other.http, 2000, w.Now())
	if admitted != 1000 {
		t.Errorf("admitted %d of 1000 in one bucket", admitted)
	}
}

func TestGuarantee3OneBudgetForTCPAndHTTPInOneVM(t *testing.T) {
	w := newProcess(1, cfg(limit("r", 30, 1000)))
	a := w.workers[0]
	if got := admit(a.http, 20, w.Now()) + admit(a.tcp, 20, w.Now()); got != 30 {
		t.Errorf("admitted %d of 30", got)
	}
}

func TestGuarantee3OneBudgetForTCPAndHTTPInAllVMs(t *testing.T) {
	seeds.Try(t, 50, func(t *testing.T, seed uint64) {
		rng := rand.New(rand.NewPCG(seed, 1))
		w := newProcess(1+rng.IntN(6), cfg(limit("r", 30, 1000)))
		admitted := 0
		// All of it in one bucket; ticks return what was reserved and not spent.
		for range 20 {
			for range 40 {
				wk := w.workers[rng.IntN(len(w.workers))]
				f := wk.http
				if rng.IntN(2) == 0 {
					f = wk.tcp
				}
				admitted += admit(f, 1, w.Now())
				w.Advance(rng.Int64N(millisecond / 100))
			}
			w.run(tick)
		}
		if admitted != 30 {
			t.Errorf("%d workers admitted %d of 30", len(w.workers), admitted)
		}
	})
}

func TestGuarantee3ShadowSpendsItsOwn(t *testing.T) {
	shadow := cfg(limit("r", 10, 1000))
	shadow.Mode = config.Shadow
	w := newProcess(1, cfg(limit("r", 10, 1000)))
	a, b := w.workers[0], w.join(shadow)
	if got := admit(b.http, 50, w.Now()) + admit(b.tcp, 50, w.Now()); got != 100 {
		t.Errorf("shadow admitted %d of 100", got)
	}
	if got := admit(a.http, 50, w.Now()); got != 10 {
		t.Errorf("after shadow decisions enforcement admitted %d of 10", got)
	}
	w.run(second)
	for name, want := range map[string]uint64{
		"sentinel_shadow_blocked;resource=r;rule=r;kind=flow": 90, "sentinel_blocked;resource=r;rule=r;kind=flow": 40, "sentinel_passed;resource=r": 110,
	} {
		if got, _ := w.Metric(name); got != want {
			t.Errorf("%s is %d, want %d", name, got, want)
		}
	}
}

func TestGuarantee4UnchangedRuleKeepsItsWindow(t *testing.T) {
	for _, drainFirst := range []bool{false, true} {
		w := newProcess(2, cfg(limit("r", 10, 1000)))
		a := w.workers[0]
		if got := admit(a.http, 10, w.Now()); got != 10 {
			t.Fatalf("admitted %d of 10", got)
		}
		if drainFirst {
			a.http.Drain()
			a.tcp.Drain()
			w.run(tick)
			a.http = a.NewFilter("sentinel_http", cfg(limit("r", 10, 1000)), nil)
		} else {
			a.update(cfg(limit("r", 10, 1000)))
		}
		if got := admit(a.http, 10, w.Now()); got != 0 {
			t.Errorf("after an update (drain first: %t) another %d were admitted in the same window", drainFirst, got)
		}
		if got := admit(w.workers[1].tcp, 10, w.Now()); got != 0 {
			t.Errorf("another worker admitted %d", got)
		}
		w.run(1500 * millisecond)
		if got := admit(a.http, 20, w.Now()); got != 10 {
			t.Errorf("in the next window %d of 10 were admitted", got)
		}
	}
}

func TestGuarantee4ChangedThresholdHoldsFromTheFirstDecision(t *testing.T) {
	for _, warm := range []int{0, 3, 7, 10} {
		w := newProcess(1, cfg(limit("r", 10, 1000)))
		a := w.workers[0]
		first := admit(a.http, warm, w.Now())
		a.update(cfg(limit("r", 5, 1000)))
		if got := admit(a.http, 20, w.Now()); got != max(5-first, 0) {
			t.Errorf("lowered from 10 to 5 with %d spent: admitted %d more", first, got)
		}
		a.update(cfg(limit("r", 20, 1000)))
		if got := admit(a.tcp, 50, w.Now()); got != 20-max(first, 5) {
			t.Errorf("raised to 20 with %d spent: admitted %d more", max(first, 5), got)
		}
	}
}

// A worker that spends from a large reservation under the old threshold does not spend it under a lower one.
func TestGuarantee4LowerThresholdDoesNotSpendAnOldReservation(t *testing.T) {
	w := newProcess(1, cfg(limit("r", 1000, 1000)))
	a := w.workers[0]
	spent := 0
	for range 300 { // fast enough for reservations
		spent += admit(a.http, 1, w.Now())
		w.Advance(10_000)
	}
	a.update(cfg(limit("r", 20, 1000)))
	if got := admit(a.http, 100, w.Now()); got != 0 {
		t.Errorf("%d were spent, the new threshold is 20, and %d more were admitted", spent, got)
	}
}

func TestGuarantee4DrainingFiltersDecideByTheirOwnRules(t *testing.T) {
	w := newProcess(1, cfg(limit("r", 10, 1000)))
	a := w.workers[0]
	old := a.http
	var stream engine.Entry // keeps the old filter
	if old.Enter("r", w.Now(), &stream) != nil {
		t.Fatal("refused")
	}
	a.update(cfg(limit("r", 5, 1000)))
	if got := admit(a.http, 20, w.Now()); got != 4 {
		t.Errorf("the new filter admitted %d after 1, its threshold is 5", got)
	}
	if got := admit(old, 20, w.Now()); got != 5 {
		t.Errorf("the draining filter admitted %d after 5, its threshold is 10", got)
	}
	stream.Finish(w.Now(), false)
	if got := admit(old, 20, w.Now()); got != 20 {
		t.Errorf("a filter that has ended refused %d", 20-got)
	}
	w.run(1500 * millisecond)
	if got := admit(a.http, 20, w.Now()); got != 5 {
		t.Errorf("in the next window the new filter admitted %d of 5", got)
	}
}

// inFlight is what the snapshot says of the resource "r" now, as any worker reads it.
func inFlight(w *process) int {
	reader := engine.New(w.Worker(nil), "reader")
	r, _ := reader.Rates("r", w.Now())
	return int(r.InFlight)
}

func hold(t *testing.T, wk *worker, n int, now int64) []engine.Entry {
	t.Helper()
	entries := make([]engine.Entry, n)
	for i := range entries {
		if wk.http.Enter("r", now, &entries[i]) != nil {
			t.Fatal("refused")
		}
	}
	return entries
}

func TestGuarantee5InFlightOfAKilledWorkerIsBack(t *testing.T) {
	for _, aggregatorDies := range []bool{false, true} {
		w := newProcess(4, cfg(limit("r", 1000, 1000)))
		w.run(second)
		victim := w.workers[0]
		for _, wk := range w.workers {
			if wk.Aggregates() == aggregatorDies {
				victim = wk
			}
		}
		hold(t, victim, 7, w.Now())
		w.run(4 * second) // nothing but heartbeats keeps them
		if got := inFlight(w); got != 7 {
			t.Fatalf("%d of 7 in flight", got)
		}
		victim.gone = true
		w.run(2 * second)
		if got := inFlight(w); got != 0 {
			t.Errorf("aggregator dies: %t: two seconds after its last tick %d entries of a dead worker are in flight", aggregatorDies, got)
		}
		if got, _ := w.Metric("sentinel_in_flight;resource=r"); got != 0 {
			t.Errorf("aggregator dies: %t: the gauge stays at %d", aggregatorDies, got)
		}
	}
}

func TestGuarantee5SlowWorkerRegistersAgain(t *testing.T) {
	for _, slotTaken := range []bool{false, true} {
		w := newProcess(3, cfg(limit("r", 1000, 1000)))
		w.run(second)
		slow := w.workers[1]
		entries := hold(t, slow, 5, w.Now())
		w.run(second)
		slow.gone = true
		w.run(3 * second)
		if got := inFlight(w); got != 0 {
			t.Fatalf("%d in flight of a worker that is silent for 3 s", got)
		}
		if slotTaken {
			w.join(cfg(limit("r", 1000, 1000)))
			w.run(second)
		}
		slow.gone = false
		w.run(second)
		if got := inFlight(w); got != 5 {
			t.Errorf("slot taken: %t: the worker is back and %d of 5 are in flight", slotTaken, got)
		}
		for i := range entries {
			entries[i].Finish(w.Now(), false)
		}
		w.run(200 * millisecond)
		if got := inFlight(w); got != 0 {
			t.Errorf("slot taken: %t: all have ended and %d are in flight", slotTaken, got)
		}
	}
}

func TestGuarantee5PermitsOfADeadWorkerLeaveWithTheirBucket(t *testing.T) {
	w := newProcess(2, cfg(limit("r", 1000, 1000)))
	dead, alive := w.workers[0], w.workers[1]
	spent := 0
	for range 200 {
		spent += admit(dead.http, 1, w.Now())
		w.Advance(10_000)
	}
	dead.gone = true
	spent += admit(alive.http, 2000, w.Now())
	if spent > 1000 {
		t.Errorf("admitted %d of 1000", spent)
	}
	w.run(second)
	if got := admit(alive.http, 2000, w.Now()); got != 1000 {
		t.Errorf("a window later %d of 1000 were admitted", got)
	}
}

func TestGuarantee6BoundedWhateverClientsSendAndHoweverOftenRulesChange(t *testing.T) {
	const workers, updates, rules = 2, 200, 60
	rng := rand.New(rand.NewPCG(1, 2))
	w := newProcess(workers, cfg(limit("first", 5, 1000)))
	named := func(update int) *config.Config {
		var all []rule.Flow
		for i := range rules {
			all = append(all, rule.Flow{
				Target:    rule.Target{ID: fmt.Sprintf("rule %d/%d", update, i), Resource: fmt.Sprintf("resource %d/%d", update, i)},
				Threshold: 5, StatIntervalInMs: 1000,
			})
		}
		return cfg(all...)
	}
	for update := range updates {
		for _, wk := range w.workers {
			wk.update(named(update))
			for range 100_000 / updates / workers {
				var e engine.Entry
				if wk.http.Enter(fmt.Sprintf("/random/%x", rng.Uint64()), w.Now(), &e) != nil || e.InFlight() {
					t.Fatal("a resource that nobody named was counted")
				}
			}
			for i := range rules {
				var e engine.Entry
				for range 6 {
					wk.http.Enter(fmt.Sprintf("resource %d/%d", update, i), w.Now(), &e)
					e.Finish(w.Now(), false)
				}
			}
		}
		w.run(500 * millisecond)
	}
	keys, bytes := w.Keys()
	most := record.MaxKeys + metrics.MaxNames/32 + stat.Pages + 512 + 1 // records, names, snapshot, workers, aggregator
	if keys > most || bytes > 16<<20 {
		t.Errorf("%d keys of %d bytes in shared data", keys, bytes)
	}
	if got := w.MetricNames(); got > metrics.MaxNames+64 {
		t.Errorf("%d metrics", got)
	}
	for i, wk := range w.workers {
		for what, n := range wk.Sizes() {
			if n > 2*rules {
				t.Errorf("worker %d keeps %d %s after %d updates", i, n, what, updates)
			}
		}
		if got := wk.MetricIDs(); got > metrics.MaxIDs {
			t.Errorf("worker %d remembers %d metrics", i, got)
		}
	}
	if got := w.QueueLength(engine.QueueName); got > 100 {
		t.Errorf("%d messages wait", got)
	}
}

// The figures of a resource that is configured no more do not stay where they were.
func TestGaugesOfARemovedResourceFallToZero(t *testing.T) {
	w := newProcess(3, cfg(limit("r", 1000, 1000)))
	for range 100 {
		for _, wk := range w.workers {
			admit(wk.http, 2, w.Now())
		}
		w.run(tick)
	}
	if got, _ := w.Metric("sentinel_pass_qps;resource=r"); got == 0 {
		t.Fatal("no figure at all")
	}
	for _, wk := range w.workers {
		wk.update(cfg(rule.Flow{Target: rule.Target{ID: "other", Resource: "other"}, Threshold: 1, StatIntervalInMs: 1000}))
		w.run(tick)
	}
	w.run(3 * second)
	for _, name := range []string{"sentinel_pass_qps;resource=r", "sentinel_block_qps;resource=r", "sentinel_in_flight;resource=r"} {
		if got, _ := w.Metric(name); got != 0 {
			t.Errorf("%s stays at %d", name, got)
		}
	}
}

// Names that differ only at their end get metrics of their own.
func TestEveryRuleOfALargeConfigurationHasItsMetric(t *testing.T) {
	const rules = 500
	var all []rule.Flow
	for i := range rules {
		all = append(all, rule.Flow{Target: rule.Target{ID: fmt.Sprintf("rule-%d", i), Resource: fmt.Sprintf("/path/%d", i)}, StatIntervalInMs: 1000})
	}
	w := newProcess(1, cfg(all...))
	for i := range rules {
		var e engine.Entry
		if w.workers[0].http.Enter(fmt.Sprintf("/path/%d", i), w.Now(), &e) == nil {
			t.Fatalf("rule %d admits something", i)
		}
	}
	w.run(second)
	for i := range rules {
		name := fmt.Sprintf("sentinel_blocked;resource=/path/%d;rule=rule-%d;kind=flow", i, i)
		if got, _ := w.Metric(name); got != 1 {
			t.Errorf("%s is %d, want 1", name, got)
		}
	}
}

var errFault = errors.New("the host fails")

func TestGuarantee7HostFaultsFollowTheFailureMode(t *testing.T) {
	for _, mode := range []config.FailureMode{config.FailOpen, config.FailClosed} {
		c := cfg(limit("r", 10, 1000))
		c.FailureMode = mode
		w := newProcess(2, c)
		w.run(second)
		a := w.workers[0]
		a.host.Fail(errFault)
		var e engine.Entry
		block := a.http.Enter("r", w.Now(), &e)
		if mode == config.FailOpen && block != nil {
			t.Errorf("open: refused by %+v", block)
		}
		if mode == config.FailClosed && (block == nil || block.Reason != engine.Unavailable) {
			t.Errorf("closed: got %+v", block)
		}
		e.Finish(w.Now(), false)
		w.run(second) // ticks fail too
		a.host.Fail(nil)
		w.run(3 * second)
		if got, _ := w.Metric("sentinel_faults"); got == 0 {
			t.Errorf("mode %v: no fault was counted", mode)
		}
		if got := admit(a.http, 20, w.Now()) + admit(w.workers[1].http, 20, w.Now()); got != 10 {
			t.Errorf("mode %v: after the fault %d of 10 were admitted", mode, got)
		}
		if len(a.host.Lines()) == 0 {
			t.Errorf("mode %v: nothing was logged", mode)
		}
	}
}

func TestGuarantee7CorruptedSharedDataIsCountedAndTheLimitHoldsAgain(t *testing.T) {
	seeds.Try(t, 30, func(t *testing.T, seed uint64) {
		rng := rand.New(rand.NewPCG(seed, 1))
		w := newProcess(3, cfg(limit("r", 10, 1000)))
		for range 200 {
			for _, wk := range w.workers {
				admit(wk.http, 3, w.Now())
			}
			if rng.IntN(10) == 0 {
				w.Corrupt(func(_ string, value []byte) ([]byte, bool) { return memhost.Rubbish(rng, value), rng.IntN(2) == 0 })
			}
			w.run(tick)
		}
		w.run(150 * second) // every record in use is looked up anew within two minutes
		for _, wk := range w.workers {
			admit(wk.http, 1, w.Now()) // finds what was lost, and takes it for spent
		}
		w.run(1500 * millisecond)
		for range 3 {
			sum := 0
			for _, wk := range w.workers {
				sum += admit(wk.http, 20, w.Now()) + admit(wk.tcp, 20, w.Now())
			}
			if sum != 10 {
				t.Errorf("after the corruption %d of 10 were admitted", sum)
			}
			w.run(1500 * millisecond)
		}
		if got, _ := w.Metric("sentinel_records_replaced"); got == 0 {
			t.Error("no replaced record was counted")
		}
		entries := hold(t, w.workers[0], 4, w.Now())
		w.run(second)
		if got := inFlight(w); got != 4 {
			t.Errorf("after the corruption the snapshot has %d of 4 in flight", got)
		}
		for i := range entries {
			entries[i].Finish(w.Now(), false)
		}
	})
}

// Terms begin anew when the record of the role is lost and nobody who has seen it lives: what was published in higher ones
// does not stay for ever.
func TestGuarantee7LostRoleDoesNotFreezeTheSnapshot(t *testing.T) {
	w := newProcess(4, cfg(limit("r", 1000, 1000)))
	for _, wk := range w.workers { // a term each
		hold(t, wk, 1, w.Now())
		w.run(second)
		wk.gone = true
		w.run(second)
	}
	w.Corrupt(func(key string, _ []byte) ([]byte, bool) { return nil, strings.HasSuffix(key, "/aggregator") })
	hold(t, w.join(cfg(limit("r", 1000, 1000))), 3, w.Now())
	w.run(5 * second)
	if got := inFlight(w); got != 3 {
		t.Errorf("5 s after the role was lost the snapshot has %d of 3 in flight", got)
	}
}

func TestGuarantee7RubbishInTheQueueIsCountedAndPassedOver(t *testing.T) {
	w := newProcess(3, cfg(limit("r", 10, 1000)))
	w.run(second)
	rng := rand.New(rand.NewPCG(1, 1))
	stranger := w.Worker(nil)
	queue, err := stranger.Resolve(engine.QueueName)
	if err != nil {
		t.Fatal(err)
	}
	for range 1000 {
		if err := stranger.Enqueue(queue, memhost.Rubbish(rng, []byte("a message of somebody else's"))); err != nil {
			t.Fatal(err)
		}
	}
	entries := hold(t, w.workers[1], 3, w.Now())
	w.run(second)
	if got := inFlight(w); got != 3 || len(entries) != 3 {
		t.Errorf("behind the rubbish, %d of 3 in flight were reported", got)
	}
	if got, _ := w.Metric("sentinel_faults"); got < 1000 {
		t.Errorf("%d of 1000 messages were counted as faults", got)
	}
}

func TestGuarantee7AnyFaultAnywhereNeverPanics(t *testing.T) {
	seeds.Try(t, 30, func(t *testing.T, seed uint64) {
		c := newSimulation(seed)
		c.deaths, c.stalls, c.fault, c.rubbish = true, true, errFault, true
		c.run() // a panic of a worker would end the test
	})
}

func TestGuarantee7HostFaultsDoNotBreakTheLimitWhileFailingClosed(t *testing.T) {
	seeds.Try(t, 30, func(t *testing.T, seed uint64) {
		c := newSimulation(seed)
		c.stalls, c.fault = true, errFault
		c.run()
		if worst, at := c.tally.worst(); worst > int64(c.first) {
			t.Errorf("window up to bucket %d admitted %d: %v", at, worst, c)
		}
	})
}

func TestTakeOverWithinTwoSecondsOfTheAggregatorsDeath(t *testing.T) {
	w := newProcess(5, cfg(limit("r", 1000, 1000)))
	w.run(second)
	for range 4 {
		var term uint64
		for _, wk := range w.workers {
			if wk.Aggregates() && !wk.gone {
				wk.gone, term = true, wk.Term()
				break
			}
		}
		if term == 0 {
			t.Fatal("nobody aggregates")
		}
		died := w.Now()
		for w.Now() < died+2*second {
			for _, wk := range w.workers {
				if !wk.gone {
					admit(wk.http, 1, w.Now())
				}
			}
			w.run(tick)
			if n := w.QueueLength(engine.QueueName); n > 200 {
				t.Fatalf("%d messages wait while nobody aggregates", n)
			}
		}
		content, _, err := w.Worker(nil).Get(engine.PageKey("r"))
		if err != nil {
			t.Fatal(err)
		}
		h, err := stat.DecodePageHeader(content)
		if err != nil || h.Term <= term || h.At < w.Now()-100*millisecond {
			t.Errorf("2 s after the death in term %d the page is of %+v, %v; now is %d", term, h, err, w.Now())
		}
		if n := w.QueueLength(engine.QueueName); n > 20 {
			t.Errorf("%d messages wait", n)
		}
	}
}

// An aggregator that thaws anywhere, also between reading a page and writing it, never replaces a page of a later term.
func TestStalledAggregatorNeverReplacesALaterPage(t *testing.T) {
	changes := 0
	seeds.Try(t, 100, func(t *testing.T, seed uint64) {
		c := newSimulation(seed)
		c.stalls, c.first, c.second = true, 50, 50
		c.workers = max(c.workers, 2)
		var last stat.PageHeader
		c.observe = func() {
			content, _, err := c.watched.Get(engine.PageKey("r"))
			if errors.Is(err, host.ErrNotFound) {
				return
			}
			h, err := stat.DecodePageHeader(content)
			if err != nil {
				t.Errorf("a page is malformed: %v", err)
			}
			if h.Term < last.Term {
				t.Errorf("a page of term %d was replaced by one of term %d", last.Term, h.Term)
			}
			if h.Term > last.Term {
				changes++
			}
			last = h
		}
		c.run()
	})
	if seeds.Complete() && changes < 50 {
		t.Errorf("only %d terms were seen in 100 runs: the test tries nothing", changes)
	}
}
