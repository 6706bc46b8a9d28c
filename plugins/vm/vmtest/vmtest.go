//go:build !wasip1

// Package vmtest plays Envoy in native tests: it starts plugins, opens and ends their streams, and moves a virtual clock.
package vmtest

import (
	"slices"
	"strings"
	"testing"
	"time"

	"sentinel-envoy/plugins/envoyhost"
	"sentinel-envoy/plugins/vm"
)

// Envoy is one worker with its VM.
type Envoy struct {
	*envoyhost.Recorder
	t          testing.TB
	dispatcher *vm.Dispatcher
	plugins    []*Plugin
	contexts   uint32
}

// Plugin is one of its plugins.
type Plugin struct {
	*envoyhost.RecordedPlugin
	ID    uint32
	envoy *Envoy
	// set are the tick periods that were set so far, and next the time of the next tick, in nanoseconds.
	set  int
	next int64
}

// Stream is one of a plugin's requests or connections.
type Stream struct {
	*envoyhost.RecordedStream
	ID    uint32
	envoy *Envoy
}

// Start starts a VM for the filters of kinds, which are by their root_ids.
func Start(t testing.TB, kinds map[string]vm.HandlerKind, configuration string) *Envoy {
	t.Helper()
	e := New(t, kinds)
	if !e.StartVM(configuration) {
		t.Fatalf("the VM does not start: %q", e.Critical)
	}
	return e
}

// New returns an Envoy whose VM has not started yet.
func New(t testing.TB, kinds map[string]vm.HandlerKind) *Envoy {
	r := envoyhost.Record()
	return &Envoy{Recorder: r, t: t, dispatcher: vm.Register(kinds)}
}

// Plugin starts a plugin, and fails the test where it does not start.
func (e *Envoy) Plugin(rootID, configuration string) *Plugin {
	e.t.Helper()
	p, started := e.TryPlugin(rootID, configuration)
	if !started {
		e.t.Fatalf("the plugin does not start: %q", e.Critical)
	}
	return p
}

// NamedPlugin is Plugin with a name of its own.
func (e *Envoy) NamedPlugin(name, rootID, configuration string) *Plugin {
	e.t.Helper()
	p := e.newPlugin()
	p.Name = name
	if !e.StartPlugin(p.ID, rootID, configuration) {
		e.t.Fatalf("the plugin does not start: %q", e.Critical)
	}
	return p
}

// TryPlugin starts a plugin, and reports whether it has started.
func (e *Envoy) TryPlugin(rootID, configuration string) (p *Plugin, started bool) {
	p = e.newPlugin()
	return p, e.StartPlugin(p.ID, rootID, configuration)
}

func (e *Envoy) newPlugin() *Plugin {
	e.contexts++
	p := &Plugin{ID: e.contexts, envoy: e}
	e.dispatcher.OnContextCreate(p.ID, 0)
	p.RecordedPlugin = e.Plugins[p.ID]
	e.plugins = append(e.plugins, p)
	return p
}

// Done removes the plugin.
func (p *Plugin) Done() bool { return p.envoy.dispatcher.OnDone(p.ID) }

// Stream makes a request or a connection.
func (p *Plugin) Stream() *Stream {
	e := p.envoy
	e.contexts++
	s := &Stream{RecordedStream: e.AddStream(e.contexts, p.ID), ID: e.contexts, envoy: e}
	e.dispatcher.OnContextCreate(s.ID, p.ID)
	return s
}

// Again makes another stream of the plugin, which is as one that has ended was.
func (p *Plugin) Again(s *Stream) {
	e := p.envoy
	e.contexts++
	s.ID = e.contexts
	e.Streams[s.ID] = s.RecordedStream
	e.dispatcher.OnContextCreate(s.ID, p.ID)
}

// RequestHeaders is a request without a body.
func (s *Stream) RequestHeaders() envoyhost.Action {
	s.envoy.EnterContext(s.ID)
	return s.envoy.dispatcher.OnRequestHeaders(s.ID, true)
}

// BeginRequest is the beginning of a request that has a body.
func (s *Stream) BeginRequest() envoyhost.Action {
	s.envoy.EnterContext(s.ID)
	return s.envoy.dispatcher.OnRequestHeaders(s.ID, false)
}

