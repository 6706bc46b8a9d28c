package outcome

import "strings"

// HTTPEnd is what Envoy knows of a request at its end. Methods may cost a call to the host: Failures.HTTP calls no more of
// them than it needs.
type HTTPEnd interface {
	// Details is Envoy's response.code_details: what made the response, or ended it; "" where it says nothing.
	Details() string
	// Status is the response's HTTP status, 0 where there was no response.
	Status() int64
	// GRPCStatus is the response's grpc-status, and whether it has one.
	GRPCStatus() (status uint64, ok bool)
	// ResponseBytes are the bytes of its body that went to the client's connection.
	ResponseBytes() int64
	// Attempts is how often Envoy chose an upstream for the request.
	Attempts() int64
	// RequestComplete is whether the client had sent all of the request.
	RequestComplete() bool
	// Answered is whether a response had begun, be it the upstream's or Envoy's.
	Answered() bool
	// WaitMs is the time in milliseconds from the last that the client had sent before the response began, to there, or to
	// the end where none began.
	WaitMs() int64
}

// cause is what ended a request.
type cause uint8

const (
	elsewhere   cause = iota // another filter, the operator's configuration, or a client that broke the protocol
	byUpstream               // the upstream's response came to its end
	upstreamOut              // the upstream could not be reached, or broke off
	timeout                  // a time-out passed
	gaveUp                   // the client left, or an operator's limit on durations was reached
)

// causeOf is what Envoy's details name. What is not here was done by other filters, or by what a client sent.
func causeOf(details string) cause {
	if details == "via_upstream" {
		return byUpstream // nearly all are
	}
	name, reason := splitReason(details)
	switch name {
	case "via_upstream":
		return byUpstream
	case "upstream_reset_before_response_started", "upstream_reset_after_response_started", "no_healthy_upstream":
		if strings.HasPrefix(reason, "overflow") || strings.HasPrefix(reason, "overload_manager") {
			return elsewhere // limits of Envoy's own kept the request from its upstream
		}
		return upstreamOut
	case "response_timeout", "upstream_per_try_timeout", "upstream_per_try_idle_timeout", "stream_idle_timeout":
		return timeout
	case "downstream_remote_disconnect", "http2.remote_reset", "http2.remote_refuse", "http3.remote_reset",
		"http3.remote_refuse", "max_duration_timeout", "upstream_max_stream_duration_reached",
		"": // since Envoy 1.40 a client's reset with NO_ERROR
		return gaveUp
	}
	return elsewhere
}

// splitReason splits Envoy's details from the reason that they may have in brackets.
func splitReason(details string) (name, reason string) {
	for i := range len(details) {
		if c := details[i]; c == '{' || c == '(' {
			return details[:i], details[i+1:]
		}
	}
	return details, ""
}

// HTTP says how a request ended, by what counts as a failure.
func (f *Failures) HTTP(e HTTPEnd) End {
	c := causeOf(e.Details())
	switch {
	case c == byUpstream:
		return End{Outcome: f.answered(e), ResponseMs: e.WaitMs()}
	case c == elsewhere:
		return End{ResponseMs: NoTime}
	case upgraded(e):
		return End{Outcome: Well, ResponseMs: e.WaitMs()}
	case c == upstreamOut, c == timeout && upstreamsTurn(e):
		return End{Outcome: f.broken(e), ResponseMs: e.WaitMs()}
	case begun(e):
		return End{ResponseMs: e.WaitMs()}
	case c == gaveUp && e.RequestComplete() && e.Attempts() > 0:
		return f.inVain(e.WaitMs())
	}
	return End{ResponseMs: NoTime}
}

// answered is the outcome of a response that has all its parts.
func (f *Failures) answered(e HTTPEnd) Outcome {
	if !f.Status.Empty() && f.Status.Has(e.Status()) {
		return Badly
	}
	if f.GRPC != 0 {
		if status, ok := e.GRPCStatus(); ok && f.GRPC.Has(status) {
			return Badly
		}
	}
	return Well
}

// broken is the outcome of a response that broke off or never came, for a cause that is the upstream's. Where that shall
// not count, the status may with which Envoy answered for it, or the upstream had.
func (f *Failures) broken(e HTTPEnd) Outcome {
	switch {
	case f.Resets || f.answered(e) == Badly:
		return Badly
	case begun(e):
		return Well
	}
	return Silent
}

// upgraded is whether a WebSocket, or the like, was opened: how it ends is between the peers.
func upgraded(e HTTPEnd) bool {
	const switchingProtocols = 101
	return e.Answered() && e.Status() == switchingProtocols
}

// begun is whether the upstream's response had begun. Envoy's own, for a cause that is not elsewhere, have certain statuses;
// and a gRPC response that has its status already has also ended.
func begun(e HTTPEnd) bool {
	const requestTimeout, unavailable, gatewayTimeout = 408, 503, 504
	if !e.Answered() {
		return false
	}
	switch e.Status() {
	case requestTimeout, unavailable, gatewayTimeout:
		return false
	}
	_, ended := e.GRPCStatus()
	return !ended
}

// surelySent is a size in bytes that Envoy passes on even to a client that does not read: the buffers on the way are larger.
// Where a response stops beyond it, the client may be what Envoy waits for.
const surelySent = 16 << 10

// upstreamsTurn is whether Envoy was waiting for the upstream, and surely not for the client.
func upstreamsTurn(e HTTPEnd) bool {
	return e.RequestComplete() && (!begun(e) || e.ResponseBytes() < surelySent)
}

// inVain is the end of a stream whose client waited for the service for so many milliseconds, and then no longer.
func (f *Failures) inVain(ms int64) End {
	end := End{ResponseMs: ms, GaveUp: true}
	if f.AbandonedAfterMs > 0 && ms >= int64(f.AbandonedAfterMs) {
		end.Outcome = Badly
	}
	return end
}

// Times is what HTTP says where nobody asks whether a request failed: whatever the upstream did was well.
func Times(e HTTPEnd) End {
	all := Failures{Resets: true}
	end := all.HTTP(e)
	if end.Outcome == Badly {
		end.Outcome = Well
	}
	return end
}

// Began is how a request ends whose response has begun, if that goes on as it began. It is false where the response is not
// the upstream's: that tells at its end.
func (f *Failures) Began(e HTTPEnd) (o Outcome, ok bool) {
	if causeOf(e.Details()) != byUpstream {
		return Silent, false
	}
	return f.answered(e), true
}
