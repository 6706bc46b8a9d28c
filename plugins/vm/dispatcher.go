// Package vm is the life of the Wasm VM, of its plugins and of their streams: configuration, ticks, entry and end.
package vm

import (
	"github.com/alibaba/sentinel-golang/logging"

	"sentinel-envoy/plugins/envoyhost"
	"sentinel-envoy/shared/config"
	"sentinel-envoy/shared/engine"
	"sentinel-envoy/shared/host"
	"sentinel-envoy/shared/version"
)

// Dispatcher hands Envoy's callbacks in one worker's VM, which have only numbers of contexts, to plugins and streams. None
// of them lets a panic out.
type Dispatcher struct {
	kinds  map[string]HandlerKind
	engine *engine.VM
	shared *config.Config

	// plugins are those that live, by their contexts' ids; last is the one that had a stream last.
	plugins map[uint32]*Plugin
	last    *Plugin
	// awake are those that have started and are not parked, newest the last that has started in each lane, and started how
	// many have. timer is the one that keeps the VM's time. looked is when they were last looked through for idle ones.
	awake   []*Plugin
	newest  map[lane]*Plugin
	started uint64
	timer   *Plugin
	looked  int64
	pace    pace
	texts   texts
	streams streams
	// changed is whether a plugin has changed its rules since the last tick.
	changed bool
	// ended is the stream that ended last.
	ended uint32
}

var _ envoyhost.VM = (*Dispatcher)(nil)

// current is the one there is in a VM.
var current *Dispatcher

// Register makes a Dispatcher for the filters of kinds, which are by their root_ids, and makes it known to Envoy.
func Register(kinds map[string]HandlerKind) *Dispatcher {
	// The only error is of a nil logger.
	_ = logging.ResetGlobalLogger(envoyhost.SentinelLogger{})
	current = &Dispatcher{
		kinds: kinds, engine: engine.New(envoyhost.NewHost(), version.Version+" ("+version.Commit+")"),
		plugins: map[uint32]*Plugin{}, newest: map[lane]*Plugin{}, texts: newTexts(), pace: pace{period: engine.TickMs},
	}
	envoyhost.Register(current)
	return current
}

// OnStart implements envoyhost.VM. All plugins have the same configuration of the VM.
func (d *Dispatcher) OnStart(size int) (started bool) {
	defer recoverPanic(func(err error) { logErrors("starting", err) })
	if d.shared != nil {
		return true
	}
	data, err := configuration(size, envoyhost.VMConfiguration)
	if err == nil {
		d.engine.Configured(data)
		d.shared, err = config.Parse(data, config.KindVM)
	}
	if err != nil {
		logErrors("vm_config.configuration", err)
		return false
	}
	return true
}

// NewPlugin implements envoyhost.VM. Which filter it is, its root_id tells when it starts.
func (d *Dispatcher) NewPlugin(context uint32) envoyhost.Plugin {
	p := &Plugin{dispatcher: d, context: context}
	d.plugins[context] = p
	return p
}

// OnContextCreate is called for each plugin, with a root of 0, and for each stream of the plugin root.
func (d *Dispatcher) OnContextCreate(context, root uint32) {
	if root == 0 {
		d.createPlugin(context)
		return
	}
	done := false
	if host.Recovers {
		defer func() {
			if !done {
				recovered(recover(), func(err error) { d.engine.Fault("creating a context", err) })
			}
		}()
	}
	d.createStream(context, root)
	done = true
}

func (d *Dispatcher) createPlugin(context uint32) {
	defer recoverPanic(func(err error) { d.engine.Fault("creating a context", err) })
	envoyhost.CreatePlugin(context)
}

func (d *Dispatcher) createStream(context, root uint32) {
	if d.last == nil || d.last.context != root {
		p := d.plugins[root]
		if p == nil || p.number == 0 {
			return // one that has not started has no streams
		}
		d.last = p
	}
	if d.last.handler == nil && !d.last.wake() {
		return
	}
	d.last.used = true
	d.rouse(context)
	d.streams.put(context, d.last.handler.NewStream(context))
}

// OnQueueReady is called when there is a message for the aggregator, if it is in this VM. context is the plugin in whose
// tick it opened its queue.
func (d *Dispatcher) OnQueueReady(context uint32) {
	defer recoverPanic(func(err error) { d.engine.Fault("receiving a message", err) })
	d.rouse(context)
}

