package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"sentinel-envoy/internal/envoytest"
	"sentinel-envoy/internal/load"
)

func TestLatencyRowsCompareWithinARound(t *testing.T) {
	at := func(p50, p99 time.Duration, behind, unsent uint64) load.Summary {
		s := load.Summary{Latency: load.Latency{P50: p50 * time.Microsecond, P99: p99 * time.Microsecond}, Unsent: unsent}
		s.Sent, s.Behind = 100-unsent, behind
		return s
	}
	rows := latencyRows([]string{unfiltered, sentinel}, [][]load.Summary{
		{at(100, 200, 0, 0), at(110, 250, 0, 0)},
		{at(300, 900, 0, 0), at(312, 930, 10, 5)}, // the machine is slower
		{at(100, 200, 0, 0), at(108, 240, 0, 0)},
	})
	if got := rows[0]; got.p50.Median != 100 || got.p99.Median != 200 || got.late != 0 {
		t.Errorf("no filter: %+v", got)
	}
	if got := rows[1]; got.p50 != (summary{10, 8, 12, 3}) || got.p99 != (summary{40, 30, 50, 3}) || got.late != 0.05 {
		t.Errorf("sentinel: %+v", got)
	}
	rows[1].capacity = 12345
	var text strings.Builder
	if err := writeLatency(&text, rows, 2000, 3, time.Second); err != nil {
		t.Fatal(err)
	}
	if line := "| sentinel, 1 rule | 12345 | 10 (8 … 12) | 40 (30 … 50) | 5.0 % |\n"; !strings.Contains(text.String(), line) {
		t.Errorf("no line %q in\n%s", line, text.String())
	}
}

func TestCalmerRoundsAreKeptWhole(t *testing.T) {
	round := func(first, second time.Duration) []load.Summary {
		return []load.Summary{{Latency: load.Latency{P99: first}}, {Latency: load.Latency{P99: second}}}
	}
	got := calmest([][]load.Summary{round(90, 10), round(20, 20), round(10, 15)}, slowness)
	if len(got) != 2 || got[0][0].P99 != 10 || got[1][1].P99 != 20 {
		t.Errorf("got %v", got)
	}
}

func TestLatencyListenersAllForward(t *testing.T) {
	variants := latencyVariants([]module{{empty, "e.wasm"}, {sentinel, "s.wasm"}}, true)
	var names []string
	for _, v := range variants {
		names = append(names, v.name)
	}
	if want := []string{unfiltered, native, empty, sentinel, service, clustered}; !slices.Equal(names, want) {
		t.Errorf("got %q, want %q", names, want)
	}
	listeners, err := latencyListeners(variants, "127.0.0.1:1234")
	if err != nil {
		t.Fatal(err)
	}
	if got := len(listeners); got != 1+6+3 { // three have a control
		t.Errorf("%d listeners", got)
	}
	for i, l := range listeners {
		h := l.(envoytest.HTTP)
		if answers := len(h.Routes) > 0; answers != (i == 0) || !answers && h.Upstream != "127.0.0.1:1234" {
			t.Errorf("%s: routes %v, upstream %q", h.Name, h.Routes, h.Upstream)
		}
	}
}
