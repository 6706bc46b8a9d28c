package vm

import (
	"errors"
	"runtime"
	"strconv"

	"sentinel-envoy/plugins/envoyhost"
	"sentinel-envoy/shared/config"
	"sentinel-envoy/shared/engine"
)

// Handler makes the streams of one plugin.
type Handler interface {
	// NewStream returns what Envoy knows by a context's id from now on.
	NewStream(context uint32) *Base
	// OnTick is called in each tick, at the time now in nanoseconds, Idle whether it has nothing to do.
	OnTick(now int64)
	Idle() bool
	// Reload is called when the plugin's rules have changed.
	Reload() error
}

// HandlerKind makes handlers of one kind of filter.
type HandlerKind struct {
	Kind config.Kind
	// New returns the handler of a plugin whose configuration was found right.
	New func(p *Plugin) (Handler, error)
}

// Plugin is one filter with one configuration. An update of the configuration makes a new one; this then drains.
type Plugin struct {
	// Filter decides. It is nil before the plugin has its configuration.
	*engine.Filter

	dispatcher *Dispatcher
	context    uint32
	waiting    waiting
	lane       lane
	kind       HandlerKind
	text       text
	// handler is nil before the plugin has started, and while it is parked.
	handler Handler
	// number is which of the VM's plugins it is, in the order in which they have started.
	number uint64
	// used is whether it has had a stream since idleSince.
	used      bool
	idleSince int64
}

// OnStart implements envoyhost.Plugin. Where the configuration has mistakes the plugin does not start, and Envoy keeps the
// one it had.
func (p *Plugin) OnStart(size int) (started bool) {
	defer recoverPanic(func(err error) { logErrors("starting", err) })
	rootID, err := envoyhost.RootID()
	if err != nil {
		logErrors("root_id", err)
		return false
	}
	if err := p.start(rootID, size); err != nil {
		logErrors("configuration of root_id "+engine.Title(rootID, envoyhost.PluginName()), err)
		return false
	}
	period := uint32(engine.TickMs)
	if p.dispatcher.timer != nil {
		period = 0 // said all the same: Envoy must not have to make room for this timer within another's tick
	}
	if err := envoyhost.SetTickPeriod(period); err != nil {
		logErrors("tick", err)
		return false
	}
	if p.dispatcher.join(p); period > 0 {
		p.dispatcher.timer = p
	}
	p.dispatcher.rouse(p.context)
	if p.number > 1 {
		runtime.GC() // what an update leaves must not wait for the next: Wasm's memory never shrinks
	}
	return true
}

func (p *Plugin) start(rootID string, size int) error {
	kind, ok := p.dispatcher.kinds[rootID]
	if !ok {
		return errors.New("unknown root_id " + strconv.Quote(rootID) + ": this binary has sentinel_http and sentinel_tcp")
	}
	data, err := configuration(size, envoyhost.PluginConfiguration)
	if err != nil {
		return err
	}
	own, err := config.Parse(data, kind.Kind)
	if err != nil {
		return err
	}
	p.lane, p.kind, p.text = lane{rootID, envoyhost.PluginName()}, kind, p.dispatcher.texts.keep(data)
	p.Filter = p.dispatcher.engine.NewFilter(rootID, own, p.dispatcher.shared)
	p.Called(p.lane.name)
	p.follow(envoyhost.Now())
	p.handler, err = kind.New(p)
	return err
}

// OnTick implements envoyhost.Plugin.
func (p *Plugin) OnTick() {
	if p.Filter == nil {
		return
	}
	defer recoverPanic(func(err error) { p.Fault("tick", err) })
	envoyhost.Begin()
	now := envoyhost.Now()
	p.try(now, p.dispatcher.tick)
	p.try(now, p.resumeWaiting)
	p.try(now, p.dispatcher.parkIdle)
	p.try(now, p.dispatcher.adjustPace)
}

// tick does what is due in the VM, whoever keeps its time.
func (d *Dispatcher) tick(now int64) {
	d.engine.Tick(now)
	for _, p := range d.awake {
		p.try(now, p.askSource)
	}
	d.askSources(now)
	d.askStore(now)
	d.renewAll(now)
	for _, p := range d.awake {
		p.try(now, p.handler.OnTick)
	}
}

// try does one part of a tick. After a panic the others are done all the same.
func (p *Plugin) try(now int64, part func(now int64)) {
	defer recoverPanic(func(err error) { p.Fault("tick", err) })
	part(now)
}

func (p *Plugin) resumeWaiting(now int64) {
	if p.waiting.resume(p.Filter, now) {
		p.setPeriod()
	}
}

// OnDone implements envoyhost.Plugin. The timer would go on after it, on a context that is gone.
func (p *Plugin) OnDone() {
	defer recoverPanic(func(err error) { p.dispatcher.engine.Fault("draining", err) })
	if err := envoyhost.SetTickPeriod(0); err != nil {
		p.dispatcher.engine.Fault("stopping the tick", err)
	}
	if p.number > 0 {
		p.dispatcher.part(p)
		p.dispatcher.passTimer(p)
	}
	if p.Filter != nil {
		p.Drain()
	}
}

// configuration is what get returns, as JSON, or nothing where the host has nothing: it then says that it was not found.
func configuration(size int, get func() ([]byte, error)) ([]byte, error) {
	if size == 0 {
		return nil, nil
	}
	data, err := get()
	if json, ok := config.FromStruct(data); ok {
		return json, err
	}
	return data, err
}

// logErrors writes what keeps the plugin from starting, a line for each mistake.
func logErrors(where string, err error) {
	if list, ok := err.(config.Errors); ok {
		for _, e := range list {
			envoyhost.LogCritical("sentinel: " + where + ": " + e.Error())
		}
		return
	}
	envoyhost.LogCritical("sentinel: " + where + ": " + err.Error())
}
