// Package http is the HTTP filter: it asks for each request whether it may enter its resource, answers those that may
// not, and reports how the others ended.
package http

import (
	"sentinel-envoy/plugins/envoyhost"
	"sentinel-envoy/plugins/vm"
	"sentinel-envoy/shared/config"
	"sentinel-envoy/shared/resource"
)

// Kind is the filter with root_id sentinel_http.
var Kind = vm.HandlerKind{Kind: config.KindHTTP, New: newHandler}

type handler struct {
	plugin   *vm.Plugin
	resolver *resource.HTTP
	ending   ending
	// answers are the filter's, others those of rules and resources that say something else.
	answers answers
	others  map[said]*answers
	quotas  quotas
	// exceeded is memory for what the upstream is told.
	exceeded []byte
	spares   vm.Spares[stream]
}

func newHandler(p *vm.Plugin) (vm.Handler, error) {
	resolver, err := resource.NewHTTP(p.Config(), p.Resources(), p.Stream)
	if err != nil {
		return nil, err
	}
	p.Stream.Of(current{})
	return &handler{plugin: p, resolver: resolver, answers: *newAnswers(p, &p.Config().Block.Block)}, nil
}

// Reload implements vm.Handler: rules name resources.
func (h *handler) Reload() error {
	resolver, err := resource.NewHTTP(h.plugin.Config(), h.plugin.Resources(), h.plugin.Stream)
	if err == nil {
		h.plugin.Stream.Of(current{})
		h.resolver, h.others = resolver, nil
	}
	return err
}

// NewStream implements vm.Handler.
func (h *handler) NewStream(context uint32) *vm.Base {
	s := h.spares.Take()
	if s == nil {
		s = &stream{handler: h}
	}
	s.Init(h.plugin, s, context)
	s.complete, s.inTrailers = false, false
	return &s.Base
}

// OnTick implements vm.Handler.
func (*handler) OnTick(int64) { testFaultTick() }

// Idle implements vm.Handler.
func (*handler) Idle() bool { return true }

// current is the request of the stream whose callback is running.
type current struct{}

// Header implements request.Host.
func (current) Header(name string) (string, bool) { return envoyhost.RequestHeader(name) }

// Lines implements request.Host.
func (current) Lines(dst []string, name string) []string {
	return envoyhost.RequestHeaderLines(dst, name)
}

// Property implements request.Host.
func (current) Property(path []string) (string, bool) { return envoyhost.Text(path) }
