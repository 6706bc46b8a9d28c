package main

import (
	"strings"
	"testing"
	"time"
)

func TestReport(t *testing.T) {
	r := report{
		Rules: "flow",
		Load:  offered{Requests: 1000, Statuses: map[string]uint64{"200": 998, "429": 2}, CPU: 50 * time.Millisecond, Elapsed: 2 * time.Second},
		profile: profile{samples: 100, cut: 20, at: map[site]int{
			{kind: outsideEnvoy}:                           40,
			{kind: outsideOS}:                              20,
			{"on_log", ours, "http.(*stream).OnEnd"}:       4,
			{"on_log", hostCall, "envoyhost.clockTimeGet"}: 6,
			{"on_request_headers", ours, "engine.f"}:       8,
			{"on_request_headers", mapAccess, "runtime.m"}: 2,
			{"on_tick", allocation, "runtime.mallocgc"}:    14,
			{"on_tick", hostCall, "envoyhost.sharedData"}:  5,
			{"on_tick", ours, "engine.f"}:                  1,
		}},
	}
	const want = "Rules `flow`, 1 worker: 1000 requests in 2.0 s (answers: 998 × 200, 2 × 429), 50.0 µs of CPU per request; 100 samples.\n" +
		`Host calls are what runs below a call that the plugin makes; guest is the rest of a callback. 20 % of the stacks
do not reach back to the start of their thread, mostly for libc's system calls: what is cut off does not count.

| callback, µs per request | all | guest | host calls | our code | sentinel-golang | SDK | allocation, GC | maps | other Go | V8, kernel |
|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|
| on_log | 5.00 | 2.00 | 3.00 | 2.00 | – | – | – | – | – | – |
| on_request_headers | 5.00 | 5.00 | – | 4.00 | – | – | – | 1.00 | – | – |
| all of them | 10.00 | 7.00 | 3.00 | 6.00 | – | – | – | 1.00 | – | – |

| callback, ms per second | all | guest | host calls | our code | sentinel-golang | SDK | allocation, GC | maps | other Go | V8, kernel |
|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|
| on_tick | 5.00 | 3.75 | 1.25 | 0.25 | – | – | 3.50 | – | – | – |

| outside of callbacks | µs per request |
|---|---:|
| Envoy | 20.00 |
| libc | – |
| kernel | 10.00 |

` + "| host call, by its caller | µs per request | ticks: ms per second |\n|---|---:|---:|\n" +
		"| `envoyhost.clockTimeGet` | 3.00 | – |\n| `envoyhost.sharedData` | – | 1.25 |\n\n" +
		"| guest function, by its own time | µs per request | ticks: ms per second |\n|---|---:|---:|\n" +
		"| `runtime.mallocgc` | – | 3.50 |\n| `engine.f` | 4.00 | 0.25 |\n" +
		"| `http.(*stream).OnEnd` | 2.00 | – |\n| `runtime.m` | 1.00 | – |\n"
	var b strings.Builder
	if err := r.writeMarkdown(&b); err != nil {
		t.Fatal(err)
	}
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}
