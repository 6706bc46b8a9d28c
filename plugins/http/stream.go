package http

import (
	"sentinel-envoy/plugins/envoyhost"
	"sentinel-envoy/plugins/vm"
	"sentinel-envoy/shared/outcome"
	"sentinel-envoy/shared/percent"
)

// stream is one request.
type stream struct {
	vm.Base
	handler *handler
	// complete is whether the client has sent all of it.
	complete bool
	// grpc is the status in the response's trailers, where inTrailers. They may be gone at the end.
	grpc       uint64
	inTrailers bool
}

// OnRequestHeaders implements vm.Stream: the request enters its resource, or is answered here.
func (s *stream) OnRequestHeaders(last bool) envoyhost.Action {
	testFault()
	s.complete = last
	if h, ok := s.Plugin.Current().(*handler); ok {
		s.handler = h
	}
	if s.Plugin.Annotates() {
		s.check("removing "+exceededName, envoyhost.RemoveRequestHeader(exceededName)) // a client's word is nobody's
	}
	s.Plugin.Stream.Begin()
	return s.Enter(s.handler.resolver.Resolve())
}

// exceededName is the header by which the upstream is told which rules a request has exceeded.
const exceededName = "x-sentinel-exceeded"

// plainInList are the bytes that stand for themselves in an id that exceededName lists.
var plainInList = percent.Printable.Without(",")

// Annotate implements vm.Stream.
func (s *stream) Annotate(rules []string) {
	text := s.handler.exceeded[:0]
	for i, id := range rules {
		if i > 0 {
			text = append(text, ", "...)
		}
		text = percent.Append(text, id, &plainInList)
	}
	s.handler.exceeded = text
	envoyhost.NameExceeded(text)
	s.check("setting "+exceededName, envoyhost.SetRequestHeader(exceededName, text))
}

func (s *stream) check(what string, err error) {
	if err != nil {
		s.Plugin.Fault(what, err)
	}
}

// Resume implements vm.Stream.
func (*stream) Resume() error { return envoyhost.ResumeRequest() }

// OnRequestData implements vm.Stream: it is the client's time until now.
func (s *stream) OnRequestData(last bool) envoyhost.Action {
	if s.Waits() || s.Refused() {
		return envoyhost.Pause
	}
	s.complete = last
	if s.Entry.InFlight() && !s.Entry.HasAnswer() {
		s.Entry.Sent(envoyhost.Now())
	}
	return envoyhost.Continue
}

// OnResponseHeaders implements vm.Stream: it was the upstream's time until now.
func (s *stream) OnResponseHeaders() {
	if !s.Entry.InFlight() {
		return
	}
	now := envoyhost.Now()
	s.Entry.Answered(now)
	if s.Entry.AwaitsStatus() { // before the client is told what is left
		s.tell(now)
	}
	if s.Plugin.Quotes() {
		for _, l := range s.handler.quotas.write(s, now) {
			s.check("setting "+l.name, envoyhost.SetResponseHeader(l.name, l.value))
		}
	}
	if !s.Entry.AwaitsAnswer() {
		return
	}
	if o, ok := s.Plugin.Config().Failures.Began(s.ending(now)); ok {
		s.Entry.Answers(o, now)
	}
}

// tell tells the rules that ask for it what the response's headers say of the answer.
func (s *stream) tell(now int64) {
	e := s.ending(now)
	a := outcome.Answer{Status: e.Status()}
	if s.Entry.AwaitsGRPCStatus() {
		a.GRPC, a.HasGRPC = e.GRPCStatus()
	}
	s.Entry.Status(a, now)
}

// OnResponseTrailers implements vm.Stream.
func (s *stream) OnResponseTrailers() {
	awaited := s.Entry.AwaitsGRPCStatus()
	if !awaited && !s.Entry.FailureCounts() {
		return
	}
	s.grpc, s.inTrailers = number(envoyhost.ResponseTrailer(grpcStatusName))
	if awaited && s.inTrailers {
		s.Entry.Status(outcome.Answer{GRPC: s.grpc, HasGRPC: true}, envoyhost.Now())
	}
}

// OnEnd implements vm.Stream: the request leaves its resource.
func (s *stream) OnEnd() {
	if s.Entry.InFlight() {
		now := s.endsAt()
		s.Entry.Exit(now, s.outcome(now))
	}
	s.handler.spares.Put(s)
}

// endsAt is the time, where the end's matters: mostly the answer's has told all.
func (s *stream) endsAt() int64 {
	if s.Entry.HasAnswer() && !s.Entry.TimeCounts() {
		return s.Entry.Recent()
	}
	return envoyhost.Now()
}
