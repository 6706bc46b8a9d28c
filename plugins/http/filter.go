// Package http is the HTTP filter: it asks for each request whether it may enter its resource, answers those that may
// not, and tells how the others ended.
package http

import (
	"sentinel-envoy/plugins/envoyhost"
	"sentinel-envoy/plugins/vm"
	"sentinel-envoy/shared/config"
	"sentinel-envoy/shared/resource"
)

// New makes the filter with root_id sentinel_http.
var New = vm.NewFilter{Kind: config.KindHTTP, Make: newFilter}

type filter struct {
	*vm.Engine
	resolver *resource.HTTP
	// free are streams that are over, for reuse: a request allocates none.
	free []*stream
	// queue are the requests that wait for their turn.
	queue vm.Queue
}

// maxFree bounds the streams kept for reuse.
const maxFree = 1024

func newFilter(e *vm.Engine) (vm.Filter, error) {
	cfg := e.Config()
	resolver, err := resource.NewHTTP(cfg, e.PathResources(), e.Stream)
	if err != nil {
		return nil, err
	}
	e.Stream.Of(current{})
	return &filter{Engine: e, resolver: resolver}, nil
}

// NewStream implements vm.Filter.
func (f *filter) NewStream(id uint32) vm.Stream {
	if n := len(f.free); n > 0 {
		s := f.free[n-1]
		f.free = f.free[:n-1]
		s.id = id
		return s
	}
	return &stream{filter: f, id: id}
}

// OnTick implements vm.Filter: it lets requests go on whose turn it is.
func (f *filter) OnTick(now int64) {
	testFaultTick()
	f.queue.Tick(f.Engine, now)
}

// current is the request of the stream whose callback is running.
type current struct{}

// Header implements request.Host.
func (current) Header(name string) (string, bool) { return envoyhost.RequestHeader(name) }

// Property implements request.Host.
func (current) Property(path []string) (string, bool) { return envoyhost.Text(path) }
