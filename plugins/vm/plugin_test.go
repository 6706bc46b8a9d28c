//go:build !wasip1

package vm_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"sentinel-envoy/plugins/envoyhost"
	"sentinel-envoy/plugins/vm"
	"sentinel-envoy/plugins/vm/vmtest"
	"sentinel-envoy/shared/config"
	"sentinel-envoy/shared/engine"
	"sentinel-envoy/shared/outcome"
	"sentinel-envoy/shared/resource"
)

// scripted is a handler that a test tells what to do.
type scripted struct {
	plugin    *vm.Plugin
	ticks     int
	tick      func()
	newStream func()
}

// OnTick implements vm.Handler.
func (h *scripted) OnTick(int64) {
	h.ticks++
	if h.tick != nil {
		h.tick()
	}
}

// Idle implements vm.Handler.
func (*scripted) Idle() bool { return true }

// Reload implements vm.Handler.
func (*scripted) Reload() error { return nil }

// NewStream implements vm.Handler.
func (h *scripted) NewStream(context uint32) *vm.Base {
	if h.newStream != nil {
		h.newStream()
	}
	s := &request{}
	s.Init(h.plugin, s, context)
	return &s.Base
}

// request is a request to the resource "web".
type request struct {
	vm.Base
}

// OnRequestHeaders implements vm.Stream.
func (r *request) OnRequestHeaders(bool) envoyhost.Action {
	return r.Enter(&resource.Taken{Name: "web"})
}

// Refuse implements vm.Stream.
func (*request) Refuse(b *engine.Block, _ int64) envoyhost.Action {
	_ = envoyhost.SendResponse(b, 429, &envoyhost.HeaderMap{}, nil, 8)
	return envoyhost.Pause
}

// Resume implements vm.Stream.
func (*request) Resume() error { return envoyhost.ResumeRequest() }

// OnEnd implements vm.Stream.
func (r *request) OnEnd() { r.Entry.Exit(envoyhost.Now(), outcome.End{Outcome: outcome.Well}) }

// kinds are filters whose handlers come to made. fail is what their making does, where not nil.
func kinds(made *[]*scripted, fail func() error) map[string]vm.HandlerKind {
	return map[string]vm.HandlerKind{"sentinel_http": {Kind: config.KindHTTP, New: func(p *vm.Plugin) (vm.Handler, error) {
		if fail != nil {
			if err := fail(); err != nil {
				return nil, err
			}
		}
		h := &scripted{plugin: p}
		*made = append(*made, h)
		return h, nil
	}}}
}

const (
	web = `{"resource_name": "web"}`
	one = `{"resource_name": "web", "flowRules": [{"id": "one", "resource": "web", "threshold": 1,
		"statIntervalInMs": 1000}]}`
	paced = `{"resource_name": "web", "flowRules": [{"id": "paced", "resource": "web", "threshold": 100,
		"statIntervalInMs": 1000, "controlBehavior": "Throttling", "maxQueueingTimeMs": 5000}]}`
)

func TestVMConfiguration(t *testing.T) {
	for _, c := range []struct {
		configuration string
		starts        bool
		critical      []string
	}{
		{``, true, nil},
		{`{}`, true, nil},
		{`{"flowRules": [{"id": "r", "resource": "web", "threshold": 1, "statIntervalInMs": 1000}]}`, true, nil},
		{`{"resource_name": "web", "colour": 1}`, false, []string{
			"sentinel: vm_config.configuration: colour: ", "sentinel: vm_config.configuration: resource_name: "}},
		{`{`, false, []string{"sentinel: vm_config.configuration: "}},
	} {
		e := vmtest.New(t, nil)
		if e.StartVM(c.configuration) != c.starts {
			t.Errorf("%s: starts: %v", c.configuration, !c.starts)
		}
		wantCritical(t, e, c.critical...)
		reads := 0
		e.Before = func(string) error {
			reads++
			return nil
		}
		if again := e.StartVM(c.configuration); again != c.starts || c.starts && reads > 0 {
			t.Errorf("%s: starts for the second plugin: %v, after %d calls", c.configuration, again, reads)
		}
	}
}