// OnRequestHeaders is called with the headers of a request. last is whether nothing follows.
func (d *Dispatcher) OnRequestHeaders(context uint32, last bool) (action envoyhost.Action) {
	envoyhost.Begin()
	b := d.streams.get(context)
	if b == nil {
		return envoyhost.Continue
	}
	done := false
	if host.Recovers {
		defer func() {
			if !done {
				recovered(recover(), func(err error) { b.fail(err, &action) })
			}
		}()
	}
	action = b.stream.OnRequestHeaders(last)
	done = true
	return action
}

// OnRequestData is called with a part of the body of a request, or with its trailers.
func (d *Dispatcher) OnRequestData(context uint32, last bool) (action envoyhost.Action) {
	envoyhost.Begin()
	b := d.streams.get(context)
	if b == nil {
		return envoyhost.Continue
	}
	if host.Recovers {
		defer recoverPanic(func(err error) { b.failData(err, &action) })
	}
	return b.stream.OnRequestData(last)
}

// OnResponseHeaders is called with the headers of a response.
func (d *Dispatcher) OnResponseHeaders(context uint32) {
	envoyhost.Begin()
	b := d.streams.get(context)
	if b == nil {
		return
	}
	done := false
	if host.Recovers {
		defer func() {
			if !done {
				recovered(recover(), func(err error) { d.engine.Fault("observing a response", err) })
			}
		}()
	}
	b.stream.OnResponseHeaders()
	done = true
}

// OnResponseTrailers is called with the trailers of a response.
func (d *Dispatcher) OnResponseTrailers(context uint32) {
	envoyhost.Begin()
	b := d.streams.get(context)
	if b == nil {
		return
	}
	if host.Recovers {
		defer recoverPanic(func(err error) { d.engine.Fault("observing a response", err) })
	}
	b.stream.OnResponseTrailers()
}

// OnNewConnection is called when a client has connected.
func (d *Dispatcher) OnNewConnection(context uint32) (action envoyhost.Action) {
	envoyhost.Begin()
	b := d.streams.get(context)
	if b == nil {
		return envoyhost.Continue
	}
	if host.Recovers {
		defer recoverPanic(func(err error) { b.fail(err, &action) })
	}
	return b.stream.OnNewConnection()
}

// OnDownstreamData is called when a client has sent size bytes.
func (d *Dispatcher) OnDownstreamData(context uint32, size int) (action envoyhost.Action) {
	envoyhost.Begin()
	b := d.streams.get(context)
	if b == nil {
		return envoyhost.Continue
	}
	if host.Recovers {
		defer recoverPanic(func(err error) { b.failData(err, &action) })
	}
	return b.stream.OnDownstreamData(size)
}

// OnUpstreamData is called when an upstream has sent size bytes. last is whether it sends nothing more.
func (d *Dispatcher) OnUpstreamData(context uint32, size int, last bool) (action envoyhost.Action) {
	envoyhost.Begin()
	b := d.streams.get(context)
	if b == nil {
		return envoyhost.Continue
	}
	if host.Recovers {
		defer recoverPanic(func(err error) { b.failData(err, &action) })
	}
	return b.stream.OnUpstreamData(size, last)
}

// OnLog is called when a stream has ended.
func (d *Dispatcher) OnLog(context uint32) {
	envoyhost.Begin()
	d.end(context)
}

// OnDone is called when a context is done, and reports whether it may be deleted. Envoy calls it before OnLog for a
// connection, and after it for a request.
func (d *Dispatcher) OnDone(context uint32) bool {
	envoyhost.Begin()
	if !d.end(context) && d.plugins[context] != nil {
		d.endPlugin(context)
	}
	return true
}

// end ends the stream of a context, and reports whether there was one, or the last that ended was it.
func (d *Dispatcher) end(context uint32) bool {
	if context == d.ended {
		return true
	}
	b := d.streams.take(context)
	if b == nil {
		return false
	}
	d.ended = context
	b.end()
	return true
}

func (d *Dispatcher) endPlugin(context uint32) {
	defer recoverPanic(func(err error) { d.engine.Fault("ending a plugin", err) })
	delete(d.plugins, context)
	d.last = nil
	envoyhost.EndPlugin(context)
}
