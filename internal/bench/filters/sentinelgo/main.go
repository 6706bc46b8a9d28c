// Command sentinelgo guards requests with sentinel-golang's own Entry and Exit and one flow rule, the way a service in
// Go would. Its budget is the worker's own. The plugin's configuration is {"threshold": requests per second}.
package main

import (
	"encoding/json"

	"github.com/alibaba/sentinel-golang/api"
	"github.com/alibaba/sentinel-golang/core/base"
	"github.com/alibaba/sentinel-golang/core/flow"
	"github.com/alibaba/sentinel-golang/logging"
	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm"
	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm/types"
)

func main() {}

func init() { proxywasm.SetVMContext(&vm{}) }

type vm struct{ types.DefaultVMContext }

func (*vm) NewPluginContext(uint32) types.PluginContext { return &plugin{} }

type plugin struct {
	types.DefaultPluginContext

	resource string
}

// OnPluginStart loads the rule. A resource is named for its threshold, so that plugins of one VM do not share a rule.
func (p *plugin) OnPluginStart(int) types.OnPluginStartStatus {
	logging.ResetGlobalLoggerLevel(logging.ErrorLevel)
	configuration, err := proxywasm.GetPluginConfiguration()
	if err != nil {
		proxywasm.LogErrorf("configuration: %v", err)
		return types.OnPluginStartStatusFailed
	}
	var rule struct{ Threshold float64 }
	if err := json.Unmarshal(configuration, &rule); err != nil {
		proxywasm.LogErrorf("configuration: %v", err)
		return types.OnPluginStartStatusFailed
	}
	p.resource = "bench-" + string(configuration)
	_, err = flow.LoadRulesOfResource(p.resource, []*flow.Rule{{
		Resource:               p.resource,
		Threshold:              rule.Threshold,
		TokenCalculateStrategy: flow.Direct,
		ControlBehavior:        flow.Reject,
		StatIntervalInMs:       1000,
	}})
	if err != nil {
		proxywasm.LogErrorf("rule: %v", err)
		return types.OnPluginStartStatusFailed
	}
	return types.OnPluginStartStatusOK
}

func (p *plugin) NewHttpContext(uint32) types.HttpContext { return &stream{resource: p.resource} }

type stream struct {
	types.DefaultHttpContext

	resource string
	entry    *base.SentinelEntry
}

func (s *stream) OnHttpRequestHeaders(int, bool) types.Action {
	entry, blocked := api.Entry(s.resource, api.WithTrafficType(base.Inbound))
	if blocked == nil {
		s.entry = entry
		return types.ActionContinue
	}
	if err := proxywasm.SendHttpResponse(429, nil, []byte(blocked.Error()), -1); err != nil {
		proxywasm.LogErrorf("local reply: %v", err)
	}
	return types.ActionPause
}

func (s *stream) OnHttpStreamDone() {
	if s.entry != nil {
		s.entry.Exit()
	}
}
