package engine_test

import (
	"slices"
	"testing"

	"sentinel-envoy/shared/config"
	"sentinel-envoy/shared/engine"
	"sentinel-envoy/shared/rule"
)

// guarded are configurations with a rule of each kind, far from its threshold, on the resource "r".
var guarded = []struct {
	name string
	cfg  config.Config
}{
	{"flow", config.Config{Rules: list([]rule.Flow{limit("f", 1e9, 1000)})}},
	{"isolation", config.Config{Rules: list([]rule.Isolation{{Target: rule.Target{ID: "i", Resource: "r"}, Threshold: 1e6}})}},
	{"breaker", config.Config{Rules: list([]rule.CircuitBreaker{errorRatio})}},
	{"hotspot", config.Config{Rules: list([]rule.Hotspot{perHost})}},
	{"hotspot of several parameters", config.Config{Rules: list([]rule.Hotspot{perHostAndPath})}},
	{"all", config.Config{
		Rules: slices.Concat(list([]rule.Flow{limit("f", 1e9, 1000)}),
			list([]rule.Isolation{{Target: rule.Target{ID: "i", Resource: "r"}, Threshold: 1e6}}), list([]rule.CircuitBreaker{errorRatio}),
			list([]rule.Hotspot{perHost}),
			list([]rule.System{{Target: rule.Target{ID: "s"}, MetricType: rule.SystemInboundQPS, TriggerCount: 1e9}})),
	}},
}

var (
	errorRatio = rule.CircuitBreaker{
		Target: rule.Target{ID: "b", Resource: "r"}, Strategy: rule.ErrorRatio, Threshold: 0.5, MinRequestAmount: 10, RetryTimeoutMs: 1000,
		StatIntervalMs: 1000, StatSlidingWindowBucketCount: 1,
	}
	perHostAndPath = rule.Hotspot{
		Target: rule.Target{ID: "h", Resource: "r"}, MetricType: rule.HotspotQPS, Threshold: 1, DurationInSec: 1,
		Params:        []rule.Param{{ParamSource: rule.Host}, {ParamSource: rule.PathSegment}},
		SpecificItems: []rule.SpecificItem{{Pattern: rule.PatternSuffix, ValStr: ".org", Threshold: 1e8, Shared: true}},
	}
	perHost = rule.Hotspot{Target: rule.Target{ID: "h", Resource: "r"}, MetricType: rule.HotspotQPS, Param: rule.Param{ParamSource: rule.Host}, Threshold: 1e8, DurationInSec: 1}
)

// oneHost is a client that always asks for the same host.
type oneHost struct{}

func (oneHost) Header(string) (string, bool)     { return "example.org", true }
func (oneHost) Property([]string) (string, bool) { return "", false }

func (oneHost) Lines(dst []string, _ string) []string { return dst }

// visits returns a function that lets one entry into a worker's resource and out of it again, 100 µs after the last, with
// the ticks that are due.
func visits(tb testing.TB, c config.Config) func() {
	w := newProcess(1, &c)
	f, now := w.workers[0].http, start
	f.Stream.Of(oneHost{})
	var e engine.Entry
	return func() {
		if now += 100_000; now%tick < 100_000 {
			w.Advance(now - w.Now())
			w.workers[0].Tick(now)
		}
		f.Stream.Begin()
		if b := f.Enter("r", now, &e); b != nil {
			tb.Fatal("refused by ", b.Rule)
		}
		e.Finish(now+10_000, false)
	}
}

// TestEntriesAllocateNothing: what a request allocates, the garbage collector has to find again.
func TestEntriesAllocateNothing(t *testing.T) {
	for _, c := range guarded {
		t.Run(c.name, func(t *testing.T) {
			visit := visits(t, c.cfg)
			for range 10_000 {
				visit() // what grows, grows
			}
			// Ticks and reservations allocate; there is one for many entries.
			if n := testing.AllocsPerRun(20_000, visit); n > 0 {
				t.Errorf("an entry allocates %v times", n)
			}
		})
	}
}

// refusing are configurations whose rule refuses all but a first entry on the resource "r", which stays in it.
var refusing = []struct {
	name string
	cfg  config.Config
}{
	{"flow", config.Config{Rules: list([]rule.Flow{limit("f", 1, 600_000)})}},
	{"isolation", config.Config{Rules: list([]rule.Isolation{{Target: rule.Target{ID: "i", Resource: "r"}, Threshold: 1}})}},
	{"hotspot", config.Config{Rules: list([]rule.Hotspot{{
		Target: rule.Target{ID: "h", Resource: "r"}, MetricType: rule.HotspotQPS, Param: rule.Param{ParamSource: rule.Host}, Threshold: 1, DurationInSec: 600,
	}})}},
	{"system", config.Config{Rules: slices.Concat(list([]rule.Flow{limit("f", 1e9, 1000)}),
		list([]rule.System{{Target: rule.Target{ID: "s"}, MetricType: rule.SystemInboundQPS}}))}},
	{"breaker", config.Config{Rules: list([]rule.CircuitBreaker{{
		Target: rule.Target{ID: "b", Resource: "r"}, Strategy: rule.ErrorCount, Threshold: 1, MinRequestAmount: 1, RetryTimeoutMs: 600_000,
		StatIntervalMs: 1000, StatSlidingWindowBucketCount: 1,
	}})}},
}

// TestRefusalsAllocateNothing: when most requests are refused is when a limiter must be light. A hotspot rule reads its value's
// page for each refusal, so the page's key, and what the host in memory takes for a call, are allocated.
func TestRefusalsAllocateNothing(t *testing.T) {
	for _, c := range refusing {
		t.Run(c.name, func(t *testing.T) {
			w := newProcess(1, &c.cfg)
			f, now := w.workers[0].http, start
			f.Stream.Of(oneHost{})
			var e engine.Entry
			var text []byte
			var why engine.Explanation
			refused := func() bool {
				if now += 10_000; now%tick < 10_000 {
					w.Advance(now - w.Now())
					w.workers[0].Tick(now)
				}
				f.Stream.Begin()
				b := f.Enter("r", now, &e)
				if b == nil {
					return false
				}
				f.ExplainIn(&why, b, now)
				text = b.AppendFigure(why.AppendText(text[:0]))
				return true
			}
			for range 10_000 { // what grows, grows
				if !refused() && c.name == "breaker" {
					e.Finish(now, true)
				}
			}
			if n := testing.AllocsPerRun(20_000, func() {
				if !refused() {
					t.Fatal("it enters")
				}
			}); n > 0 {
				t.Errorf("a refusal allocates %v times", n)
			}
		})
	}
}

// BenchmarkEntry is also what plugins/default.pgo was measured with; see `make pgo`.
func BenchmarkEntry(b *testing.B) {
	for _, c := range guarded {
		b.Run(c.name, func(b *testing.B) {
			visit := visits(b, c.cfg)
			b.ReportAllocs()
			for b.Loop() {
				visit()
			}
		})
	}
}
