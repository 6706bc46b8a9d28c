package engine_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"sentinel-envoy/internal/seeds"
	"sentinel-envoy/shared/config"
	"sentinel-envoy/shared/engine"
	"sentinel-envoy/shared/outcome"
	"sentinel-envoy/shared/rule"
)

// flowOf is a flow rule on a resource, with its name for an id, whose window does not end.
func flowOf(resource string, threshold float64) rule.Flow {
	r := limit(resource, threshold, 3600_000)
	r.Resource = resource
	return r
}

// wantMetrics compares what is exported.
func (w *process) wantMetrics(t *testing.T, want map[string]uint64) {
	t.Helper()
	w.run(600e6)
	for name, n := range want {
		if got, _ := w.Metric(name); got != n {
			t.Errorf("%s is %d, want %d", name, got, n)
		}
	}
}

// Each resource's limit holds, the entry is counted in each, and what one refuses costs the others nothing.
func TestSeveralResources(t *testing.T) {
	system := rule.System{Target: rule.Target{ID: "s"}, MetricType: rule.SystemInboundQPS, TriggerCount: 1000}
	at := rule.Isolation{Target: rule.Target{ID: "at-once", Resource: "all"}, Threshold: 9}
	w := newProcess(1, &config.Config{ResourceName: "rest", Rules: slices.Concat(list([]rule.Flow{flowOf("all", 10), flowOf("/login", 3)}),
		list([]rule.Isolation{at}), list([]rule.System{system}))})
	f := w.workers[0].http
	enter := func(n int, names ...string) (in []*engine.Entry, by string) {
		last := len(names) - 1
		for range n {
			e := &engine.Entry{}
			if b := f.EnterAll(names[:last], names[last], w.Now(), e); b != nil {
				by = b.Resource + " " + b.Rule
				continue
			}
			in = append(in, e)
		}
		return in, by
	}
	in, by := enter(5, "all", "/login")
	if len(in) != 3 || by != "/login /login" {
		t.Errorf("%d were let in, and %s refuses; want 3", len(in), by)
	}
	more, by := enter(7, "nobody", "all", "rest") // six more may be there at once
	if len(more) != 6 || by != "all at-once" {
		t.Errorf("%d were let in, and %s refuses; want 6", len(more), by)
	}
	for _, e := range append(in, more...) {
		e.Exit(w.Now(), outcome.End{})
		e.Exit(w.Now(), outcome.End{})
	}
	if in, by = enter(3, "all", "nobody"); len(in) != 1 || by != "all all" {
		t.Errorf("%d were let in at last, and %s refuses; want 1", len(in), by)
	}
	if in, _ := enter(1, "nobody", "nothing"); in[0].InFlight() {
		t.Error("it entered what is no resource")
	}
	w.wantMetrics(t, map[string]uint64{
		"sentinel_passed;resource=all": 10, "sentinel_passed;resource=/login": 3, "sentinel_passed;resource=rest": 6,
		"sentinel_completed;resource=all": 9, "sentinel_completed;resource=/login": 3, "sentinel_in_flight;resource=rest": 0, "sentinel_in_flight;resource=all": 1,
		"sentinel_blocked;resource=/login;rule=/login;kind=flow": 2, "sentinel_blocked;resource=all;rule=at-once;kind=isolation": 1, "sentinel_faults": 0,
	})
}

// What is for all resources is asked once, and sees an entry once.
func TestSeveralResourcesAreOneEntryOfTheFilter(t *testing.T) {
	inbound := rule.System{Target: rule.Target{ID: "s"}, MetricType: rule.SystemInboundQPS, TriggerCount: 4}
	limited := flowOf("c", 6) // counts what enters b
	limited.RelationStrategy, limited.RefResource = rule.AssociatedResource, "b"
	w := newProcess(1, &config.Config{Rules: slices.Concat(list([]rule.Flow{flowOf("a", 100), flowOf("b", 100), limited}), list([]rule.System{inbound}))})
	f := w.workers[0].http
	in := 0
	for range 10 {
		var e engine.Entry
		if f.EnterAll([]string{"a", "b"}, "c", w.Now(), &e) == nil {
			in++
		}
	}
	if in != 4 {
		t.Errorf("%d were let in, want 4", in)
	}
	w.run(2000e6)
	for in = 0; in < 10; in++ {
		var e engine.Entry
		if b := f.EnterAll([]string{"a"}, "b", w.Now(), &e); b != nil {
			break
		}
	}
	var e engine.Entry
	w.run(2000e6)
	if b := f.Enter("c", w.Now(), &e); b == nil || b.Seen != 8 {
		t.Errorf("the other resource's rule has seen %+v, want 8", b)
	}
	w.wantMetrics(t, map[string]uint64{"sentinel_faults": 0})
}

