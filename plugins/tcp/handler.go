// Package tcp is the network filter: it asks for each connection whether it may enter its resource, closes those that
// may not before anything reaches the upstream, and reports when the others ended.
package tcp

import (
	"sentinel-envoy/plugins/envoyhost"
	"sentinel-envoy/plugins/vm"
	"sentinel-envoy/shared/config"
	"sentinel-envoy/shared/resource"
)

// Kind is the filter with root_id sentinel_tcp.
var Kind = vm.HandlerKind{Kind: config.KindTCP, New: newHandler}

type handler struct {
	plugin   *vm.Plugin
	resolver *resource.TCP
	// closing are refused connections, still open, whose client gets a message in place of the upstream's first data.
	closing map[uint32]*connection
	spares  vm.Spares[connection]
}

func newHandler(p *vm.Plugin) (vm.Handler, error) {
	resolver, err := resource.NewTCP(p.Config(), p.Stream)
	if err != nil {
		return nil, err
	}
	p.Stream.Of(current{})
	return &handler{plugin: p, resolver: resolver, closing: map[uint32]*connection{}}, nil
}

// Reload implements vm.Handler: what is read of a connection may be read from another request.Stream.
func (h *handler) Reload() error {
	resolver, err := resource.NewTCP(h.plugin.Config(), h.plugin.Stream)
	if err == nil {
		h.plugin.Stream.Of(current{})
		resolver.Unnamed = h.resolver.Unnamed
		h.resolver = resolver
	}
	return err
}

// NewStream implements vm.Handler.
func (h *handler) NewStream(context uint32) *vm.Base {
	c := h.spares.Take()
	if c == nil {
		c = &connection{handler: h}
	}
	c.Init(h.plugin, c, context)
	c.asked, c.hasty, c.message, c.deadline = false, false, "", 0
	return &c.Base
}

// OnTick implements vm.Handler: it closes refused connections whose client has its message, or whose upstream has not
// spoken in time.
func (h *handler) OnTick(now int64) {
	for context, c := range h.closing {
		if now < c.deadline {
			continue
		}
		delete(h.closing, context)
		if err := envoyhost.SetEffectiveContext(context); err == nil {
			c.close()
		}
	}
}

// Idle implements vm.Handler.
func (h *handler) Idle() bool { return len(h.closing) == 0 }

// current is the connection whose callback is running.
type current struct{}

// Header implements request.Host.
func (current) Header(string) (string, bool) { return "", false }

// Lines implements request.Host.
func (current) Lines(dst []string, _ string) []string { return dst }

// Property implements request.Host.
func (current) Property(path []string) (string, bool) { return envoyhost.Text(path) }
