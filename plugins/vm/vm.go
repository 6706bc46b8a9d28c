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

// Filter makes the contexts of one filter's streams. One of the two returns nil.
type Filter interface {
	NewHttpContext(contextID uint32) types.HttpContext
	NewTcpContext(contextID uint32) types.TcpContext
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
}

// New returns the VM's context. filters are the filters it has, by root_id.
func New(filters map[string]NewFilter) types.VMContext {
	// The only error is of a nil logger.
	_ = logging.ResetGlobalLogger(envoyhost.SentinelLogger{})
	h := &envoyhost.Host{}
	return &vmContext{filters: filters, host: h, engine: engine.New(h, version.Version+" ("+version.Commit+")")}
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
func (v *vmContext) NewPluginContext(uint32) types.PluginContext { return &plugin{vm: v} }

// plugin is one filter with one configuration. An update of the configuration makes a new one; this then drains.
type plugin struct {
	types.DefaultPluginContext
	vm     *vmContext
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

// NewHttpContext implements types.PluginContext.
func (p *plugin) NewHttpContext(id uint32) types.HttpContext {
	if p.filter == nil {
		return nil
	}
	return p.filter.NewHttpContext(id)
}

// NewTcpContext implements types.PluginContext.
func (p *plugin) NewTcpContext(id uint32) types.TcpContext {
	if p.filter == nil {
		return &types.DefaultTcpContext{} // neither: the SDK would panic
	}
	return p.filter.NewTcpContext(id)
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
