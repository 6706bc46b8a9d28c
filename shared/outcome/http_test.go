package outcome_test

import (
	"testing"

	"sentinel-envoy/shared/outcome"
)

// request is the end of a request as Envoy tells of it.
type request struct {
	details  string
	status   int64
	grpc     int64 // −1: none
	bytes    int64
	attempts int64
	complete bool
	answered bool
}

const waited = 700 // ms

func (r request) Details() string            { return r.details }
func (r request) Status() int64              { return r.status }
func (r request) GRPCStatus() (uint64, bool) { return uint64(r.grpc), r.grpc >= 0 }
func (r request) ResponseBytes() int64       { return r.bytes }
func (r request) Attempts() int64            { return r.attempts }
func (r request) RequestComplete() bool      { return r.complete }
func (r request) Answered() bool             { return r.answered }
func (r request) WaitMs() int64              { return waited }

// The builders below say what a row differs in from a complete request that an upstream was chosen for.

func ends(details string, status int64) request {
	return request{details: details, status: status, grpc: -1, attempts: 1, complete: true, answered: status != 0}
}

func (r request) incomplete() request           { r.complete = false; return r }
func (r request) nowhere() request              { r.attempts = 0; return r }
func (r request) sent(bytes int64) request      { r.bytes = bytes; return r }
func (r request) grpcStatus(grpc int64) request { r.grpc = grpc; return r }

