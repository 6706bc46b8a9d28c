package http

import (
	"fmt"

	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm"
	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm/types"

	"sentinel-envoy/plugins/vm"
	"sentinel-envoy/shared/engine"
)

// stream is one request.
type stream struct {
	vm.NoStream
	filter *filter
	id     uint32
	entry  engine.Entry
	place  vm.Place
}

// OnRequestHeaders implements vm.Stream: the request enters its resource, or is answered here.
func (s *stream) OnRequestHeaders() (action types.Action) {
	defer func() {
		if r := recover(); r != nil {
			action = s.refuse(s.filter.Unavailable(fmt.Errorf("panic: %v", r)), 0)
		}
	}()
	testFault()
	s.filter.Stream.Begin()
	name := s.filter.resolver.Resolve()
	if name == "" {
		return types.ActionContinue
	}
	now := s.filter.Now()
	return s.proceed(s.filter.Enter(name, now, &s.entry), now)
}

// proceed answers, forwards or holds back a request by what its entry says. While a request is held back Envoy buffers
// what there is of its body, up to the connection's buffer limit, and then stops reading.
func (s *stream) proceed(b *engine.Block, now int64) types.Action {
	until, waits := s.entry.Waiting()
	if b != nil || !waits {
		return s.refuse(b, now)
	}
	if err := s.filter.queue.Add(&s.place, s, s.id, until); err != nil {
		s.filter.Fault("waiting", err) // the next ordinary tick lets it go on
	}
	return types.ActionPause
}

// Turn implements vm.Waiter: the request has waited.
func (s *stream) Turn(now int64) {
	action := types.ActionPause
	defer func() {
		if r := recover(); r != nil {
			action = s.refuse(s.filter.Unavailable(fmt.Errorf("panic: %v", r)), 0)
		}
		if action == types.ActionContinue {
			if err := proxywasm.ResumeHttpRequest(); err != nil {
				s.filter.Fault("resuming a request", err)
			}
		}
	}()
	action = s.proceed(s.entry.Resume(now), now)
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

// OnEnd implements vm.Stream: the request leaves its resource.
func (s *stream) OnEnd() {
	defer func() {
		if r := recover(); r != nil {
			s.filter.Fault("ending a request", fmt.Errorf("panic: %v", r))
		}
	}()
	s.filter.queue.Remove(&s.place) // it must not be there when it is used for another request
	if s.entry.InFlight() {
		s.entry.Exit(s.filter.Now(), s.entry.FailureCounts() && s.filter.failed())
	}
	if len(s.filter.free) < maxFree {
		s.filter.free = append(s.filter.free, s)
	}
}
