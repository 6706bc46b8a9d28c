package e2e

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"sentinel-envoy/internal/envoytest"
)

// TestMemoryAdaptive adds to the system example a flow rule whose threshold falls from 10000 to 4 while the memory of the
// machine fills.
func TestMemoryAdaptive(t *testing.T) {
	web, machine := startOccupied(t), startNode(t)
	machine.be(1, 0.1)
	serve := machine.serve(t)
	rule := fmt.Sprintf(`flowRules: [{id: by-memory, resource: web, tokenCalculateStrategy: MemoryAdaptive, statIntervalInMs: %d,
                                    lowMemUsageThreshold: 10000, highMemUsageThreshold: 4,
                                    memLowWaterMarkBytes: 2000000000, memHighWaterMarkBytes: 6000000000}]`, forever)
	e := example(t, "system.yaml", web.addr, func(bootstrap []byte) []byte {
		indent := "\n" + strings.Repeat(" ", column(bootstrap, "systemRules:"))
		return bytes.Replace(serve(bootstrap), []byte("systemRules:"), []byte(rule+indent+"systemRules:"), 1)
	})
	refusedAt := func(threshold string) bool {
		r := e.Get("http", "/", "x-delay-ms", "1")
		return r.Status == 429 && strings.HasPrefix(r.Body, "blocked by flow rule by-memory: ") &&
			strings.Contains(r.Body, " of "+threshold+" in ")
	}
	passes := func(n int) func() bool {
		return func() bool {
			for range n {
				if e.Get("http", "/", "x-delay-ms", "1").Status != 200 {
					return false
				}
			}
			return true
		}
	}
	envoytest.Eventually(t, soon, "requests to pass while memory is free", passes(10))
	machine.use(7_000_000_000)
	envoytest.Eventually(t, soon, "a refusal while memory is full", func() bool { return refusedAt("4") })
	machine.use(1_000_000_000)
	envoytest.Eventually(t, soon, "requests to pass when memory is free again", passes(10))
	machine.Close()
	envoytest.Eventually(t, soon, "a refusal without a source", func() bool { return refusedAt("4") })
	waitMetric(t, e, 1, "sentinel_system_source_stale")
}

// column is how far the line that begins with the text is indented.
func column(text []byte, beginning string) int {
	at := bytes.Index(text, []byte(beginning))
	return at - bytes.LastIndexByte(text[:max(at, 0)], '\n') - 1
}
