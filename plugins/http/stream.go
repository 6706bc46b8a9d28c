package http

import (
	"fmt"

	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm/types"

	"sentinel-envoy/shared/engine"
)

// stream is one request.
type stream struct {
	types.DefaultHttpContext
	filter *filter
	entry  engine.Entry
}

// OnHttpRequestHeaders implements types.HttpContext: the request enters its resource, or is answered here.
func (s *stream) OnHttpRequestHeaders(int, bool) (action types.Action) {
	defer func() {
		if r := recover(); r != nil {
			action = s.refuse(s.filter.Unavailable(fmt.Errorf("panic: %v", r)), 0)
		}
	}()
	testFault()
	name := s.filter.resolver.Resolve(request{})
	if name == "" {
		return types.ActionContinue
	}
	now := s.filter.Now()
	return s.refuse(s.filter.Enter(name, now, &s.entry), now)
}

// refuse answers the request with why it was blocked, and lets it pass where it was not.
func (s *stream) refuse(b *engine.Block, now int64) types.Action {
	if b == nil {
		return types.ActionContinue
	}
	if err := s.filter.answer(b, now); err != nil {
		s.filter.Fault("answering", err)
	}
	return types.ActionPause
}

// OnHttpStreamDone implements types.HttpContext: the request leaves its resource.
func (s *stream) OnHttpStreamDone() {
	defer func() {
		if r := recover(); r != nil {
			s.filter.Fault("ending a request", fmt.Errorf("panic: %v", r))
		}
	}()
	if s.entry.InFlight() {
		s.entry.Exit(s.filter.Now(), s.filter.failed())
	}
	if len(s.filter.free) < maxFree {
		s.filter.free = append(s.filter.free, s)
	}
}
