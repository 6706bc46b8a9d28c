// Package tcp is the network filter: it asks for each connection whether it may enter its resource, closes those that
// may not before anything reaches the upstream, and tells when the others ended.
package tcp

import (
	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm"

	"sentinel-envoy/plugins/envoyhost"
	"sentinel-envoy/plugins/vm"
	"sentinel-envoy/shared/config"
	"sentinel-envoy/shared/resource"
)

// New makes the filter with root_id sentinel_tcp.
var New = vm.NewFilter{Kind: config.KindTCP, Make: newFilter}

type filter struct {
	*vm.Engine
	resolver *resource.TCP
	// waiting are blocked connections, still open, whose client gets a message in place of the upstream's first data.
	waiting map[uint32]*connection
	// queue are the connections that wait for their turn.
	queue vm.Queue
}

func newFilter(e *vm.Engine) (vm.Filter, error) {
	cfg := e.Config()
	resolver, err := resource.NewTCP(cfg, e.Stream)
	if err != nil {
		return nil, err
	}
	e.Stream.Of(current{})
	return &filter{Engine: e, resolver: resolver, waiting: map[uint32]*connection{}}, nil
}

// NewStream implements vm.Filter.
func (f *filter) NewStream(id uint32) vm.Stream { return &connection{filter: f, id: id} }

// OnTick implements vm.Filter: it lets connections go on whose turn it is, and closes blocked connections whose client has
// its message, or whose upstream has not spoken in time.
func (f *filter) OnTick(now int64) {
	f.queue.Tick(f.Engine, now)
	for id, c := range f.waiting {
		if now < c.deadline {
			continue
		}
		delete(f.waiting, id)
		if err := proxywasm.SetEffectiveContext(id); err == nil {
			c.close()
		}
	}
}

// current is the connection whose callback is running.
type current struct{}

// Header implements request.Host.
func (current) Header(string) (string, bool) { return "", false }

// Property implements request.Host.
func (current) Property(path []string) (string, bool) { return envoyhost.Text(path) }
