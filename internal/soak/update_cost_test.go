package soak

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"sentinel-envoy/internal/envoytest"
	"sentinel-envoy/internal/plugintest"
	"sentinel-envoy/internal/wasmbuild/build"
)

const (
	// costRules are the rules of the configuration whose updates are paid for, costUpdates how often one of a second comes.
	costRules   = 1000
	costUpdates = 40
	// idleFor is for how long Envoy's CPU is looked at while nothing happens.
	idleFor = 4 * time.Second
)

// emptyFilter does nothing.
var emptyFilter = plugintest.Build("empty.wasm", build.Options{Package: "./internal/bench/filters/empty"})

// cost is what updates take: memory in MB an update, and CPU while nothing happens in milliseconds a second, before and
// after all of them.
type cost struct{ memory, before, after float64 }

func (c cost) String() string {
	return fmt.Sprintf("%.2f MB an update, idle CPU %.1f then %.1f ms/s", c.memory, c.before, c.after)
}

// TestUpdateCost updates a configuration of 1,000 rules once a second, as Envoy drains by default: for 600 s, in which every
// configuration that was ever in force is still there. What that costs is held against a filter that does nothing.
func TestUpdateCost(t *testing.T) {
	empty := costOf(t, plugintest.File(t, emptyFilter), 1)
	for _, c := range []struct {
		name    string
		changed int
		bound   float64 // how much more memory an update may take than with a filter that does nothing, in MB
	}{{"one rule changes", 1, 1}, {"all rules change", costRules, 1.5}} {
		ours := costOf(t, plugintest.File(t, release), c.changed)
		report(t, "%s: %v; an empty filter %v", c.name, ours, empty)
		if ours.memory > empty.memory+c.bound {
			t.Errorf("%s: %.2f MB an update, an empty filter %.2f", c.name, ours.memory, empty.memory)
		}
		if ours.after > 2*ours.before+5 {
			t.Errorf("%s: idle CPU rose from %.1f to %.1f ms/s", c.name, ours.before, ours.after)
		}
	}
}

// costOf updates a filter's configuration, in which so many rules change.
func costOf(t *testing.T, wasm string, changed int) (c cost) {
	t.Helper()
	listener := func(n int) envoytest.Listener {
		return envoytest.HTTP{Routes: []envoytest.Route{{Prefix: "/", DirectStatus: 200}},
			Wasm: []envoytest.Wasm{{File: wasm, RootID: "sentinel_http", Config: costConfig(n, changed)}}}
	}
	e := envoytest.Start(t, envoytest.Config{Dynamic: true, Concurrency: workers, LogLevel: "warning",
		Listeners: []envoytest.Listener{listener(0)}})
	defer func() {
		if err := e.Stop(); err != nil {
			t.Error(err)
		}
	}()
	for i := range 100 {
		e.Get("http", fmt.Sprintf("/r%d", i))
	}
	e.Update(listener(1)) // what the first one takes once is no update's
	c.before = idleCPU(t, e)
	first := residentMB(t, e)
	each := time.NewTicker(time.Second)
	defer each.Stop()
	for n := range costUpdates {
		<-each.C
		e.Update(listener(n + 2))
		e.Get("http", fmt.Sprintf("/r%d", n))
	}
	c.after = idleCPU(t, e)
	c.memory = float64(residentMB(t, e)-first) / costUpdates
	plugintest.NoVMDied(t, e)
	return c
}

// costConfig are the rules after n updates, in each of which so many of them have changed.
func costConfig(n, changed int) string {
	rules := make([]map[string]any, costRules)
	for i := range rules {
		threshold := 100_000
		if i < changed {
			threshold += n
		}
		rules[i] = map[string]any{"id": fmt.Sprintf("rule-%d", i), "resource": fmt.Sprintf("/r%d", i), "threshold": threshold}
	}
	text, err := json.Marshal(map[string]any{"flowRules": rules})
	if err != nil {
		panic(err) // maps of strings and numbers
	}
	return string(text)
}

// idleCPU is the CPU that Envoy uses while nothing happens, in milliseconds a second.
func idleCPU(t *testing.T, e *envoytest.Envoy) float64 {
	t.Helper()
	used := func() time.Duration {
		d, err := e.CPUTime()
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	time.Sleep(idleFor / 4) // what has just happened is done by then
	before := used()
	time.Sleep(idleFor)
	return float64((used() - before).Milliseconds()) / idleFor.Seconds()
}
