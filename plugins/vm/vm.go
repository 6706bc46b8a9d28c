// Package vm is the life of the Wasm VM and of its plugins: configuration, ticks and the end.
package vm

import (
	"fmt"

	"github.com/alibaba/sentinel-golang/logging"
	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm"
	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm/types"

	"sentinel-envoy/plugins/envoyhost"
	"sentinel-envoy/shared/config"
	"sentinel-envoy/shared/engine"
	"sentinel-envoy/shared/version"
)

// Filter makes the streams of one filter.
type Filter interface {
	// NewStream returns what Envoy knows by a context's id from now on.
	NewStream(context uint32) Stream
	// OnTick is called in each tick, at the time now in nanoseconds.
	OnTick(now int64)
}

// NewFilter makes a filter of an engine's filter whose configuration was found right.
type NewFilter struct {
	Kind config.Kind
	Make func(e *Engine) (Filter, error)
}

// Engine is a filter of the engine with the clock that its callbacks need.
type Engine struct {
	*engine.Filter
	host *envoyhost.Host
}

// Now is the monotonic time in nanoseconds. It is a call to the host: take one a callback.
func (e *Engine) Now() int64 { return e.host.Now() }

// vmContext is the VM of one worker.
type vmContext struct {
	types.DefaultVMContext
	filters map[string]NewFilter
	host    *envoyhost.Host
	engine  *engine.VM
	shared  *config.Config

	// plugins are those that live, by their contexts' ids; last is the one that had a stream last.
	plugins map[uint32]*plugin
	last    *plugin
	streams streams
	// ended is the stream that ended last.
	ended uint32
}

// current is the one VM there is: Envoy's callbacks have only numbers.
var current *vmContext

// New returns the VM's context. filters are the filters it has, by root_id.
func New(filters map[string]NewFilter) types.VMContext {
	// The only error is of a nil logger.
	_ = logging.ResetGlobalLogger(envoyhost.SentinelLogger{})
	h := &envoyhost.Host{}
	current = &vmContext{
		filters: filters, host: h, engine: engine.New(h, version.Version+" ("+version.Commit+")"),
		plugins: map[uint32]*plugin{},
	}
	return current
}

// OnVMStart reads the VM's configuration. Envoy calls it once for each plugin, each time with the same one.
func (v *vmContext) OnVMStart(size int) types.OnVMStartStatus {
	if v.shared != nil {
		return types.OnVMStartStatusOK
	}
	data, err := configuration(size, proxywasm.GetVMConfiguration)
	if err == nil {
		v.shared, err = config.Parse(data, config.KindVM)
	}
	if err != nil {
		complain("vm_config.configuration", err)
		return types.OnVMStartStatusFailed
	}
	return types.OnVMStartStatusOK
}

// NewPluginContext is called for each plugin configuration. Which filter it is, its root_id tells when it starts.
func (v *vmContext) NewPluginContext(id uint32) types.PluginContext {
	p := &plugin{vm: v, id: id}
	v.plugins[id] = p
	return p
}

// create makes the stream of a new context of a plugin. One that has not started has no streams.
func (v *vmContext) create(context, root uint32) {
	if v.last == nil || v.last.id != root {
		p := v.plugins[root]
		if p == nil || p.filter == nil {
			return
		}
		v.last = p
	}
	v.streams.put(context, v.last.filter.NewStream(context))
}

// end ends the stream of a context, and reports whether there was one, or the last that ended was it.
func (v *vmContext) end(context uint32) bool {
	s := v.streams.take(context)
	if s == nil {
		return context == v.ended
	}
	v.ended = context
	s.OnEnd()
	return true
}

func (v *vmContext) isPlugin(context uint32) bool { return v.plugins[context] != nil }

// forget drops a plugin that is done.
func (v *vmContext) forget(context uint32) {
	delete(v.plugins, context)
	v.last = nil
}

// plugin is one filter with one configuration. An update of the configuration makes a new one; this then drains.
type plugin struct {
	types.DefaultPluginContext
	vm     *vmContext
	id     uint32
	engine *Engine
	filter Filter
}

// OnPluginStart reads the plugin's configuration. Where that has mistakes the filter does not start, and Envoy keeps the
// one it had.
func (p *plugin) OnPluginStart(size int) (status types.OnPluginStartStatus) {
	defer func() {
		if r := recover(); r != nil {
			complain("starting", fmt.Errorf("panic: %v", r))
			status = types.OnPluginStartStatusFailed
		}
	}()
	rootID, err := proxywasm.GetProperty([]string{"plugin_root_id"})
	if err != nil {
		complain("root_id", err)
		return types.OnPluginStartStatusFailed
	}
	if err := p.start(string(rootID), size); err != nil {
		complain("configuration of root_id "+string(rootID), err)
		return types.OnPluginStartStatusFailed
	}
	if err := proxywasm.SetTickPeriodMilliSeconds(engine.TickMs); err != nil {
		complain("tick", err)
		return types.OnPluginStartStatusFailed
	}
	return types.OnPluginStartStatusOK
}

func (p *plugin) start(rootID string, size int) error {
	kind, ok := p.vm.filters[rootID]
	if !ok {
		return fmt.Errorf("unknown root_id %q: this binary has sentinel_http and sentinel_tcp", rootID)
	}
	data, err := configuration(size, proxywasm.GetPluginConfiguration)
	if err != nil {
		return err
	}
	own, err := config.Parse(data, kind.Kind)
	if err != nil {
		return err
	}
	p.engine = &Engine{Filter: p.vm.engine.NewFilter(rootID, own, p.vm.shared), host: p.vm.host}
	p.filter, err = kind.Make(p.engine)
	return err
}

// OnTick implements types.PluginContext.
func (p *plugin) OnTick() {
	if p.filter == nil {
		return
	}
	defer func() {
		if r := recover(); r != nil {
			p.vm.engine.Fault("tick", fmt.Errorf("panic: %v", r))
		}
	}()
	envoyhost.Begin()
	now := p.vm.host.Now()
	p.vm.engine.Tick(now)
	p.askSource(now)
	p.filter.OnTick(now)
}

// OnPluginDone implements types.PluginContext. The timer would go on after it, on a context that is gone.
func (p *plugin) OnPluginDone() bool {
	if err := proxywasm.SetTickPeriodMilliSeconds(0); err != nil {
		p.vm.engine.Fault("stopping the tick", err)
	}
	if p.engine != nil {
		p.engine.Drain()
	}
	return true
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

// complain writes what keeps the plugin from starting, a line for each mistake.
func complain(where string, err error) {
	if list, ok := err.(config.Errors); ok {
		for _, e := range list {
			proxywasm.LogCritical("sentinel: " + where + ": " + e.Error())
		}
		return
	}
	proxywasm.LogCritical("sentinel: " + where + ": " + err.Error())
}
