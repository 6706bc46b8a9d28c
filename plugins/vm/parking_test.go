//go:build !wasip1

package vm_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"sentinel-envoy/plugins/envoyhost"
	"sentinel-envoy/plugins/vm/vmtest"
)

// hourly is a configuration whose rule admits so many in an hour, and that differs by a number.
func hourly(threshold, n int) string {
	return fmt.Sprintf(`{"resource_name": "web", "block": {"body": "%d"}, "flowRules": [{"id": "a", "resource": "web",
		"threshold": %d, "statIntervalInMs": 3600000}]}`, n, threshold)
}

// pass is whether a request passes.
func pass(p *vmtest.Plugin) bool {
	s := p.Stream()
	defer s.End()
	s.RequestHeaders()
	return len(s.Answers) == 0
}

// ticks is whether the plugin has a timer.
func ticks(p *vmtest.Plugin) bool {
	return len(p.TickPeriods) > 0 && p.TickPeriods[len(p.TickPeriods)-1] != 0
}

// A plugin that was replaced and has no streams is parked: it has no timer and nothing of its own. Its next stream, of an
// old connection or after its configuration came back, finds its limit as it was.
func TestSupersededPluginIsParkedAndWakes(t *testing.T) {
	var made []*scripted
	e := vmtest.Start(t, kinds(&made, nil), "")
	var plugins []*vmtest.Plugin
	for n := range 5 {
		p := e.Plugin("sentinel_http", hourly(12, n))
		plugins = append(plugins, p)
		e.Run(20 * time.Millisecond)
		for range 2 {
			if !pass(p) {
				t.Fatalf("plugin %d refuses", n)
			}
		}
	}
	handlerTicks := func() (counts []int) {
		for _, h := range made {
			counts = append(counts, h.ticks)
		}
		return counts
	}
	e.Run(3 * time.Second)
	before := handlerTicks()
	e.Run(time.Second)
	for n, got := range handlerTicks() {
		if awake := got > before[n]; awake != (n == 4) || ticks(plugins[n]) != (n == 4) {
			t.Errorf("plugin %d: awake %t, has a timer %t", n, awake, ticks(plugins[n]))
		}
	}
	for i := range 4 {
		if got := pass(plugins[0]); got != (i < 2) {
			t.Errorf("request %d after ten of twelve passes: %t", i+1, got)
		}
	}
	if len(made) != 6 || ticks(plugins[0]) {
		t.Errorf("%d handlers were made; the one that was woken has a timer: %t", len(made), ticks(plugins[0]))
	}
	e.Metrics(map[string]uint64{"sentinel_passed;resource=web": 12, "sentinel_blocked;resource=web;rule=a;kind=flow": 2})
	e.Faults()
}

// The plugin that keeps the VM's time ends or is parked: another keeps it, be it parked itself.
func TestTheVMTicksWhicheverPluginsLive(t *testing.T) {
	var made []*scripted
	e := vmtest.Start(t, kinds(&made, nil), "")
	first := e.Plugin("sentinel_http", hourly(5, 1))
	second := e.Plugin("sentinel_http", hourly(5, 2))
	e.Run(4 * time.Second) // the first is parked
	if ticks(first) || !ticks(second) {
		t.Fatal("the second plugin does not keep the time")
	}
	lives := func() bool {
		before, _ := e.Metric("sentinel_ticks")
		e.Run(4 * time.Second)
		after, _ := e.Metric("sentinel_ticks")
		return after > before+100
	}
	if !second.Done() || !lives() || !ticks(first) {
		t.Error("after the end of the second the VM does not tick")
	}
	if n, _ := e.Metric("sentinel_workers"); n != 1 {
		t.Errorf("%d workers", n)
	}
	third := e.Plugin("sentinel_http", hourly(5, 3))
	if !first.Done() || !lives() || !ticks(third) {
		t.Error("after the end of the first the VM does not tick")
	}
	third.Done()
	if ticks(third) {
		t.Error("a plugin that has ended has a timer")
	}
	e.Faults()
}

// The newest with a root_id and a name is not parked, however long nobody comes.
func TestPluginsOfOtherNamesAreNotSuperseded(t *testing.T) {
	var made []*scripted
	e := vmtest.Start(t, kinds(&made, nil), "")
	for n, name := range []string{"a", "b", "a"} {
		e.NamedPlugin(name, "sentinel_http", hourly(5, n))
	}
	e.Run(10 * time.Second)
	before := []int{made[0].ticks, made[1].ticks, made[2].ticks}
	e.Run(time.Second)
	awake := []bool{made[0].ticks > before[0], made[1].ticks > before[1], made[2].ticks > before[2]}
	if !slices.Equal(awake, []bool{false, true, true}) {
		t.Errorf("awake are %v", awake)
	}
}

// A stream that another filter has held back since before its plugin was parked is decided as any other; one that waits for
// its turn gets it.
func TestStreamsFromBeforeParking(t *testing.T) {
	var made []*scripted
	e := vmtest.Start(t, kinds(&made, nil), "")
	p := e.Plugin("sentinel_http", hourly(1, 1))
	held := p.Stream()
	slow := e.NamedPlugin("slow", "sentinel_http", `{"resource_name": "web", "flowRules": [{"id": "b", "resource": "web",
		"threshold": 1, "statIntervalInMs": 4000, "controlBehavior": "Throttling", "maxQueueingTimeMs": 60000}]}`)
	first, waits := slow.Stream(), slow.Stream()
	first.RequestHeaders()
	if waits.RequestHeaders() != envoyhost.Pause {
		t.Fatal("it does not wait")
	}
	e.Plugin("sentinel_http", hourly(1, 2))
	e.NamedPlugin("slow", "sentinel_http", hourly(1, 3))
	e.Run(3500 * time.Millisecond)
	if waits.Resumed != 0 {
		t.Error("it did not wait")
	}
	e.Run(time.Second)
	if waits.Resumed != 1 {
		t.Error("the stream that waits does not go on")
	}
	held.RequestHeaders()
	if len(held.Answers) != 0 || pass(p) {
		t.Error("the held stream is refused, or not counted")
	}
	held.End()
	first.End()
	waits.End()
	e.Metrics(map[string]uint64{"sentinel_completed;resource=web": 3, "sentinel_in_flight;resource=web": 0})
	e.Faults()
}

// A plugin that cannot be woken follows its failure mode where it can, and is asked again.
func TestPluginThatCannotBeWoken(t *testing.T) {
	var made []*scripted
	var fail error
	e := vmtest.Start(t, kinds(&made, func() error { return fail }), "")
	p := e.Plugin("sentinel_http", `{"failure_mode": "closed", "resource_name": "web"}`)
	held := p.Stream()
	e.Plugin("sentinel_http", hourly(1, 2))
	e.Run(4 * time.Second)
	fail = errors.New("injected")
	if held.RequestHeaders(); len(held.Answers) != 1 {
		t.Error("with the failure mode closed it passes")
	}
	p.Stream().RequestHeaders()
	e.Faults("fault 1: waking a filter: injected", "fault 2: deciding: the filter is parked")
	if fail = nil; !pass(p) {
		t.Error("it is not woken later")
	}
}