// httpEnds are the ends of requests as Envoy 1.36 to 1.40 tell of them. A time of 0 is none.
var httpEnds = []struct {
	name string
	end  request
	want outcome.Outcome
	time int64
	gave bool
}{
	{"answered", ends("via_upstream", 200), outcome.Well, waited, false},
	{"not found", ends("via_upstream", 404), outcome.Well, waited, false},
	{"answered 500", ends("via_upstream", 500), outcome.Badly, waited, false},
	{"answered 503 at every try", ends("via_upstream", 503), outcome.Badly, waited, false},
	{"answered 408 by the upstream", ends("via_upstream", 408), outcome.Well, waited, false},
	{"answered before the request was complete", ends("via_upstream", 200).incomplete(), outcome.Well, waited, false},
	{"a large answer", ends("via_upstream", 200).sent(1 << 30), outcome.Well, waited, false},
	{"gRPC OK", ends("via_upstream", 200).grpcStatus(0), outcome.Well, waited, false},
	{"gRPC NOT_FOUND", ends("via_upstream", 200).grpcStatus(5), outcome.Well, waited, false},
	{"gRPC UNAVAILABLE", ends("via_upstream", 200).grpcStatus(14), outcome.Badly, waited, false},

	{"refused", ends("upstream_reset_before_response_started{remote_connection_failure|delayed_connect_error:_111}", 503), outcome.Badly, waited, false},
	{"refused, incomplete", ends("upstream_reset_before_response_started{remote_connection_failure}", 503).incomplete(), outcome.Badly, waited, false},
	{"refused, gRPC", ends("upstream_reset_before_response_started{remote_connection_failure}", 200).grpcStatus(14), outcome.Badly, waited, false},
	{"connect time-out", ends("upstream_reset_before_response_started{connection_timeout}", 503), outcome.Badly, waited, false},
	{"reset before headers", ends("upstream_reset_before_response_started{connection_termination}", 503), outcome.Badly, waited, false},
	{"RST_STREAM before headers", ends("upstream_reset_before_response_started{remote_reset}", 503), outcome.Badly, waited, false},
	{"reset after headers", ends("upstream_reset_after_response_started{connection_termination}", 200).sent(5), outcome.Badly, waited, false},
	{"broke the protocol after headers", ends("upstream_reset_after_response_started{protocol_error}", 200), outcome.Badly, waited, false},
	{"no healthy upstream", ends("no_healthy_upstream", 503), outcome.Badly, waited, false},
	{"route time-out", ends("response_timeout", 504), outcome.Badly, waited, false},
	{"route time-out, gRPC", ends("response_timeout", 200).grpcStatus(4), outcome.Badly, waited, false},
	{"route time-out amid the answer", ends("response_timeout", 200).sent(5), outcome.Badly, waited, false},
	{"per-try time-out", ends("upstream_per_try_timeout", 504), outcome.Badly, waited, false},
	{"per-try idle time-out", ends("upstream_per_try_idle_timeout", 504), outcome.Badly, waited, false},
	{"idle time-out of a service that hangs", ends("stream_idle_timeout", 504), outcome.Badly, waited, false},
	{"idle time-out of a service that hangs, gRPC", ends("stream_idle_timeout", 200).grpcStatus(14), outcome.Badly, waited, false},
	{"idle time-out of a service that stops amid its answer", ends("stream_idle_timeout", 200).sent(5), outcome.Badly, waited, false},

	{"idle time-out of a stalled upload", ends("stream_idle_timeout", 408).incomplete(), outcome.Silent, 0, false},
	{"idle time-out of a stalled upload, gRPC", ends("stream_idle_timeout", 200).grpcStatus(2).incomplete(), outcome.Silent, 0, false},
	{"per-try idle time-out of a stalled upload", ends("upstream_per_try_idle_timeout", 504).incomplete(), outcome.Silent, 0, false},
	{"idle time-out of a client that reads not", ends("stream_idle_timeout", 200).sent(5 << 20), outcome.Silent, waited, false},
	{"route time-out of a client that reads slowly", ends("response_timeout", 200).sent(5 << 20), outcome.Silent, waited, false},
	{"idle time-out of a gRPC stream of both", ends("stream_idle_timeout", 200).incomplete(), outcome.Silent, waited, false},
	{"request_timeout", ends("request_overall_timeout", 408).incomplete(), outcome.Silent, 0, false},
	{"left before the request was complete", ends("downstream_remote_disconnect", 0).incomplete(), outcome.Silent, 0, false},
	{"left amid the answer", ends("downstream_remote_disconnect", 200).sent(5), outcome.Silent, waited, false},
	{"left before the answer", ends("downstream_remote_disconnect", 0), outcome.Silent, waited, true},
	{"left before an upstream was asked", ends("downstream_remote_disconnect", 0).nowhere(), outcome.Silent, 0, false},
	{"RST_STREAM of the client", ends("http2.remote_reset", 0), outcome.Silent, waited, true},
	{"RST_STREAM of the client, incomplete", ends("http2.remote_reset", 0).incomplete(), outcome.Silent, 0, false},
	{"RST_STREAM with NO_ERROR", ends("", 0), outcome.Silent, waited, true},
	{"RST_STREAM amid a gRPC stream", ends("http2.remote_reset", 200).incomplete(), outcome.Silent, waited, false},
	{"content-length 10, 3 bytes", ends("http2.remote_reset", 0).incomplete(), outcome.Silent, 0, false},
	{"garbage on the connection", ends("codec_error:The_user_callback_function_failed", 0), outcome.Silent, 0, false},
	{"a bad chunk", ends("http1.codec_error", 400).incomplete(), outcome.Silent, 0, false},

	{"max_stream_duration", ends("max_duration_timeout", 504), outcome.Silent, waited, true},
	{"max_stream_duration of an upload", ends("max_duration_timeout", 408).incomplete(), outcome.Silent, 0, false},
	{"max_stream_duration amid the answer", ends("max_duration_timeout", 200), outcome.Silent, waited, false},
	{"max_stream_duration, gRPC", ends("max_duration_timeout", 200).grpcStatus(4), outcome.Silent, waited, true},
	{"max_stream_duration of the cluster", ends("upstream_max_stream_duration_reached", 504), outcome.Silent, waited, true},
	{"max_stream_duration of the cluster amid the answer", ends("upstream_max_stream_duration_reached", 200), outcome.Silent, waited, false},

	{"no route", ends("route_not_found", 404).nowhere(), outcome.Silent, 0, false},
	{"no such cluster", ends("cluster_not_found", 503).nowhere(), outcome.Silent, 0, false},
	{"direct response", ends("direct_response", 503).nowhere(), outcome.Silent, 0, false},
	{"RBAC", ends("rbac_access_denied_matched_policy[p]", 403).nowhere(), outcome.Silent, 0, false},
	{"RBAC, gRPC", ends("rbac_access_denied_matched_policy[p]", 200).grpcStatus(7).nowhere(), outcome.Silent, 0, false},
	{"fault filter", ends("fault_filter_abort", 503).nowhere(), outcome.Silent, 0, false},
	{"Lua", ends("lua_response", 503).nowhere(), outcome.Silent, 0, false},
	{"too large for a buffer filter", ends("request_payload_too_large", 413).nowhere(), outcome.Silent, 0, false},
	{"over the cluster's limits", ends("upstream_reset_before_response_started{overflow}", 503), outcome.Silent, 0, false},
	{"over the cluster's limits, gRPC", ends("upstream_reset_before_response_started{overflow}", 200).grpcStatus(14), outcome.Silent, 0, false},
	{"over the overload manager's limits", ends("upstream_reset_before_response_started{overload_manager_reset}", 503), outcome.Silent, 0, false},
	{"what no Envoy of today says", ends("something_new", 503), outcome.Silent, 0, false},

	{"a WebSocket, closed by the service", ends("upstream_reset_after_response_started{connection_termination}", 101).incomplete(), outcome.Well, waited, false},
	{"a WebSocket, closed by the client", ends("downstream_remote_disconnect", 101).incomplete(), outcome.Well, waited, false},
	{"a WebSocket, idle", ends("stream_idle_timeout", 101).incomplete(), outcome.Well, waited, false},
	{"a WebSocket that was never opened", ends("downstream_remote_disconnect", 0).incomplete(), outcome.Silent, 0, false},
}

