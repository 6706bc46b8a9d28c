package engine_test

import (
	"testing"

	"sentinel-envoy/shared/config"
	"sentinel-envoy/shared/engine"
	"sentinel-envoy/shared/host"
	"sentinel-envoy/shared/host/memhost"
	"sentinel-envoy/shared/rule"
)

// newMemoryProcess has rules on the resource "r" in a process whose source is asked once a second.
func newMemoryProcess(workers int, rules ...rule.Flow) *process {
	c := cfg(rules...)
	c.SystemSource = &config.SystemSource{Cluster: "node", IntervalMs: 1000}
	w := newProcess(workers, c)
	w.run(tick)
	return w
}

// use lets the source answer, and all workers see it.
func (w *process) use(bytes int64) {
	w.workers[0].http.Answered(inUse(bytes), nil, w.Now())
	w.run(tick)
}

// admitAll is what all filters of all workers let in when each asks 50 times at once, and why the last was refused.
func admitAll(w *process) (admitted int, last *engine.Block) {
	for _, wk := range w.workers {
		for _, f := range []*engine.Filter{wk.http, wk.tcp} {
			for range 50 {
				var e engine.Entry
				if last = f.Enter("r", w.Now(), &e); last == nil {
					admitted++
					e.Finish(w.Now(), false)
				}
			}
		}
	}
	return admitted, last
}

func TestLimitFollowsMemory(t *testing.T) {
	w := newMemoryProcess(3, byMemory(limit("m", 0, 1000), 100, 20))
	check := func(when string, want int) {
		t.Helper()
		w.run(500*millisecond - w.Now()%(500*millisecond)) // to the beginning of a bucket
		admitted, last := admitAll(w)
		if admitted != want || last == nil || last.Rule != "m" || last.Threshold != float64(want) {
			t.Errorf("%s: %d admitted, then %+v, want %d", when, admitted, last, want)
		}
		w.run(second)
	}
	check("before the first answer", 20)
	for _, c := range []struct{ bytes, want int64 }{{0, 100}, {1000, 100}, {1250, 80}, {1500, 60}, {2000, 20}, {900_000, 20}, {1000, 100}} {
		w.use(c.bytes)
		check("in use", int(c.want))
	}
	w.run(3 * second)
	check("when the answer is too old", 20)
	if silent, _ := w.Metric(stale); silent != 1 {
		t.Errorf("sentinel_system_source_stale is %d", silent)
	}
	w.use(1000)
	check("after another answer", 100)
	w.workers[0].http.Answered([]byte("node_load1 1\n"), nil, w.Now())
	w.run(tick)
	check("when the answer does not say", 20)
}

// Permits that a worker has reserved under a larger threshold are not spent under a smaller one, also those that are so
// few of the larger that they are not given back in the next tick.
func TestMemoryRunsOutWithinAWindow(t *testing.T) {
	w := newMemoryProcess(3, byMemory(limit("m", 0, 10_000), 10_000_000, 1))
	w.use(1000)
	for _, wk := range w.workers {
		if admit(wk.http, 1, w.Now()) != 1 {
			t.Fatal("refused while memory is free")
		}
	}
	w.use(2000)
	if n, last := admitAll(w); n > 0 || last.Threshold != 1 {
		t.Errorf("%d more admitted, then %+v", n, last)
	}
	w.use(1000)
	if n, _ := admitAll(w); n == 0 {
		t.Error("none admitted although memory is free again")
	}
}

func TestPaceFollowsMemory(t *testing.T) {
	r := byMemory(throttled("m", 0, 10_000), 100, 20)
	w := newMemoryProcess(2, r)
	for _, c := range []struct{ bytes, gap int64 }{{2000, 50}, {1000, 10}, {1750, 25}} {
		w.use(c.bytes)
		_, _, blocked := enter(t, w.workers[0].http, "r", w.Now())
		if blocked != nil {
			t.Fatal("the first has to wait for too long")
		}
		_, until, _ := enter(t, w.workers[1].tcp, "r", w.Now())
		if wait := (until - w.Now()) / millisecond; wait != c.gap {
			t.Errorf("%d bytes in use: the next waits %d ms, want %d", c.bytes, wait, c.gap)
		}
		w.run(second)
	}
}

// figureReads counts how often a worker reads what was last written: the figures of the machine.
type figureReads struct {
	host.Host
	key string
	n   int
}

func (h *figureReads) Get(key string) ([]byte, uint32, error) {
	if key == h.key {
		h.n++
	}
	return h.Host.Get(key)
}

func (h *figureReads) Set(key string, value []byte, cas uint32) error {
	h.key = key
	return h.Host.Set(key, value, cas)
}

func TestMemoryIsReadOnceATick(t *testing.T) {
	p := memhost.NewProcess(start)
	reads := &figureReads{Host: p.Worker(nil)}
	vm := engine.New(reads, "test")
	c := cfg(byMemory(limit("a", 0, 1000), 100, 20), byMemory(limit("b", 0, 1000), 100, 20))
	c.SystemSource = &config.SystemSource{Cluster: "node", IntervalMs: 1000}
	f := vm.NewFilter("sentinel_http", c, nil)
	p.Advance(tick)
	vm.Tick(p.Now())
	f.Answered(inUse(1500), nil, p.Now())
	vm.Tick(p.Now() + tick)
	f.Answered(inUse(1500), nil, p.Now())
	figures := reads.key
	reads.n = 0
	for range 3 {
		admit(f, 50, p.Now())
		reads.key = figures
	}
	if reads.n != 1 {
		t.Errorf("read %d times", reads.n)
	}
}
