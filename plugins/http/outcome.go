package http

import (
	"strconv"

	"sentinel-envoy/plugins/envoyhost"
	"sentinel-envoy/shared/outcome"
)

// outcome is how the request ends, at the time now in nanoseconds. Each thing that Envoy must be asked for costs as much as
// all else that is done for a request, so nobody asks for what no rule looks at.
func (s *stream) outcome(now int64) outcome.End {
	switch e := s.ending(now); {
	case s.Entry.FailureCounts():
		return s.Plugin.Config().Failures.HTTP(e)
	case s.Entry.TimeCounts():
		return outcome.Times(e)
	case s.Entry.HasAnswer():
		return outcome.End{Outcome: outcome.Well, ResponseMs: e.WaitMs()}
	}
	return outcome.End{ResponseMs: outcome.NoTime}
}

// ending is a request at its end, or where its response begins, as Envoy tells of it.
type ending struct {
	*stream
	now int64
}

var _ outcome.HTTPEnd = (*ending)(nil)

// ending is the handler's one: it is void with the next call.
func (s *stream) ending(now int64) *ending {
	s.handler.ending = ending{s, now}
	return &s.handler.ending
}

var (
	codeDetails  = []string{"response", "code_details"}
	responseSize = []string{"response", "size"}
	attempts     = []string{"upstream", "request_attempt_count"}
)

// Details implements outcome.HTTPEnd.
func (*ending) Details() string {
	details, _ := envoyhost.Text(codeDetails)
	return details
}

// Status implements outcome.HTTPEnd. Envoy's property response.code has it too, for twice the time.
func (*ending) Status() int64 {
	status, _ := number(envoyhost.ResponseHeader(":status"))
	return int64(status)
}

const grpcStatusName = "grpc-status"

// GRPCStatus implements outcome.HTTPEnd: it is in the response's trailers or, where it has nothing else, its headers. Envoy's
// property response.grpc_status is of no use: for a plain HTTP response it makes a gRPC status of the HTTP status.
func (e *ending) GRPCStatus() (status uint64, ok bool) {
	if e.inTrailers {
		return e.grpc, true
	}
	return number(envoyhost.ResponseHeader(grpcStatusName))
}

// ResponseBytes implements outcome.HTTPEnd.
func (*ending) ResponseBytes() int64 {
	size, _ := envoyhost.Int(responseSize)
	return size
}

// Attempts implements outcome.HTTPEnd.
func (*ending) Attempts() int64 {
	n, _ := envoyhost.Int(attempts)
	return n
}

// RequestComplete implements outcome.HTTPEnd.
func (e *ending) RequestComplete() bool { return e.complete }

// Answered implements outcome.HTTPEnd.
func (e *ending) Answered() bool { return e.Entry.HasAnswer() }

// WaitMs implements outcome.HTTPEnd.
func (e *ending) WaitMs() int64 { return e.Entry.WaitMs(e.now) }

// number is a header's value as a small number.
func number(text string, there bool) (n uint64, ok bool) {
	if !there {
		return 0, false
	}
	n, err := strconv.ParseUint(text, 10, 16)
	return n, err == nil
}
