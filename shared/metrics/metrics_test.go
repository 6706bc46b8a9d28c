package metrics_test

import (
	"errors"
	"fmt"
	"testing"

	"sentinel-envoy/shared/host/memhost"
	"sentinel-envoy/shared/metrics"
)

// Beyond the bound of names what counters count is told of all others together, and a gauge, which could tell nothing of
// them, is not set.
func TestBeyondTheBoundOfNames(t *testing.T) {
	const each = metrics.MaxNames
	p := memhost.NewProcess(0)
	m := metrics.New(p.Worker(nil), func(what string, err error) { t.Errorf("%s: %v", what, err) })
	m.Unbounded()
	for i := range each {
		resource := metrics.Resource(fmt.Sprint("/path/", i))
		m.Export(&metrics.Counter{Name: "sentinel_passed" + resource, N: 3}, 0)
		m.Gauge("sentinel_in_flight"+resource, uint64(i), 0)
		m.Gauge("sentinel_in_flight"+resource, uint64(i)+7, 0)
	}
	counters, gauges := 0, 0
	for i := range each {
		resource := metrics.Resource(fmt.Sprint("/path/", i))
		if v, ok := p.Metric("sentinel_passed" + resource); ok {
			if counters++; v != 3 {
				t.Errorf("%s counts %d", resource, v)
			}
		}
		if v, ok := p.Metric("sentinel_in_flight" + resource); ok {
			if gauges++; v != uint64(i)+7 {
				t.Errorf("%s stands at %d", resource, v)
			}
		}
	}
	if counters == each || gauges == each || counters+gauges > metrics.MaxNames {
		t.Errorf("%d counters and %d gauges of %d each have a name", counters, gauges, each)
	}
	if other, _ := p.Metric("sentinel_passed;resource=(other)"); other != 3*uint64(each-counters) {
		t.Errorf("%d without a name count %d together", each-counters, other)
	}
	if v, there := p.Metric("sentinel_in_flight;resource=(other)"); there {
		t.Errorf("a gauge of everything else stands at %d", v)
	}
	m.Gauge("sentinel_rules_hash;worker=3", 7, 0)
	if v, _ := p.Metric("sentinel_rules_hash;worker=3"); v != 7 {
		t.Error("what a worker tells of itself has no name")
	}
	if got := p.MetricNames(); got > metrics.MaxNames+2 {
		t.Errorf("%d metrics", got)
	}
}

// A gauge that is shown to be as it was is set again once a second, since another worker may have set it; any other value at once.
func TestShow(t *testing.T) {
	p := memhost.NewProcess(0)
	m := metrics.New(p.Worker(nil), func(what string, err error) { t.Errorf("%s: %v", what, err) })
	g, others := metrics.Gauge{Name: "sentinel_pass_qps"}, metrics.Gauge{Name: "sentinel_pass_qps"}
	for _, c := range []struct{ ms, shown, others, want uint64 }{
		{1, 7, 0, 7},
		{500, 7, 3, 3},
		{999, 7, 0, 3},
		{1001, 7, 3, 3},
		{1002, 7, 0, 3},
		{1003, 8, 0, 8},
		{2003, 8, 2, 2},
		{2004, 8, 0, 2},
		{3010, 8, 0, 8},
	} {
		m.Show(&g, c.shown, int64(c.ms)*1e6)
		if c.others > 0 {
			m.Set(&others, c.others, int64(c.ms)*1e6)
		}
		if got, _ := p.Metric(g.Name); got != c.want {
			t.Errorf("at %d ms it stands at %d, want %d", c.ms, got, c.want)
		}
	}
}

// A fault of the host does not take a metric its name for ever.
func TestNamesAreThereAfterAFault(t *testing.T) {
	w := memhost.NewProcess(0).Worker(nil)
	faults := 0
	m := metrics.New(w, func(string, error) { faults++ })
	m.Unbounded()
	c := metrics.Counter{Name: "sentinel_passed;resource=a", N: 1}
	w.Fail(errors.New("no host"))
	m.Export(&c, 0)
	if w.Fail(nil); faults != 1 || m.Len() != 0 {
		t.Fatalf("%d faults, %d names", faults, m.Len())
	}
	m.Export(&c, 0)
	if faults != 1 || m.Len() != 1 {
		t.Errorf("%d faults, %d names", faults, m.Len())
	}
}