// wantCritical fails the test where the critical lines do not begin as they should, in any order.
func wantCritical(t *testing.T, e *vmtest.Envoy, want ...string) {
	t.Helper()
	got := slices.Sorted(slices.Values(e.Critical))
	if !slices.EqualFunc(got, want, strings.HasPrefix) {
		t.Errorf("critical %q, want %q", got, want)
	}
}

func TestPluginConfiguration(t *testing.T) {
	for _, c := range []struct {
		name, rootID, configuration string
		starts                      bool
		critical                    []string
	}{
		{"right", "sentinel_http", web, true, nil},
		{"unknown root_id", "sentinel_udp", web, false,
			[]string{`sentinel: configuration of root_id sentinel_udp: unknown root_id "sentinel_udp": `}},
		{"no root_id", "", web, false, []string{`sentinel: configuration of root_id : unknown root_id ""`}},
		{"two mistakes", "sentinel_http", `{"mode": "sleep", "colour": 1}`, false, []string{
			"sentinel: configuration of root_id sentinel_http: colour: ",
			"sentinel: configuration of root_id sentinel_http: mode: "}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var made []*scripted
			e := vmtest.Start(t, kinds(&made, nil), "")
			p, started := e.TryPlugin(c.rootID, c.configuration)
			if started != c.starts {
				t.Errorf("started: %v", started)
			}
			wantCritical(t, e, c.critical...)
			e.Run(100 * time.Millisecond)
			s := p.Stream()
			if got := s.RequestHeaders(); got != envoyhost.Continue {
				t.Errorf("action %d", got)
			}
			s.End()
			if e.Tick(p.ID); !c.starts {
				if keys, _ := e.Keys(); keys != 0 {
					t.Errorf("one that has not started leaves %d keys", keys)
				}
			}
			if !p.Done() {
				t.Error("the plugin's end was put off")
			}
			e.Faults()
		})
	}
}

// Whatever fails while a plugin starts, it does not, the reason is said, and the next one starts.
func TestStartFails(t *testing.T) {
	injected := errors.New("injected")
	calls := func(call string, fault func() error) func(string) error {
		return func(c string) error {
			if c == call {
				return fault()
			}
			return nil
		}
	}
	fail, panics := func() error { return injected }, func() error { panic("injected") }
	for _, c := range []struct {
		name     string
		before   func(call string) error
		make     func() error
		critical string
	}{
		{"no root_id", calls("property", fail), nil, "sentinel: root_id: "},
		{"no configuration", calls("pluginConfiguration", fail), nil,
			"sentinel: configuration of root_id sentinel_http: injected"},
		{"no tick", calls("setTickPeriod", fail), nil, "sentinel: tick: injected"},
		{"no handler", nil, fail, "sentinel: configuration of root_id sentinel_http: injected"},
		{"panic while reading", calls("pluginConfiguration", panics), nil, "sentinel: starting: panic: injected"},
		{"panic of the handler", nil, panics, "sentinel: starting: panic: injected"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var made []*scripted
			making := c.make
			e := vmtest.Start(t, kinds(&made, func() error {
				if making == nil {
					return nil
				}
				return making()
			}), "")
			e.Before = c.before
			p, started := e.TryPlugin("sentinel_http", web)
			if started {
				t.Error("it has started")
			}
			wantCritical(t, e, c.critical)
			e.Before, making = nil, nil
			e.Plugin("sentinel_http", web)
			e.Run(100 * time.Millisecond)
			p.Done()
			if n := len(made); made[n-1].ticks != 5 {
				t.Errorf("the next has had %d ticks", made[n-1].ticks)
			}
			e.Faults()
		})
	}
}

func TestVMStartPanics(t *testing.T) {
	e := vmtest.New(t, nil)
	e.Panic("vmConfiguration")
	if e.StartVM("{}") {
		t.Error("it has started")
	}
	wantCritical(t, e, "sentinel: starting: panic: injected")
}

