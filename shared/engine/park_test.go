package engine_test

import (
	"fmt"
	"strings"
	"testing"

	"sentinel-envoy/shared/config"
	"sentinel-envoy/shared/engine"
	"sentinel-envoy/shared/host"
	"sentinel-envoy/shared/host/memhost"
	"sentinel-envoy/shared/outcome"
	"sentinel-envoy/shared/record"
	"sentinel-envoy/shared/rule"
)

// parsed is a configuration of an HTTP filter with the resources "r" and "other".
func parsed(t *testing.T, rest string) *config.Config {
	t.Helper()
	text := `{"resource_name": "r", "resources": [{"name": "other", "match": {"path": {"exact": "/other"}}}]`
	if rest != "" {
		text += ", " + rest
	}
	c, err := config.Parse([]byte(text+"}"), config.KindHTTP)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// exitWell ends an entry well.
func exitWell(e *engine.Entry, now int64) { e.Exit(now, outcome.End{Outcome: outcome.Well}) }

// A filter that is parked and woken decides as if it had not been: what was spent is spent, what is open is open.
func TestParkedFilterWakesWithItsLimitsExact(t *testing.T) {
	const hour = `"statIntervalInMs": 3600000`
	for name, c := range map[string]struct {
		rules    string
		resource string
		before   int // entries before it is parked
		after    int // entries that may enter after it, of many
	}{
		"flow":      {`"flowRules": [{"id": "a", "resource": "r", "threshold": 10, ` + hour + `}]`, "r", 6, 4},
		"isolation": {`"isolationRules": [{"id": "a", "resource": "r", "threshold": 10}]`, "r", 6, 4},
		"hotspot": {`"hotspotRules": [{"id": "a", "resource": "r", "metricType": "QPS", "threshold": 10, "durationInSec": 3600,
			"paramSource": "Header", "paramKey": "x"}]`, "r", 6, 4},
		"values in flight": {`"hotspotRules": [{"id": "a", "resource": "r", "threshold": 10, "paramSource": "Header",
			"paramKey": "x"}]`, "r", 6, 4},
		"associated": {`"flowRules": [{"id": "a", "resource": "other", "relationStrategy": "AssociatedResource", "refResource": "r",
			"threshold": 7, ` + hour + `}]`, "other", 0, 0},
		"system": {`"systemRules": [{"id": "a", "metricType": "Concurrency", "triggerCount": 10}]`, "r", 6, 4},
	} {
		t.Run(name, func(t *testing.T) {
			w := newProcess(0, nil)
			wk := w.join(nil)
			first := wk.NewFilter("sentinel_http", parsed(t, c.rules), nil)
			another := wk.NewFilter("sentinel_http", parsed(t, ""), nil)
			first.Stream.Of(caller("v"))
			w.run(tick)
			entries := make([]engine.Entry, 200)
			enter := func(f *engine.Filter, resource string, n int) (entered int) {
				for range n {
					if f.Enter(resource, w.Now(), &entries[0]) == nil {
						entered++
					}
					entries = entries[1:]
				}
				return entered
			}
			if got := enter(first, c.resource, c.before); got != c.before {
				t.Fatalf("%d of %d entered", got, c.before)
			}
			first.Park()
			w.run(5 * second)
			enter(another, "r", 7) // what an associated rule counts, of another filter too
			first.Wake(parsed(t, c.rules))
			if got := enter(first, c.resource, 50); got != c.after {
				t.Errorf("%d entered once it was awake, want %d", got, c.after)
			}
			if n := w.faults(); n > 0 {
				t.Errorf("%d faults", n)
			}
		})
	}
}

func TestParkedFilterKeepsItsOpenBreaker(t *testing.T) {
	const text = `"circuitBreakerRules": [{"id": "b", "resource": "r", "strategy": "ErrorCount", "threshold": 3,
		"minRequestAmount": 1, "statIntervalMs": 60000, "retryTimeoutMs": 60000}]`
	w := newProcess(0, nil)
	wk := w.join(nil)
	f := wk.NewFilter("sentinel_http", parsed(t, text), nil)
	w.run(tick)
	for range 3 {
		var e engine.Entry
		if f.Enter("r", w.Now(), &e) != nil {
			t.Fatal("refused")
		}
		e.Exit(w.Now(), outcome.End{Outcome: outcome.Badly})
	}
	w.run(tick)
	f.Park()
	w.run(10 * second)
	f.Wake(parsed(t, text))
	if f.Enter("r", w.Now(), &engine.Entry{}) == nil {
		t.Error("an open breaker let in after its filter was woken")
	}
}

// What a filter counted before it was parked is exported, also when the next tick comes after it, and the entries that are
// in it then end as they would have.
func TestParkingLosesNoCount(t *testing.T) {
	const text = `"flowRules": [{"id": "a", "resource": "r", "threshold": 5, "statIntervalInMs": 3600000}],
		"isolationRules": [{"id": "i", "resource": "r", "threshold": 100}]`
	w := newProcess(0, nil)
	wk := w.join(nil)
	f := wk.NewFilter("sentinel_http", parsed(t, text), nil)
	w.run(second)
	open := make([]engine.Entry, 8)
	for i := range open {
		f.Enter("r", w.Now(), &open[i])
	}
	f.Park()
	if got := wk.Sizes()["checkers"]; got != 2 {
		t.Errorf("%d checkers while entries are in, want 2", got)
	}
	see := func(name string, want uint64) {
		t.Helper()
		if got, _ := w.Metric(name); got != want {
			t.Errorf("%s is %d, want %d", name, got, want)
		}
	}
	see("sentinel_passed;resource=r", 5)
	see("sentinel_blocked;resource=r;rule=a;kind=flow", 3)
	w.run(second)
	see("sentinel_in_flight;resource=r", 5)
	for i := range open {
		exitWell(&open[i], w.Now())
	}
	w.run(2 * second)
	see("sentinel_completed;resource=r", 5)
	see("sentinel_in_flight;resource=r", 0)
	for what, want := range map[string]int{"checkers": 0, "nodes": 0, "records": 0, "metrics of resources": 0, "filters": 1} {
		if got := wk.Sizes()[what]; got != want {
			t.Errorf("%d %s when all have left, want %d", got, what, want)
		}
	}
	hash := wk.RuleHash()
	f.Wake(parsed(t, text))
	if wk.RuleHash() != hash || hash == 0 {
		t.Errorf("the hash was %d while the filter was parked, and is %d", hash, wk.RuleHash())
	}
	f.Drain()
	if n := wk.Sizes()["filters"]; n != 0 || w.faults() != 0 {
		t.Errorf("%d filters, %d faults", n, w.faults())
	}
}

// An update shares what it does not change, and what was superseded costs nothing once it is parked.
func TestUpdateCostsWhatItChanges(t *testing.T) {
	const rules, changed = 200, 3
	generation := func(n int) *config.Config {
		c := &config.Config{}
		for i := range rules {
			r := rule.Flow{Target: rule.Target{ID: fmt.Sprint("f", i), Resource: fmt.Sprint("/", i)}, Threshold: 5, StatIntervalInMs: 1000}
			if i < changed {
				r.Threshold += float64(n)
			}
			c.Rules = append(c.Rules, &r)
		}
		h := rule.Hotspot{Target: rule.Target{ID: "h", Resource: "/0"}, MetricType: rule.HotspotQPS, Threshold: 3, DurationInSec: 1,
			Param: rule.Param{ParamSource: rule.Header, ParamKey: "x"}}
		c.Rules = append(c.Rules, &h)
		return c
	}
	w := newProcess(0, nil)
	wk := w.join(nil)
	filters := []*engine.Filter{wk.NewFilter("sentinel_http", generation(0), nil)}
	for n := 1; n <= 10; n++ {
		filters = append(filters, wk.NewFilter("sentinel_http", generation(n), nil))
		w.run(tick)
		if got, want := wk.Sizes()["checkers"], rules+1+n*changed; got != want {
			t.Errorf("after %d updates %d checkers, want %d", n, got, want)
		}
	}
	records := wk.Records()
	for _, f := range filters[:10] {
		f.Park()
		f.Park() // does nothing
	}
	if got := wk.Sizes()["checkers"]; got != rules+1 {
		t.Errorf("%d checkers once the others are parked, want %d", got, rules+1)
	}
	if got := wk.Records(); got != records {
		t.Errorf("%d records, then %d", records, got)
	}
}

// Workers of one process need not have one configuration: another VM of the same vm_id, or one that drains, has its own.
// Whoever aggregates, the figures of all are there, and every source is asked by a worker that has it.
func TestWorkersWithDifferentConfigurations(t *testing.T) {
	guarded := guard(&config.SystemSource{Cluster: "node", IntervalMs: 1000}, system(rule.SystemLoad, 4))
	guarded.Rules = append(guarded.Rules, list([]rule.System{{Target: rule.Target{ID: "rt"}, MetricType: rule.SystemAvgRT,
		TriggerCount: 1000}})...)
	plain := parsed(t, "")
	for _, first := range []string{"plain", "guarded"} {
		t.Run(first+" aggregates", func(t *testing.T) {
			w := newProcess(0, nil)
			configs := []*config.Config{plain, guarded}
			if first == "guarded" {
				configs = []*config.Config{guarded, plain}
			}
			for range 2 {
				w.join(configs[0])
			}
			w.run(second)
			for range 2 {
				w.join(configs[1]).Configured([]byte("another"))
			}
			var knows []*worker
			for i, wk := range w.workers {
				if (i < 2) == (first == "guarded") {
					knows = append(knows, wk)
				}
			}
			w.run(second)
			f, asked := asker(w)
			if asked != 1 {
				t.Fatalf("%d ask, want 1", asked)
			}
			f.Answered([]byte("node_load1 100\n"), nil, w.Now())
			w.run(tick)
			for i, wk := range knows {
				for range 30 {
					if wk.http.Enter("r", w.Now(), &engine.Entry{}) == nil {
						t.Fatalf("worker %d lets in at a load of 100", i)
					}
				}
			}
			if silent, known := w.Metric(stale); silent != 0 || !known {
				t.Errorf("the source is silent: %d, known: %t", silent, known)
			}
			w.run(4 * second)
			if silent, _ := w.Metric(stale); silent != 1 {
				t.Error("a source that is silent is not told of")
			}
			open := make([]engine.Entry, 3)
			for i := range open {
				knows[1].http.Enter("r", w.Now(), &open[i])
			}
			w.run(second)
			if n, _ := w.Metric("sentinel_in_flight;resource=r"); n != 3 {
				t.Errorf("%d in flight, want 3", n)
			}
			if _, shown := w.Metric("sentinel_in_flight;resource=%00inbound"); shown {
				t.Error("what is no resource is shown")
			}
			if n, _ := w.Metric("sentinel_workers"); n != 2 { // of each VM
				t.Errorf("%d workers", n)
			}
			for i := range open {
				exitWell(&open[i], w.Now())
			}
			w.run(2 * second)
			if n, _ := w.Metric("sentinel_in_flight;resource=r"); n != 0 || w.faults() > 0 {
				t.Errorf("%d in flight at last, %d faults", n, w.faults())
			}
			w.workers[3].gone = true
			w.run(4 * second)
			if n, _ := w.Metric("sentinel_workers"); n != 1 {
				t.Errorf("%d workers, though one has died", n)
			}
		})
	}
}

// Two sources in one VM are two: each filter goes by its own.
func TestEachFilterHasItsOwnSource(t *testing.T) {
	w := newProcess(0, nil)
	wk := w.join(nil)
	a := wk.NewFilter("sentinel_http", guard(&config.SystemSource{Cluster: "a", IntervalMs: 1000}, system(rule.SystemLoad, 4)), nil)
	b := wk.NewFilter("sentinel_tcp", guard(&config.SystemSource{Cluster: "b", IntervalMs: 1000}, system(rule.SystemLoad, 4)), nil)
	w.run(tick)
	for f, load := range map[*engine.Filter]string{a: "9", b: "1"} {
		if _, due := f.AskSource(w.Now()); !due {
			t.Fatal("not asked")
		}
		f.Answered([]byte("node_load1 "+load+"\n"), nil, w.Now())
	}
	w.run(tick)
	if a.Enter("r", w.Now(), &engine.Entry{}) == nil || b.Enter("r", w.Now(), &engine.Entry{}) != nil {
		t.Error("a load of 9 passes, or one of 1 is refused")
	}
	a.Drain()
	w.run(second)
	if silent, _ := w.Metric("sentinel_system_source_stale;resource=a"); silent != 0 {
		t.Error("the gauge of a source that nobody has any more stays")
	}
}

// A worker that has nothing to report lives: its gauge stays, until its slot is given up or found to be lost.
func TestRulesHashOfAnIdleWorkerStays(t *testing.T) {
	w := newProcess(3, parsed(t, ""))
	w.run(second)
	admit(w.workers[2].http, 1, w.Now())
	gauge := func(i int) uint64 {
		n, _ := w.Metric(fmt.Sprint("sentinel_rules_hash;worker=", i))
		return n
	}
	for range 400 {
		w.run(tick)
		if gauge(2) == 0 {
			t.Fatal("the gauge of a worker that lives is 0")
		}
	}
	w.workers[1].gone = true
	w.run(4 * second)
	w.workers[2].http.Drain()
	w.workers[2].tcp.Drain()
	if gauge(0) == 0 || gauge(1) != 0 || gauge(2) != 0 {
		t.Errorf("%d of the one that lives, %d of the dead one, %d of the one that left", gauge(0), gauge(1), gauge(2))
	}
}

// Several filters share a VM: their ticks at once are one, and reports are not sent twice.
func TestTwoTicksAtOnceAreOne(t *testing.T) {
	w := newProcess(1, parsed(t, ""))
	w.run(second)
	before, _ := w.Metric("sentinel_ticks")
	for range 100 {
		w.workers[0].Tick(w.Now())
		w.workers[0].Tick(w.Now() + tick/2)
	}
	w.run(second)
	if after, _ := w.Metric("sentinel_ticks"); after-before != 50 {
		t.Errorf("%d ticks in a second", after-before)
	}
}

// panicking is a request host that panics.
type panicking struct{}

// Property implements request.Host.
func (panicking) Property([]string) (string, bool) { panic("injected") }

// Header implements request.Host.
func (panicking) Header(string) (string, bool) { panic("injected") }

// Lines implements request.Host.
func (panicking) Lines([]string, string) []string { panic("injected") }

// A rule panics between two others: what the first gave is given back, or the last is asked, as the failure mode says.
func TestPanicBetweenTwoRules(t *testing.T) {
	const text = `"failure_mode": %q,
		"isolationRules": [{"id": "first", "resource": "r", "threshold": 2}],
		"hotspotRules": [{"id": "panics", "resource": "r", "metricType": "QPS", "threshold": 1000, "durationInSec": 1,
			"paramSource": "Header", "paramKey": "x"}],
		"circuitBreakerRules": [{"id": "last", "resource": "r", "strategy": "ErrorCount", "threshold": 1, "minRequestAmount": 1,
			"statIntervalMs": 60000, "retryTimeoutMs": 60000}]`
	for _, mode := range []string{"open", "closed"} {
		t.Run(mode, func(t *testing.T) {
			w := newProcess(0, nil)
			wk := w.join(nil)
			f := wk.NewFilter("sentinel_http", parsed(t, fmt.Sprintf(text, mode)), nil)
			w.run(tick)
			f.Stream.Of(panicking{})
			for i := range 10 {
				var e engine.Entry
				f.Stream.Begin()
				b := f.Enter("r", w.Now(), &e)
				if closed := b != nil && b.Reason == engine.Unavailable; closed != (mode == "closed") {
					t.Fatalf("entry %d: %+v", i, b)
				}
				exitWell(&e, w.Now())
			}
			if n := w.faults(); n != 10 {
				t.Errorf("%d faults, want 10", n)
			}
			f.Stream.Of(caller("v"))
			entries := make([]engine.Entry, 3)
			for i := range entries {
				if got := f.Enter("r", w.Now(), &entries[i]) == nil; got != (i < 2) {
					t.Errorf("entry %d of 2: %t", i, got)
				}
			}
			w.run(second)
			if n, _ := w.Metric("sentinel_in_flight;resource=r"); n != 2 {
				t.Errorf("%d in flight, want 2", n)
			}
			if mode == "closed" {
				return
			}
			entries[0].Exit(w.Now(), outcome.End{Outcome: outcome.Badly})
			w.run(tick)
			f.Stream.Of(panicking{})
			if b := f.Enter("r", w.Now(), &engine.Entry{}); b == nil || b.Rule != "last" {
				t.Errorf("the rule after the panic was not asked: %+v", b)
			}
		})
	}
}

// faultyHost panics where a call is about a key with the prefix.
type faultyHost struct {
	*memhost.Worker
	prefix string
}

func (h *faultyHost) Get(key string) ([]byte, uint32, error) {
	if h.prefix != "" && strings.HasPrefix(key, h.prefix) {
		panic("injected")
	}
	return h.Worker.Get(key)
}

func (h *faultyHost) Dequeue(id uint32) ([]byte, error) {
	if h.prefix == "queue" {
		panic("injected")
	}
	return h.Worker.Dequeue(id)
}

var _ host.Host = (*faultyHost)(nil)

// A step of a tick panics: it is a fault, and the other steps are done. Afterwards all is as it should be.
func TestPanicInAStepOfATick(t *testing.T) {
	for _, prefix := range []string{"sentinel/2/worker/", "sentinel/2/aggregator", record.Version + "rec/", record.Version + "dir/",
		"sentinel/2/rates/", "queue"} {
		t.Run(prefix, func(t *testing.T) {
			w := newProcess(0, nil)
			h := &faultyHost{Worker: w.Worker(nil)}
			vm := engine.New(h, "test")
			every, err := config.Parse([]byte(everyFamily), config.KindHTTP)
			if err != nil {
				t.Fatal(err)
			}
			f := vm.NewFilter("sentinel_http", every, nil)
			f.Stream.Of(caller("v"))
			turn := func(n int) {
				for range n {
					w.Advance(tick)
					vm.Tick(w.Now())
					for _, resource := range []string{"reject", "gate", "value", "crowd", "breaker", "related"} {
						var e engine.Entry
						if f.Enter(resource, w.Now(), &e) == nil {
							exitWell(&e, w.Now())
						}
					}
				}
			}
			turn(100)
			if n := vm.Faults(); n > 0 {
				t.Fatalf("%d faults before", n)
			}
			before, _ := w.Metric("sentinel_ticks")
			h.prefix = prefix
			turn(100)
			h.prefix = ""
			if after, _ := w.Metric("sentinel_ticks"); after < before+50 {
				t.Errorf("ticks were not exported meanwhile: %d, then %d", before, after)
			}
			faults := vm.Faults()
			if faults == 0 && prefix != record.Version+"dir/" {
				t.Error("no fault was counted")
			}
			turn(200)
			if n := vm.Faults(); n != faults {
				t.Errorf("%d more faults afterwards", n-faults)
			}
			if live, _ := w.Metric("sentinel_workers"); live != 1 {
				t.Errorf("%d workers", live)
			}
			for _, resource := range []string{"gate", "crowd", "breaker"} {
				if n, _ := w.Metric("sentinel_in_flight;resource=" + resource); n != 0 {
					t.Errorf("%d in flight in %s", n, resource)
				}
			}
		})
	}
}
