package engine_test

import (
	"errors"
	"testing"

	"sentinel-envoy/shared/config"
	"sentinel-envoy/shared/engine"
	"sentinel-envoy/shared/rule"
)

// stale is the gauge of a source at the cluster "node".
const stale = "sentinel_system_source_stale;resource=node"

func guard(source *config.SystemSource, rules ...rule.System) *config.Config {
	return &config.Config{Rules: list(rules), SystemSource: source, Resources: []config.Resource{{Name: "r"}, {Name: "other"}}}
}

func system(metric rule.SystemMetric, trigger float64) rule.System {
	return rule.System{Target: rule.Target{ID: "s"}, MetricType: metric, TriggerCount: trigger, Strategy: rule.NoAdaptive}
}

func TestSystemConcurrencyAndQPSAreExactOverAll(t *testing.T) {
	for _, metric := range []rule.SystemMetric{rule.SystemConcurrency, rule.SystemInboundQPS} {
		w := newProcess(3, guard(nil, system(metric, 10)))
		entered := 0
		for range 8 {
			for _, wk := range w.workers {
				for _, f := range []*engine.Filter{wk.http, wk.tcp} {
					for _, name := range []string{"r", "other"} {
						if f.Enter(name, w.Now(), &engine.Entry{}) == nil {
							entered++
						}
					}
				}
			}
			w.run(tick)
		}
		if entered != 10 {
			t.Errorf("%v: %d entered, want 10", metric, entered)
		}
	}
}

func TestSystemAvgRTIsThatOfAllWorkers(t *testing.T) {
	w := newProcess(2, guard(nil, system(rule.SystemAvgRT, 100)))
	w.run(tick)
	var slow engine.Entry
	if w.workers[0].http.Enter("other", w.Now(), &slow) != nil {
		t.Fatal("refused")
	}
	w.run(200 * millisecond)
	slow.Finish(w.Now(), false)
	w.run(5 * tick)
	var e engine.Entry
	b := w.workers[1].tcp.Enter("r", w.Now(), &e)
	if b == nil || b.Reason != rule.SystemFamily.Name || b.Rule != "s" || b.Seen != 200 || b.Threshold != 100 {
		t.Fatalf("%+v", b)
	}
	w.run(2 * second)
	if b := w.workers[1].tcp.Enter("r", w.Now(), &e); b != nil {
		t.Errorf("two seconds later: %+v", b)
	}
}

// asker is the filter whose turn it is to ask the source.
func asker(w *process) (f *engine.Filter, asked int) {
	for _, wk := range w.workers {
		for _, c := range []*engine.Filter{wk.http, wk.tcp} {
			if source, due := c.AskSource(w.Now()); due {
				f, asked = c, asked+1
				if source.Cluster != "node" {
					panic(source.Cluster)
				}
			}
		}
	}
	return f, asked
}

func TestSystemSource(t *testing.T) {
	source := &config.SystemSource{Cluster: "node", IntervalMs: 1000}
	w := newProcess(3, guard(source, system(rule.SystemLoad, 4)))
	passes := func() bool {
		w.run(tick)
		var e engine.Entry
		ok := w.workers[2].http.Enter("r", w.Now(), &e) == nil
		e.Finish(w.Now(), false)
		return ok
	}
	if !passes() {
		t.Error("refused before the source was asked")
	}
	f, asked := asker(w)
	if asked != 1 {
		t.Fatalf("%d filters ask, want 1", asked)
	}
	f.Answered([]byte("node_load1 4.5\n"), nil, w.Now())
	if passes() {
		t.Error("passed with a load of 4.5 over 4")
	}
	if _, asked := asker(w); asked != 0 {
		t.Error("asked again before the interval was over")
	}
	w.run(second)
	if f, asked = asker(w); asked != 1 {
		t.Fatalf("after the interval %d filters ask", asked)
	}
	faults := w.faults()
	f.Answered(nil, errors.New("no answer"), w.Now())
	if w.faults() != faults+1 {
		t.Error("a failure was not counted")
	}
	if passes() {
		t.Error("passed while the last answer was young enough")
	}
	w.run(3 * second)
	if !passes() {
		t.Error("refused for figures that are too old")
	}
	if silent, _ := w.Metric(stale); silent != 1 {
		t.Errorf("sentinel_system_source_stale is %d", silent)
	}
	f, asked = asker(w)
	if asked != 1 {
		t.Fatalf("%d filters ask", asked)
	}
	f.Answered([]byte("node_load1 5\n"), nil, w.Now())
	if w.run(second); passes() {
		t.Error("passed with a load of 5 over 4")
	}
	if silent, _ := w.Metric(stale); silent != 0 {
		t.Errorf("sentinel_system_source_stale is %d", silent)
	}
}

func (w *process) faults() (n uint64) {
	for _, wk := range w.workers {
		n += wk.Faults()
	}
	return n
}

// A source that never answers is asked again after each interval, by one worker, whoever lives and is in force.
func TestSystemSourceIsAskedAgain(t *testing.T) {
	source := func() *config.SystemSource { return &config.SystemSource{Cluster: "node", IntervalMs: 1000} }
	w := newProcess(2, guard(source(), system(rule.SystemLoad, 4)))
	asks := func(during int64) (n int) {
		for end := w.Now() + during; w.Now() < end; {
			w.run(tick)
			_, asked := asker(w)
			n += asked
		}
		return n
	}
	if n := asks(10 * second); n < 9 || n > 11 {
		t.Errorf("asked %d times in 10 s", n)
	}
	for _, wk := range w.workers {
		var open engine.Entry // keeps the old filter
		wk.http.Enter("r", w.Now(), &open)
		wk.update(guard(source(), system(rule.SystemLoad, 5)))
	}
	if n := asks(10 * second); n < 9 || n > 11 {
		t.Errorf("after an update asked %d times in 10 s", n)
	}
	for _, wk := range w.workers {
		if wk.Aggregates() {
			wk.gone = true
		}
	}
	w.workers = living(w.workers)
	if n := asks(10 * second); n < 9 || n > 11 {
		t.Errorf("after the aggregator's death asked %d times in 10 s", n)
	}
}

func living(all []*worker) (live []*worker) {
	for _, wk := range all {
		if !wk.gone {
			live = append(live, wk)
		}
	}
	return live
}