// Plugins share the engine, and each has its own ticks, streams and end.
func TestSeveralPlugins(t *testing.T) {
	var made []*scripted
	e := vmtest.Start(t, kinds(&made, nil), "")
	first, second := e.Plugin("sentinel_http", one), e.Plugin("sentinel_http", one)
	e.Run(200 * time.Millisecond)
	if made[0].ticks != 10 || made[1].ticks != 10 {
		t.Errorf("%d and %d ticks", made[0].ticks, made[1].ticks)
	}
	a, b := first.Stream(), second.Stream()
	if got := fmt.Sprint(a.RequestHeaders(), b.RequestHeaders()); got != "0 1" {
		t.Errorf("two requests, a budget of one: actions %s", got)
	}
	first.Done()
	e.Run(200 * time.Millisecond)
	if got := fmt.Sprint(first.TickPeriods, second.TickPeriods); got != "[20 0] [0 20]" {
		t.Errorf("tick periods %s", got)
	}
	if made[0].ticks != 10 || made[1].ticks != 20 {
		t.Errorf("%d and %d ticks after the first has ended", made[0].ticks, made[1].ticks)
	}
	a.End() // a stream outlives its plugin
	b.End()
	e.Metrics(map[string]uint64{"sentinel_completed;resource=web": 1, "sentinel_in_flight;resource=web": 0})
	if lines := e.Worker.Lines(); strings.Count(lines[len(lines)-1], "sentinel_http: 1 rule(s)") != 1 {
		t.Errorf("logged %q, want one filter in force at last", lines)
	}
	e.Faults()
}

// A panic in one part of a tick does not keep the others from being done, nor the next tick.
func TestPanicInATick(t *testing.T) {
	var made []*scripted
	e := vmtest.Start(t, kinds(&made, nil), "")
	first, second := e.Plugin("sentinel_http", paced), e.Plugin("sentinel_http", web)
	if first.Stream().RequestHeaders() != envoyhost.Continue {
		t.Fatal("the first request waits")
	}
	waits := first.Stream()
	if waits.RequestHeaders() != envoyhost.Pause {
		t.Fatal("the second request does not wait")
	}
	t.Run("the engine's part", func(t *testing.T) {
		ticking, calls := false, 0
		e.Before = func(call string) error {
			if calls++; call == "host" && ticking && calls > 2 { // the first two are the plugin's own reading of the clock
				ticking = false
				panic("injected")
			}
			return nil
		}
		for made[0].ticks < 3 {
			ticking, calls = true, 0
			e.Advance(20e6)
			e.Tick(first.ID)
		}
		e.Before = nil
		if waits.Resumed != 1 {
			t.Errorf("the request that waits was resumed %d times", waits.Resumed)
		}
		e.Faults("fault 1: renewing the slot: panic: injected", "fault 2: renewing the slot: panic: injected")
	})
	t.Run("the filter's", func(t *testing.T) {
		made[0].tick = func() { panic("injected") }
		ticks := made[1].ticks
		e.Run(100 * time.Millisecond)
		if made[0].ticks != 8 || made[1].ticks != ticks+5 {
			t.Errorf("%d and %d ticks", made[0].ticks, made[1].ticks-ticks)
		}
		made[0].tick = nil
	})
	t.Run("the clock", func(t *testing.T) {
		e.Panic("host")
		e.Tick(second.ID)
		e.Panic("")
		ticks := made[1].ticks
		e.Tick(second.ID)
		if made[1].ticks != ticks+1 {
			t.Error("the next tick did nothing")
		}
	})
}

// What waits has its turn though the source of figures cannot be asked, and the handler its tick though that fails too.
func TestPanicInAPartOfATick(t *testing.T) {
	for _, call := range []string{"callHTTP", "setEffectiveContext"} {
		t.Run(call, func(t *testing.T) {
			var made []*scripted
			e := vmtest.Start(t, kinds(&made, nil), "")
			p := e.Plugin("sentinel_http", strings.Replace(paced, `{`, `{"system_source": {"cluster": "node"}, `, 1))
			p.Stream().RequestHeaders()
			waits := p.Stream()
			waits.RequestHeaders()
			e.Panic(call)
			e.Run(10 * time.Millisecond)
			if want := map[string]int{"callHTTP": 1}[call]; waits.Resumed != want || made[0].ticks != 2 {
				t.Errorf("resumed %d times, want %d; the handler had %d ticks", waits.Resumed, want, made[0].ticks)
			}
		})
	}
}