// What goes out is neither limited nor counted by system rules, another filter's or the VM's.
func TestOutboundTraffic(t *testing.T) {
	inbound := list([]rule.System{{Target: rule.Target{ID: "s"}, MetricType: rule.SystemInboundQPS, TriggerCount: 2},
		{Target: rule.Target{ID: "t"}, MetricType: rule.SystemAvgRT, TriggerCount: 1000}})
	w := newProcess(1, &config.Config{ResourceName: "r", Rules: inbound})
	wk := w.workers[0]
	out := wk.NewFilter("sentinel_http", &config.Config{ResourceName: "r", Traffic: config.Outbound}, &config.Config{Rules: inbound})
	w.run(tick)
	if n := admit(out, 10, w.Now()); n != 10 {
		t.Errorf("%d of 10 may go out", n)
	}
	if n := admit(wk.http, 10, w.Now()); n != 2 {
		t.Errorf("%d may come in, want 2", n)
	}
	var e engine.Entry
	if out.Enter("r", w.Now(), &e); e.TimeCounts() {
		t.Error("somebody looks at how long it took")
	}
}

// An entry that waits for its turn in one resource goes on with the others, which may still refuse it.
func TestSeveralResourcesWait(t *testing.T) {
	paced := flowOf("all", 10)
	paced.StatIntervalInMs, paced.ControlBehavior, paced.MaxQueueingTimeMs = 1000, rule.Throttling, 10_000
	w := newProcess(1, &config.Config{Rules: list([]rule.Flow{paced, flowOf("b", 2)})})
	f := w.workers[0].http
	passed, refused := 0, 0
	for range 4 {
		var e engine.Entry
		b := f.EnterAll([]string{"all"}, "b", w.Now(), &e)
		if until, waits := e.Waiting(); b == nil && waits {
			w.run(until - w.Now())
			b = e.Resume(w.Now())
		}
		if b == nil {
			passed++
			e.Exit(w.Now(), outcome.End{})
		} else if refused++; b.Rule != "b" {
			t.Errorf("%s refuses", b.Rule)
		}
	}
	var left engine.Entry // leaves while it waits
	f.EnterAll([]string{"all"}, "b", w.Now(), &left)
	left.Exit(w.Now(), outcome.End{})
	if passed != 2 || refused != 2 {
		t.Errorf("%d passed, %d were refused, want 2 and 2", passed, refused)
	}
	w.wantMetrics(t, map[string]uint64{"sentinel_passed;resource=all": 2, "sentinel_passed;resource=b": 2, "sentinel_in_flight;resource=b": 0, "sentinel_faults": 0})
}

// Entries in several resources leave each of them though the rules have changed meanwhile; in shadow mode they pass in all.
func TestSeveralResourcesThroughAnUpdate(t *testing.T) {
	before := &config.Config{Mode: config.Shadow, Rules: list([]rule.Flow{flowOf("a", 100), flowOf("b", 0)})}
	w := newProcess(1, before)
	wk := w.workers[0]
	entries := make([]engine.Entry, 5)
	for i := range entries {
		if b := wk.http.EnterAll([]string{"a"}, "b", w.Now(), &entries[i]); b != nil || entries[i].Spared() == nil {
			t.Fatalf("refused: %+v, spared: %+v", b, entries[i].Spared())
		}
	}
	wk.update(&config.Config{Rules: list([]rule.Flow{flowOf("c", 1)})})
	w.run(100e6)
	for i := range entries {
		entries[i].Exit(w.Now(), outcome.End{})
	}
	w.wantMetrics(t, map[string]uint64{
		"sentinel_passed;resource=a": 5, "sentinel_completed;resource=a": 5, "sentinel_completed;resource=b": 5, "sentinel_in_flight;resource=a": 0,
		"sentinel_in_flight;resource=b": 0, "sentinel_shadow_passed;resource=b": 5, "sentinel_shadow_passed;resource=a": 0, "sentinel_faults": 0,
	})
}