// RequestData is that the client has sent a part of the body. last is whether nothing follows.
func (s *Stream) RequestData(last bool) envoyhost.Action {
	s.envoy.EnterContext(s.ID)
	return s.envoy.dispatcher.OnRequestData(s.ID, last)
}

// ResponseHeaders is the beginning of a response.
func (s *Stream) ResponseHeaders() {
	s.envoy.EnterContext(s.ID)
	s.envoy.dispatcher.OnResponseHeaders(s.ID)
}

// ResponseTrailers is the end of a response that has trailers.
func (s *Stream) ResponseTrailers() {
	s.envoy.EnterContext(s.ID)
	s.envoy.dispatcher.OnResponseTrailers(s.ID)
}

// NewConnection is the beginning of a connection.
func (s *Stream) NewConnection() envoyhost.Action {
	s.envoy.EnterContext(s.ID)
	return s.envoy.dispatcher.OnNewConnection(s.ID)
}

// DownstreamData is that the client has sent size bytes.
func (s *Stream) DownstreamData(size int) envoyhost.Action {
	s.envoy.EnterContext(s.ID)
	return s.envoy.dispatcher.OnDownstreamData(s.ID, size)
}

// UpstreamData is that the upstream has sent size bytes.
func (s *Stream) UpstreamData(size int) envoyhost.Action {
	s.envoy.EnterContext(s.ID)
	return s.envoy.dispatcher.OnUpstreamData(s.ID, size, false)
}

// End is the end of a request or a connection, with the callbacks in the order of a request.
func (s *Stream) End() {
	s.envoy.EnterContext(s.ID)
	s.envoy.dispatcher.OnLog(s.ID)
	s.envoy.dispatcher.OnDone(s.ID)
	delete(s.envoy.Streams, s.ID)
}

// Run lets time pass, by milliseconds, with the ticks that are due.
func (e *Envoy) Run(d time.Duration) {
	for range d.Milliseconds() {
		e.Advance(1e6)
		for _, p := range e.plugins {
			p.tick(e.Now())
		}
	}
}

// tick lets the plugin have its tick when its time has come. A period begins anew when it is set, and after each tick.
func (p *Plugin) tick(now int64) {
	if len(p.TickPeriods) == 0 {
		return
	}
	period := int64(p.TickPeriods[len(p.TickPeriods)-1]) * 1e6
	if len(p.TickPeriods) != p.set {
		p.set, p.next = len(p.TickPeriods), now-1e6+period
	}
	if period == 0 || now < p.next {
		return
	}
	p.envoy.Tick(p.ID)
	p.next = now + period
}

// QueueReady is that there is a message for the aggregator, if it is this VM, which opened its queue in a tick of p.
func (p *Plugin) QueueReady() {
	p.envoy.EnterContext(p.ID)
	p.envoy.dispatcher.OnQueueReady(p.ID)
}

// AnswerRPC answers a call by gRPC, in a callback about no stream.
func (e *Envoy) AnswerRPC(token uint32, answer []byte) {
	e.Recorder.AnswerRPC(answer)
	e.dispatcher.OnGrpcReceive(token, len(answer))
}

// EndRPC ends a call by gRPC without an answer, with a status of gRPC's.
func (e *Envoy) EndRPC(token, status uint32) { e.dispatcher.OnGrpcClose(token, status) }

// Metrics fails the test where metrics, by their names as the plugin gives them, do not have the values wanted once all
// were exported.
func (e *Envoy) Metrics(want map[string]uint64) {
	e.t.Helper()
	e.Run(2 * time.Second)
	for name, value := range want {
		if got, _ := e.Metric(name); got != value {
			e.t.Errorf("%s is %d, want %d", name, got, value)
		}
	}
}

// Faults fails the test where the log does not have the faults wanted and no others.
func (e *Envoy) Faults(want ...string) {
	e.t.Helper()
	var got []string
	for _, line := range e.Worker.Lines() {
		if strings.HasPrefix(line, "fault ") {
			got = append(got, line)
		}
	}
	if !slices.Equal(got, want) {
		e.t.Errorf("faults %q, want %q", got, want)
	}
}

// Panic makes a call of Envoy panic, by its name as Recorder.Before has it, until Panic is called with "".
func (e *Envoy) Panic(call string) {
	e.Before = func(c string) error {
		if c == call {
			panic("injected")
		}
		return nil
	}
}