func TestPanicInTheEndOfAPlugin(t *testing.T) {
	var made []*scripted
	e := vmtest.Start(t, kinds(&made, nil), "")
	p, other := e.Plugin("sentinel_http", web), e.Plugin("sentinel_http", web)
	e.Panic("setTickPeriod")
	if !p.Done() {
		t.Error("the plugin's end was put off")
	}
	e.Panic("")
	e.Faults("fault 1: draining: panic: injected")
	lost := e.Plugin("sentinel_http", web)
	delete(e.Recorder.Plugins, lost.ID) // the SDK panics about a context that it does not know
	if !lost.Done() {
		t.Error("the plugin's end was put off")
	}
	e.Faults("fault 1: draining: panic: injected", "fault 2: ending a plugin: panic: runtime error: "+
		"invalid memory address or nil pointer dereference")
	if other.Stream().RequestHeaders() != envoyhost.Continue {
		t.Error("the other plugin's request does not pass")
	}
}

func TestPanicInANewStream(t *testing.T) {
	var made []*scripted
	e := vmtest.Start(t, kinds(&made, nil), "")
	p := e.Plugin("sentinel_http", web)
	made[0].newStream = func() { panic("injected") }
	s := p.Stream()
	e.Faults("fault 1: creating a context: panic: injected")
	if s.RequestHeaders() != envoyhost.Continue {
		t.Error("a stream that there is not is held back")
	}
	s.End()
	made[0].newStream = nil
	if p.Stream().RequestHeaders() != envoyhost.Continue {
		t.Error("the next does not pass")
	}
}

// Streams that wait go on in the order of their turns, whoever of them leaves and whatever happens to one of them.
func TestWaitingStreams(t *testing.T) {
	var made []*scripted
	e := vmtest.Start(t, kinds(&made, nil), "")
	p := e.Plugin("sentinel_http", paced) // a turn in each 10 ms
	began := e.Now()
	var streams []*vmtest.Stream
	for range 100 {
		s := p.Stream()
		s.RequestHeaders()
		streams = append(streams, s)
	}
	for _, n := range []int{99, 50, 51, 1, 70} {
		streams[n].End()
		streams[n] = nil
	}
	delete(e.Streams, streams[60].ID) // Envoy no longer knows it, and has not said so yet
	e.Before = func(call string) error {
		if call == "resumeRequest" && e.Now()-began > 395e6 && e.Now()-began < 405e6 {
			panic("injected") // for number 40
		}
		return nil
	}
	for e.Now()-began < 1100e6 {
		e.Run(time.Millisecond)
		for n, s := range streams {
			if s == nil || n == 0 || n == 40 || n == 60 {
				continue
			}
			turn, now := 10*int64(n), (e.Now()-began)/1e6
			if s.Resumed > 1 || s.Resumed == 1 && now < turn || s.Resumed == 0 && now > turn+5 {
				t.Fatalf("at %d ms number %d was resumed %d times, want it from %d ms on", now, n, s.Resumed, turn)
			}
		}
	}
	if got := fmt.Sprint(p.TickPeriods); got != "[20 5 20]" {
		t.Errorf("tick periods %s", got)
	}
	e.Faults("fault 1: tick: panic: injected", "fault 2: resuming a stream: recorder: not in this context")
	e.Metrics(map[string]uint64{"sentinel_faults": 2})
}

// Without the fast tick what waits goes on with the ordinary one.
func TestWaitsWithoutAFastTick(t *testing.T) {
	var made []*scripted
	e := vmtest.Start(t, kinds(&made, nil), "")
	p := e.Plugin("sentinel_http", paced)
	e.Before = func(call string) error {
		if call == "setTickPeriod" {
			return errors.New("injected")
		}
		return nil
	}
	p.Stream().RequestHeaders()
	s := p.Stream()
	if s.RequestHeaders() != envoyhost.Pause {
		t.Error("it does not wait")
	}
	e.Run(20 * time.Millisecond)
	if s.Resumed != 1 {
		t.Errorf("resumed %d times", s.Resumed)
	}
	e.Faults("fault 1: waiting: injected", "fault 2: setting the tick: injected")
}
