package http

import (
	"slices"
	"strconv"
	"strings"

	"sentinel-envoy/plugins/envoyhost"
	"sentinel-envoy/plugins/vm"
	"sentinel-envoy/shared/config"
	"sentinel-envoy/shared/engine"
)

const (
	// unavailableStatus is the answer where a fault of ours keeps us from deciding and the failure mode is closed,
	// grpcUnavailable the same to a call of gRPC.
	unavailableStatus, grpcUnavailable = 503, 14

	contentType = "content-type"
)

// unavailable is the body of that answer.
var unavailable = []byte("flow control is unavailable\n")

// Refuse implements vm.Stream: the request is answered here.
func (s *stream) Refuse(b *engine.Block, now int64) envoyhost.Action {
	if s.Plugin.Config().Block.FilterState {
		envoyhost.NameBlock(b)
	}
	kind, _ := envoyhost.RequestHeader(contentType)
	if err := s.handler.answers.to(b, kind, now).send(b); err != nil {
		s.Plugin.Fault("answering", err)
	}
	return envoyhost.Pause
}

// answers makes the replies of one filter to the requests that it refuses, in memory that it keeps: when most requests are
// refused, a reply must not cost more than what it is made of. Most are as the one before, so each part is made again only
// where it is another. A reply is void with the next.
type answers struct {
	plugin *vm.Plugin
	block  *config.Block
	// plain and call are the headers for a request and for a call of gRPC.
	plain, call envoyhost.HeaderMap
	// seconds are those of retry-after, told is what body explains.
	retryAfter    string
	seconds       int64
	told          engine.Explanation
	body, message []byte
	// called is the content type that call is for, where it is as the refusal before had it.
	called  []byte
	current bool
}

// answer is one reply.
type answer struct {
	status  int
	headers *envoyhost.HeaderMap
	body    []byte
	grpc    int
}

func (a answer) send(b *engine.Block) error {
	return envoyhost.SendResponse(b, uint32(a.status), a.headers, a.body, int32(a.grpc))
}

// unknown is where it is not known when asking again makes sense.
const unknown = -1

func newAnswers(p *vm.Plugin) answers {
	a := answers{plugin: p, block: &p.Config().Block, body: []byte(p.Config().Block.Body)}
	a.promise(unknown)
	return a
}

// to is the reply to a request that was refused, by its content type: to a call of gRPC in the form that it understands.
// Envoy would do the same, but not for gRPC-Web, which its filter for that has made look like gRPC.
func (a *answers) to(b *engine.Block, kind string, now int64) answer {
	isCall := strings.HasPrefix(kind, "application/grpc")
	if b.Reason == engine.Unavailable {
		return a.unavailable(isCall, kind)
	}
	if a.block.Body == "" {
		a.explain(b, now)
	}
	if seconds := secondsOf(b.RetryAfterMs); seconds != a.seconds {
		a.promise(seconds)
	}
	if !isCall {
		return answer{a.block.Status, &a.plain, a.body, a.block.GRPCStatus}
	}
	if !a.current || string(a.called) != kind {
		a.call.Reset()
		a.addHeaders(&a.call, true)
		a.addCall(kind, a.body, a.block.GRPCStatus)
		a.called, a.current = append(a.called[:0], kind...), true
	}
	return answer{200, &a.call, nil, a.block.GRPCStatus}
}

// explain makes the body that says why.
func (a *answers) explain(b *engine.Block, now int64) {
	if a.plugin.ExplainIn(&a.told, b, now) || len(a.body) == 0 {
		a.current = false
		a.body = a.told.AppendText(a.body[:0])
	}
}

// unavailable is the reply to a request that could not be decided.
func (a *answers) unavailable(isCall bool, kind string) answer {
	a.call.Reset()
	a.current = false
	if isCall {
		a.addCall(kind, unavailable, grpcUnavailable)
		return answer{200, &a.call, nil, grpcUnavailable}
	}
	return answer{unavailableStatus, &a.call, unavailable, grpcUnavailable}
}

// addCall adds to the headers what gRPC has in place of a body.
func (a *answers) addCall(kind string, text []byte, status int) {
	a.message = appendPercentEncoded(a.message[:0], text)
	a.call.Add(contentType, kind)
	a.call.Add(grpcStatusName, strconv.Itoa(status))
	a.call.AddBytes("grpc-message", a.message)
}

// secondsOf are the whole seconds after which asking again makes sense.
func secondsOf(ms int64) int64 {
	if ms < 0 {
		return unknown
	}
	return (ms + 999) / 1000
}

// promise makes the headers that say so.
func (a *answers) promise(seconds int64) {
	a.current = false
	a.seconds, a.retryAfter = seconds, strconv.FormatInt(seconds, 10)
	a.plain.Reset()
	a.addHeaders(&a.plain, false)
}

// addHeaders adds those that are configured, and of ours those that are not. A call of gRPC has a content type of its own.
func (a *answers) addHeaders(m *envoyhost.HeaderMap, isCall bool) {
	for _, h := range a.block.Headers {
		if !isCall || h[0] != contentType {
			m.Add(h[0], h[1])
		}
	}
	if !a.configures("x-envoy-ratelimited") {
		m.Add("x-envoy-ratelimited", "true")
	}
	if a.seconds != unknown && !a.configures("retry-after") {
		m.Add("retry-after", a.retryAfter)
	}
	if !isCall && a.block.Body == "" && !a.configures(contentType) {
		m.Add(contentType, "text/plain; charset=utf-8")
	}
}

func (a *answers) configures(name string) bool {
	return slices.ContainsFunc(a.block.Headers, func(h [2]string) bool { return h[0] == name })
}

// appendPercentEncoded appends a text as grpc-message has it.
func appendPercentEncoded(dst, text []byte) []byte {
	const hex = "0123456789ABCDEF"
	for _, c := range text {
		if c < ' ' || c > '~' || c == '%' {
			dst = append(dst, '%', hex[c>>4], hex[c&15])
		} else {
			dst = append(dst, c)
		}
	}
	return dst
}
