// Heap is a plugin whose heap grows and shrinks on demand, for tests of a host: an HTTP and a network filter
// (root_ids heap_http and heap_tcp) that link what the real plugin links of sentinel-golang.
//
// Request header x-grow-mb: N allocates N MB (at most 512 in all) and keeps them; x-shrink: 1 lets go of everything
// and collects garbage until the runtime's scavenger is at work, on its timer. Every request is
// answered here: 200 with the number of MB kept and the count of this VM's ticks.
package main

import (
	"fmt"
	"runtime"
	"strconv"

	"github.com/alibaba/sentinel-golang/core/base"
	statbase "github.com/alibaba/sentinel-golang/core/stat/base"
	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm"
	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm/types"

	"sentinel-envoy/shared/version"
)

const (
	mb    = 1 << 20
	maxMB = 512
)

var (
	kept  [][]byte
	ticks int
	stat  = statbase.NewBucketLeapArray(2, 1000)
)

func main() {}

func init() {
	proxywasm.SetVMContext(&vm{})
}

type vm struct{ types.DefaultVMContext }

func (*vm) NewPluginContext(uint32) types.PluginContext { return &plugin{} }

type plugin struct {
	types.DefaultPluginContext
	tcp bool
}

func (p *plugin) OnPluginStart(int) types.OnPluginStartStatus {
	root, err := proxywasm.GetProperty([]string{"plugin_root_id"})
	if err != nil {
		proxywasm.LogErrorf("root_id: %v", err)
		return types.OnPluginStartStatusFailed
	}
	p.tcp = string(root) == "heap_tcp"
	proxywasm.LogInfof("%s: heap %s, commit %s", root, version.Version, version.Commit)
	if err := proxywasm.SetTickPeriodMilliSeconds(20); err != nil {
		proxywasm.LogErrorf("tick period: %v", err)
		return types.OnPluginStartStatusFailed
	}
	return types.OnPluginStartStatusOK
}

// OnTick makes some garbage, so that the collector runs without requests, too.
func (*plugin) OnTick() {
	ticks++
	runtime.KeepAlive(make([]byte, 256<<10))
}

// NewHttpContext returns nil for the network filter: the SDK then asks for a TCP context.
func (p *plugin) NewHttpContext(uint32) types.HttpContext {
	if p.tcp {
		return nil
	}
	return &request{}
}

func (*plugin) NewTcpContext(uint32) types.TcpContext { return &types.DefaultTcpContext{} }

type request struct{ types.DefaultHttpContext }

func (*request) OnHttpRequestHeaders(int, bool) types.Action {
	stat.AddCount(base.MetricEventPass, 1)
	if n := header("x-grow-mb"); n > 0 {
		grow(n)
	}
	if header("x-shrink") > 0 {
		shrink()
	}
	body := fmt.Sprintf("%d MB %d ticks %d passed\n", len(kept), ticks, stat.Count(base.MetricEventPass))
	if err := proxywasm.SendHttpResponse(200, nil, []byte(body), -1); err != nil {
		proxywasm.LogErrorf("answer: %v", err)
	}
	return types.ActionPause
}

// grow keeps n MB more, every page of them written to.
func grow(n int) {
	for ; n > 0 && len(kept) < maxMB; n-- {
		b := make([]byte, mb)
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
		kept = append(kept, b)
	}
}

// shrink lets go of everything. One collection sweeps it, the next sees a small heap and sets the scavenger's goal, the
// one after wakes the scavenger, which releases a little and sleeps on a timer: from then on the runtime polls whenever
// it starts the world.
func shrink() {
	kept = nil
	for range 4 {
		runtime.GC()
	}
}

// header returns a request header's number, 0 where there is none.
func header(name string) int {
	v, err := proxywasm.GetHttpRequestHeader(name)
	if err != nil {
		return 0
	}
	n, err := strconv.Atoi(v)
	if err != nil {
		return 0
	}
	return n
}
