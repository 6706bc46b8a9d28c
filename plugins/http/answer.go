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
	envoyhost.NameBlock(b)
	kind, _ := envoyhost.RequestHeader(contentType)
	if err := s.handler.answers.to(b, kind, now).send(); err != nil {
		s.Plugin.Fault("answering", err)
	}
	return envoyhost.Pause
}

// answers makes the replies of one filter to the requests that it refuses, in memory that it keeps: when most requests are
// refused, a reply must not cost more than what it is made of. A reply is void with the next.
type answers struct {
	plugin *vm.Plugin
	block  *config.Block
	// plain and call are the headers for a request and for a call of gRPC. The former are as most refusals have them, so they
	// are made again only where retry-after, in seconds, is another.
	plain, call   envoyhost.HeaderMap
	retryAfter    string
	seconds       int64
	body, message []byte
}

// answer is one reply.
type answer struct {
	status  int
	headers *envoyhost.HeaderMap
	body    []byte
	grpc    int
}

func (a answer) send() error {
	return envoyhost.SendResponse(uint32(a.status), a.headers, a.body, int32(a.grpc))
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
		a.body = a.plugin.AppendExplanation(a.body[:0], b, now)
	}
	if seconds := secondsOf(b.RetryAfterMs); seconds != a.seconds {
		a.promise(seconds)
	}
	if !isCall {
		return answer{a.block.Status, &a.plain, a.body, a.block.GRPCStatus}
	}
	a.call.Reset()
	a.addHeaders(&a.call, true)
	return a.toCall(kind, a.body, a.block.GRPCStatus)
}

// unavailable is the reply to a request that could not be decided.
func (a *answers) unavailable(isCall bool, kind string) answer {
	a.call.Reset()
	if isCall {
		return a.toCall(kind, unavailable, grpcUnavailable)
	}
	return answer{unavailableStatus, &a.call, unavailable, grpcUnavailable}
}

// toCall adds to the headers what gRPC has in place of a body.
func (a *answers) toCall(kind string, text []byte, status int) answer {
	a.message = appendPercentEncoded(a.message[:0], text)
	a.call.Add(contentType, kind)
	a.call.Add(grpcStatusName, strconv.Itoa(status))
	a.call.AddBytes("grpc-message", a.message)
	return answer{200, &a.call, nil, status}
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