// A permit that is given back can be had by another worker, once a tick has gone by.
func TestWhatIsGivenBackCanBeHadByAll(t *testing.T) {
	w := newProcess(2, &config.Config{Rules: list([]rule.Flow{flowOf("a", 1), flowOf("b", 0)})})
	w.run(tick)
	var e engine.Entry
	if b := w.workers[0].http.EnterAll([]string{"a"}, "b", w.Now(), &e); b == nil || b.Rule != "b" {
		t.Fatalf("refused by %+v", b)
	}
	w.run(2 * tick)
	if b := w.workers[1].http.Enter("a", w.Now(), &e); b != nil {
		t.Errorf("refused by %+v", b)
	}
}

// Whatever the limits, and whichever resources entries are in: no budget is exceeded, none loses what it has refused to no
// purpose, and nobody is refused while all have room.
func TestSeveralResourcesAreExact(t *testing.T) {
	seeds.Try(t, 60, func(t *testing.T, seed uint64) {
		rng := rand.New(rand.NewPCG(seed, 0))
		left, names := map[string]int{}, []string{"a", "b", "c", "d"}
		var rules []rule.Flow
		for _, name := range names {
			left[name] = rng.IntN(40)
			rules = append(rules, flowOf(name, float64(left[name])))
		}
		w := newProcess(1+rng.IntN(3), &config.Config{Rules: list(rules)})
		w.run(tick)
		for n := range 200 {
			in := slices.Clone(names)
			rng.Shuffle(len(in), func(i, j int) { in[i], in[j] = in[j], in[i] })
			in = in[:1+rng.IntN(len(in))]
			want := !slices.ContainsFunc(in, func(name string) bool { return left[name] == 0 })
			var e engine.Entry
			f := w.workers[rng.IntN(len(w.workers))].http
			b := f.EnterAll(in[:len(in)-1], in[len(in)-1], w.Now(), &e)
			if b != nil && want && len(w.workers) > 1 { // another worker may have reserved what is left, for a tick
				w.run(2 * tick)
				b = f.EnterAll(in[:len(in)-1], in[len(in)-1], w.Now(), &e)
			}
			if got := b == nil; got != want {
				t.Fatalf("%d workers: entry %d in %v: let in %v, want %v; left %v, refused by %s", len(w.workers), n, in, got, want, left, fmt.Sprint(b))
			}
			if want {
				for _, name := range in {
					left[name]--
				}
			}
			if rng.IntN(10) == 0 {
				w.run(tick)
			}
		}
	})
}

// Nor do several resources cost an allocation.
func TestSeveralResourcesAllocateNothing(t *testing.T) {
	w := newProcess(1, &config.Config{Rules: slices.Concat(list([]rule.Flow{flowOf("a", 1e9), flowOf("b", 1e9)}),
		list([]rule.System{{Target: rule.Target{ID: "s"}, MetricType: rule.SystemAvgRT, TriggerCount: 1e9}}))})
	f, names := w.workers[0].http, []string{"a"}
	var e engine.Entry
	visit := func() {
		if f.EnterAll(names, "b", w.Now(), &e) == nil {
			e.Exit(w.Now(), outcome.End{})
		}
		if f.Enter("b", w.Now(), &e) == nil {
			e.Exit(w.Now(), outcome.End{})
		}
	}
	for range 1000 {
		visit()
	}
	if n := testing.AllocsPerRun(5000, visit); n > 0 {
		t.Errorf("an entry allocates %v times", n)
	}
}
