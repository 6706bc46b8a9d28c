package main

import (
	"maps"
	"os"
	"regexp"
	"testing"
)

// sample are stacks of a real profile, one of each sort.
func sample(t *testing.T) []byte {
	t.Helper()
	text, err := os.ReadFile("testdata/perf.txt")
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestAttribute(t *testing.T) {
	p, err := attribute(sample(t))
	if err != nil {
		t.Fatal(err)
	}
	const headers, tick = "on_request_headers", "on_tick"
	want := map[site]int{
		{kind: outsideOS}:    1,
		{kind: outsideEnvoy}: 1,
		{kind: outsideLibc}:  1,

		{headers, ours, "engine.(*Entry).admit"}: 2,
		// The memory for what a host call gives is the plugin's to find: this is the guest's time again.
		{headers, ours, "envoyhost.allocate"}:                    1,
		{headers, machinery, "kernel"}:                           1,
		{"on_log", hostCall, "envoyhost.clockTimeGet"}:           1,
		{"on_log", hostCall, "envoyhost.proxyGetProperty"}:       1,
		{tick, hostCall, "envoyhost.proxyGetLogLevel"}:           1,
		{tick, allocation, "runtime.mallocgc"}:                   2,
		{tick, mapAccess, "runtime.mapaccess1_fast64"}:           1,
		{tick, sentinelGo, "base.(*SlidingWindowMetric).GetSum"}: 1,
		{tick, sdk, "internal.proxyOnTick"}:                      1,
		{tick, machinery, "V8, unnamed"}:                         1,
	}
	// The entry wrapper is running, and the callback not yet there.
	want[site{kind: outsideEnvoy}]++
	if !maps.Equal(p.at, want) {
		t.Errorf("got\n%v, want\n%v", p.at, want)
	}
	if p.samples != 17 || p.cut != 1 {
		t.Errorf("%d samples, %d cut, want 17, 1", p.samples, p.cut)
	}
}

func TestHeadersAreNotNeeded(t *testing.T) {
	text := sample(t)
	with, err := attribute(text)
	if err != nil {
		t.Fatal(err)
	}
	bare := regexp.MustCompile(`(?m)^\S.*$`).ReplaceAll(text, nil)
	if without, err := attribute(bare); err != nil || !maps.Equal(without.at, with.at) {
		t.Errorf("without header lines: %v, %v, want %v", without.at, err, with.at)
	}
}

func TestAttributeFailsWithoutCallbacks(t *testing.T) {
	for _, text := range []string{"", "envoy 1/1 1.0: cpu-clock:\n\t 1a2b [unknown] (/tmp/envoy)\n\n"} {
		if _, err := attribute([]byte(text)); err == nil {
			t.Errorf("%q: no error", text)
		}
	}
}