func TestHTTP(t *testing.T) {
	f := outcome.DefaultFailures()
	for _, c := range httpEnds {
		want := outcome.End{Outcome: c.want, ResponseMs: c.time, GaveUp: c.gave}
		if c.time == 0 {
			want.ResponseMs = outcome.NoTime
		}
		if got := f.HTTP(c.end); got != want {
			t.Errorf("%s: %+v, want %+v", c.name, got, want)
		}
	}
}

func TestFailuresSayWhatCounts(t *testing.T) {
	var rare outcome.Failures // nothing counts
	status := rare
	status.Status.Add(503)
	grpc := rare
	grpc.GRPC = 1 << 14
	refused := ends("upstream_reset_before_response_started{remote_connection_failure}", 503)
	for _, c := range []struct {
		name string
		f    outcome.Failures
		end  request
		want outcome.Outcome
	}{
		{"a status that does not count", rare, ends("via_upstream", 500), outcome.Well},
		{"a status that counts", status, ends("via_upstream", 503), outcome.Badly},
		{"another status", status, ends("via_upstream", 500), outcome.Well},
		{"a reset that does not count", rare, refused, outcome.Silent},
		{"a reset whose status counts", status, refused, outcome.Badly},
		{"a gRPC status that counts", grpc, ends("response_timeout", 200).grpcStatus(14), outcome.Badly},
		{"a reset amid an answer that does not count", rare, ends("upstream_reset_after_response_started{remote_reset}", 200), outcome.Well},
		{"a status of another filter's", status, ends("lua_response", 503), outcome.Silent},
	} {
		if got := c.f.HTTP(c.end).Outcome; got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestAbandoned(t *testing.T) {
	f := outcome.DefaultFailures()
	for _, c := range []struct {
		after uint32
		end   request
		want  outcome.Outcome
	}{
		{0, ends("downstream_remote_disconnect", 0), outcome.Silent},
		{waited, ends("downstream_remote_disconnect", 0), outcome.Badly},
		{waited + 1, ends("downstream_remote_disconnect", 0), outcome.Silent},
		{1, ends("downstream_remote_disconnect", 0).incomplete(), outcome.Silent},
		{1, ends("downstream_remote_disconnect", 200), outcome.Silent},
		{1, ends("downstream_remote_disconnect", 0).nowhere(), outcome.Silent},
	} {
		f.AbandonedAfterMs = c.after
		if got := f.HTTP(c.end).Outcome; got != c.want {
			t.Errorf("abandoned after %d ms, %+v: %v, want %v", c.after, c.end, got, c.want)
		}
	}
}

func TestTookLonger(t *testing.T) {
	for _, c := range []struct {
		end           outcome.End
		ms            uint64
		longer, known bool
	}{
		{outcome.End{Outcome: outcome.Well, ResponseMs: 10}, 10, false, true},
		{outcome.End{Outcome: outcome.Well, ResponseMs: 11}, 10, true, true},
		{outcome.End{Outcome: outcome.Badly, ResponseMs: 0}, 10, false, true},
		{outcome.End{ResponseMs: outcome.NoTime}, 0, false, false},
		{outcome.End{ResponseMs: 11, GaveUp: true}, 10, true, true},
		{outcome.End{ResponseMs: 10, GaveUp: true}, 10, false, false},
		{outcome.End{Outcome: outcome.Badly, ResponseMs: 10, GaveUp: true}, 10, false, false},
		{outcome.End{ResponseMs: 5}, 10, false, false},
		{outcome.End{ResponseMs: 11}, 10, true, true},
	} {
		if longer, known := c.end.TookLonger(c.ms); longer != c.longer || known != c.known {
			t.Errorf("%+v: longer than %d ms %t, known %t", c.end, c.ms, longer, known)
		}
	}
}
