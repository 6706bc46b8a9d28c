package envoyhost

import (
	_ "unsafe" // for go:linkname

	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm"
	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm/types"
)

//go:linkname sdkContextCreate github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm/internal.proxyOnContextCreate
func sdkContextCreate(context, root uint32)

//go:linkname sdkDone github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm/internal.proxyOnDone
func sdkDone(context uint32) bool

//go:linkname sdkDelete github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm/internal.proxyOnDelete
func sdkDelete(context uint32)

func createPlugin(context uint32) { sdkContextCreate(context, 0) }

// endPlugin does not wait for the SDK to hear of the context's deletion: that would cost another callback for each stream.
func endPlugin(context uint32) {
	sdkDone(context)
	sdkDelete(context)
}

func register(vm VM) { proxywasm.SetVMContext(&vmContext{vm: vm}) }

// vmContext is a VM in the SDK's terms.
type vmContext struct {
	types.DefaultVMContext
	vm VM
}

// OnVMStart implements types.VMContext.
func (c *vmContext) OnVMStart(size int) types.OnVMStartStatus {
	return types.OnVMStartStatus(c.vm.OnStart(size))
}

// NewPluginContext implements types.VMContext.
func (c *vmContext) NewPluginContext(id uint32) types.PluginContext {
	return &pluginContext{plugin: c.vm.NewPlugin(id)}
}

// pluginContext is a Plugin in the SDK's terms.
type pluginContext struct {
	types.DefaultPluginContext
	plugin Plugin
}

// OnPluginStart implements types.PluginContext.
func (c *pluginContext) OnPluginStart(size int) types.OnPluginStartStatus {
	return types.OnPluginStartStatus(c.plugin.OnStart(size))
}

// OnTick implements types.PluginContext.
func (c *pluginContext) OnTick() { c.plugin.OnTick() }

// OnPluginDone implements types.PluginContext.
func (c *pluginContext) OnPluginDone() bool {
	c.plugin.OnDone()
	return true
}

func vmConfiguration() ([]byte, error) { return proxywasm.GetVMConfiguration() }

func pluginConfiguration() ([]byte, error) { return proxywasm.GetPluginConfiguration() }

func logCritical(message string) { proxywasm.LogCritical(message) }

func setTickPeriod(ms uint32) error { return proxywasm.SetTickPeriodMilliSeconds(ms) }

func setEffectiveContext(context uint32) error { return proxywasm.SetEffectiveContext(context) }

func resumeRequest() error { return proxywasm.ResumeHttpRequest() }

func resumeConnection() error { return proxywasm.ContinueTcpStream() }

func closeDownstream() error { return proxywasm.CloseDownstream() }

func replaceUpstreamData(data []byte) error { return proxywasm.ReplaceUpstreamData(data) }

func callHTTP(
	cluster string, headers [][2]string, body string, timeoutMs uint32, answered func(headers, size int),
) error {
	_, err := proxywasm.DispatchHttpCall(cluster, headers, []byte(body), nil, timeoutMs,
		func(headers, size, _ int) { answered(headers, size) })
	return err
}

func callHeaders() ([][2]string, error) { return proxywasm.GetHttpCallResponseHeaders() }

func callBody(size int) ([]byte, error) { return proxywasm.GetHttpCallResponseBody(0, size) }
