//go:build !wasip1

package vm_test

import (
	"fmt"
	"testing"
	"time"

	"sentinel-envoy/plugins/vm/vmtest"
	"sentinel-envoy/shared/config"
	"sentinel-envoy/shared/engine"
	"sentinel-envoy/shared/outcome"
)

// period is how often the plugin has its tick, in milliseconds.
func period(p *vmtest.Plugin) uint32 { return p.TickPeriods[len(p.TickPeriods)-1] }

// toRest is after how long without streams a VM rests.
const toRest = 7 * time.Second

// neighbour is another worker of the process, which has a filter of the same configuration and ticks when it is told to.
func neighbour(t *testing.T, e *vmtest.Envoy, configuration string) (*engine.VM, *engine.Filter) {
	t.Helper()
	c, err := config.Parse([]byte(configuration), config.KindHTTP)
	if err != nil {
		t.Fatal(err)
	}
	w := engine.New(e.Process.Worker(nil), "neighbour")
	return w, w.NewFilter("sentinel_http", c, nil)
}

// A VM without streams rests and is still counted as alive, by those that look at its slot and by those that look at its
// ticks; any stream, and an update, ends that at once.
func TestVMRests(t *testing.T) {
	var made []*scripted
	e := vmtest.Start(t, kinds(&made, nil), "")
	p := e.Plugin("sentinel_http", hourly(100, 1))
	for _, begin := range []func(){
		func() { pass(p) },
		func() { e.NamedPlugin("other", "sentinel_http", hourly(100, 2)) },
	} {
		e.Run(toRest)
		if got := period(p); got < 400 {
			t.Fatalf("at rest it ticks every %d ms", got)
		}
		before, _ := e.Metric("sentinel_ticks")
		e.Run(8 * time.Second)
		after, _ := e.Metric("sentinel_ticks")
		if grown := after - before; grown < 350 || grown > 400 {
			t.Errorf("in 8 s sentinel_ticks grows by %d", grown)
		}
		if begin(); period(p) != engine.TickMs {
			t.Errorf("with something to do it ticks every %d ms", period(p))
		}
		e.Run(time.Second)
	}
	pass(p)
	e.Metrics(map[string]uint64{"sentinel_passed;resource=web": 2, "sentinel_workers": 1, "sentinel_workers_lost": 0})
	e.Faults()
}

// A VM at rest mostly says no more than that it lives: what else a tick does, it does in one of four, or of two where it is not
// the aggregator.
func TestVMAtRestAsksForLittle(t *testing.T) {
	var made []*scripted
	e := vmtest.Start(t, kinds(&made, nil), "")
	p := e.Plugin("sentinel_http", hourly(100, 1))
	pass(p)
	e.Run(toRest + time.Minute) // by then the records are counted
	clear(e.Counts)
	e.Run(8 * time.Second)
	if sets, metrics := e.Counts["set"], e.Counts["record"]+e.Counts["add"]; sets < 30 || sets > 50 || metrics > 40 {
		t.Errorf("in 8 s it writes %d times to shared data and sets metrics %d times", sets, metrics)
	}
	if gets := e.Counts["get"] + e.Counts["get bytes"]; gets > 400 {
		t.Errorf("in 8 s it reads %d shared values", gets)
	}
	e.Faults()
}

// While a stream lives, be it silent for long, the VM does not rest: what the stream holds has to be renewed.
func TestVMWithAStreamDoesNotRest(t *testing.T) {
	var made []*scripted
	e := vmtest.Start(t, kinds(&made, nil), "")
	p := e.Plugin("sentinel_http", hourly(100, 1))
	s := p.Stream()
	s.RequestHeaders()
	e.Run(2 * toRest)
	if period(p) != engine.TickMs {
		t.Errorf("with a stream it ticks every %d ms", period(p))
	}
	s.End()
	if e.Run(toRest); period(p) == engine.TickMs {
		t.Error("without it it does not rest")
	}
	e.Faults()
}

// What others did while a VM was at rest counts for its first request: a limit that they used up, a breaker that they opened.
func TestFirstRequestAfterARest(t *testing.T) {
	for name, configuration := range map[string]string{
		"flow":      hourly(3, 1),
		"isolation": `{"resource_name": "web", "isolationRules": [{"id": "a", "resource": "web", "threshold": 3}]}`,
		"breaker": `{"resource_name": "web", "circuitBreakerRules": [{"id": "a", "resource": "web", "strategy": "ErrorCount",
			"threshold": 2, "minRequestAmount": 1, "retryTimeoutMs": 60000, "statIntervalMs": 10000}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			var made []*scripted
			e := vmtest.Start(t, kinds(&made, nil), "")
			p := e.Plugin("sentinel_http", configuration)
			if !pass(p) {
				t.Fatal("the first request is refused")
			}
			e.Run(toRest)
			other, filter := neighbour(t, e, configuration)
			other.Tick(e.Now())
			entries := make([]engine.Entry, 3)
			for i := range entries {
				filter.Enter("web", e.Now(), &entries[i])
				if name == "breaker" {
					entries[i].Exit(e.Now(), outcome.End{Outcome: outcome.Badly})
				}
			}
			e.Advance(engine.TickMs * 1e6)
			other.Tick(e.Now())
			if period(p) == engine.TickMs {
				t.Fatal("it does not rest")
			}
			if pass(p) {
				t.Error("the first request after the rest passes")
			}
			e.Faults()
		})
	}
}

// An aggregator at rest publishes a message's counts at once, and goes on at its pace.
func TestMessageRousesTheAggregator(t *testing.T) {
	var made []*scripted
	e := vmtest.Start(t, kinds(&made, nil), "")
	p := e.Plugin("sentinel_http", hourly(100, 1))
	e.Run(toRest)
	other, filter := neighbour(t, e, hourly(100, 1))
	var entry engine.Entry
	filter.Enter("web", e.Now(), &entry)
	e.Advance(engine.TickMs * 1e6)
	other.Tick(e.Now())
	if n := e.QueueLength("sentinel/2/reports"); n != 1 {
		t.Fatalf("%d messages", n)
	}
	if p.QueueReady(); e.QueueLength("sentinel/2/reports") != 0 || period(p) != engine.TickMs {
		t.Errorf("after a message %d are there, and it ticks every %d ms", e.QueueLength("sentinel/2/reports"), period(p))
	}
	e.Faults()
}

// A source of the machine's figures is asked as often as its interval says, also at rest.
func TestSourceIsAskedAtRest(t *testing.T) {
	var made []*scripted
	e := vmtest.Start(t, kinds(&made, nil), "")
	for _, intervalMs := range []int{100, 1000} {
		e.NamedPlugin(fmt.Sprint(intervalMs), "sentinel_http", fmt.Sprintf(`{"resource_name": "web", "system_source": {"cluster": "n",
			"path": "/%d", "interval_ms": %d}}`, intervalMs, intervalMs))
	}
	e.Run(toRest)
	before := len(e.Calls)
	e.Run(10 * time.Second)
	asked := map[string]int{}
	for _, c := range e.Calls[before:] {
		asked[c.Headers[1][1]]++
	}
	if asked["/100"] < 60 || asked["/1000"] < 8 {
		t.Errorf("in 10 s asked %v", asked)
	}
	e.Faults()
}
