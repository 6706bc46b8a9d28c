package http

import (
	"sentinel-envoy/plugins/envoyhost"
	"sentinel-envoy/plugins/vm"
)

// stream is one request.
type stream struct {
	vm.Base
	handler *handler
}

// OnRequestHeaders implements vm.Stream: the request enters its resource, or is answered here.
func (s *stream) OnRequestHeaders() envoyhost.Action {
	testFault()
	s.Plugin.Stream.Begin()
	name := s.handler.resolver.Resolve()
	if name == "" {
		return envoyhost.Continue
	}
	return s.Enter(name)
}

// Resume implements vm.Stream.
func (*stream) Resume() error { return envoyhost.ResumeRequest() }

// OnEnd implements vm.Stream: the request leaves its resource.
func (s *stream) OnEnd() {
	if s.Entry.InFlight() {
		s.Entry.Exit(envoyhost.Now(), s.Entry.FailureCounts() && failed(&s.Plugin.Config().Failures))
	}
	if len(s.handler.free) < maxFree {
		s.handler.free = append(s.handler.free, s)
	}
}
