package http

import (
	"strconv"
	"strings"
	"unsafe"

	"sentinel-envoy/plugins/envoyhost"
	"sentinel-envoy/plugins/vm"
	"sentinel-envoy/shared/answer"
	"sentinel-envoy/shared/engine"
	"sentinel-envoy/shared/percent"
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
	answers := s.handler.answersTo(b)
	r := answers.to(b, kind, now)
	if s.Plugin.Quotes() && b.Reason != engine.Unavailable {
		r = s.quote(answers, r, now)
	}
	if err := r.send(b); err != nil {
		s.Plugin.Fault("answering", err)
	}
	return envoyhost.Pause
}

// said is what a rule and a resource say of an answer.
type said struct{ byRule, ofResource *answer.Block }

// answersTo are the replies for a refusal: mostly the filter's, and others where its rule or its resource says so. There are
// as many as the configuration has of them.
func (h *handler) answersTo(b *engine.Block) *answers {
	key := said{b.ByRule, b.OfResource}
	if key == (said{}) {
		return &h.answers
	}
	a := h.others[key]
	if a == nil {
		block := answer.Merge(h.plugin.Config().Block.Block, key.ofResource, key.byRule)
		if h.others == nil {
			h.others = map[said]*answers{}
		}
		a = newAnswers(h.plugin, &block)
		h.others[key] = a
	}
	return a
}

// answers makes the replies of one filter to the requests that it refuses, in memory that it keeps: when most requests are
// refused, a reply must not cost more than what it is made of. Most are as the one before, so each part is made again only
// where it is another. A reply is void with the next.
type answers struct {
	plugin *vm.Plugin
	block  *answer.Block
	text   *answer.Text
	// plain and call are the headers for a request and for a call of gRPC.
	plain, call envoyhost.HeaderMap
	// seconds are those of retry-after, told is what the explanation explains, and body what the body was made of.
	retryAfter string
	seconds    int64
	told       engine.Explanation
	made       made
	// explanation is ours, body what an answer has, message the same as gRPC writes it.
	explanation, body, message []byte
	// called is the content type that call is for, grpc its status, where they are as the refusal before had them.
	called  []byte
	grpc    int
	current bool
}

// made is what a body is made of, beside the explanation.
type made struct {
	reason, rule, resource string
	seconds                int64
}

// reply is one answer.
type reply struct {
	status  int
	headers *envoyhost.HeaderMap
	body    []byte
	grpc    int
}

func (a reply) send(b *engine.Block) error {
	return envoyhost.SendResponse(b, uint32(a.status), a.headers, a.body, int32(a.grpc))
}

// unknown is where it is not known when asking again makes sense.
const unknown = -1

func newAnswers(p *vm.Plugin, block *answer.Block) *answers {
	a := &answers{plugin: p, block: block, body: []byte(block.Body)}
	a.text = answer.NewText(block.Body, block.ContentType())
	a.promise(unknown)
	return a
}

// to is the reply to a request that was refused, by its content type: to a call of gRPC in the form that it understands.
// Envoy would do the same, but not for gRPC-Web, which its filter for that has made look like gRPC.
func (a *answers) to(b *engine.Block, kind string, now int64) reply {
	isCall := strings.HasPrefix(kind, "application/grpc")
	if b.Reason == engine.Unavailable {
		return a.unavailable(isCall, kind)
	}
	if seconds := b.RetryAfter(); seconds != a.seconds {
		a.promise(seconds)
	}
	a.write(b, now)
	grpc := a.block.GRPCStatusFor(b.Reason)
	if !isCall {
		return reply{a.block.StatusFor(b.Reason), &a.plain, a.body, grpc}
	}
	if !a.current || a.grpc != grpc || unsafe.String(unsafe.SliceData(a.called), len(a.called)) != kind {
		a.call.Reset()
		a.addHeaders(&a.call, true)
		text := a.body
		if a.block.Problem == answer.Yes {
			text = a.explanation
		}
		a.addCall(kind, text, grpc)
		a.called, a.grpc, a.current = append(a.called[:0], kind...), grpc, true
	}
	return reply{200, &a.call, nil, grpc}
}

// write makes the body, where it is not the one before.
func (a *answers) write(b *engine.Block, now int64) {
	isProblem := a.block.Problem == answer.Yes
	switch {
	case isProblem || a.block.Body == "":
		if changed := a.explain(b, now); isProblem && changed {
			a.body = answer.AppendProblem(a.body[:0], a.block.StatusFor(b.Reason), b.Reason, b.Rule, a.explanation)
		} else if changed {
			a.body = append(a.body[:0], a.explanation...)
		}
	case a.text.Asks:
		a.fill(b)
	}
}

// fill makes the body of its placeholders.
func (a *answers) fill(b *engine.Block) {
	of := made{b.Reason, b.Rule, b.Resource, a.seconds}
	if of == a.made && !a.text.AsksRequest {
		return
	}
	v := answer.Values{Rule: b.Rule, Kind: b.Reason, Resource: b.Resource, RetryAfter: a.seconds}
	if a.text.AsksRequest {
		v.RequestID, _ = envoyhost.RequestHeader("x-request-id")
	}
	a.made, a.current = of, false
	a.body = a.text.Append(a.body[:0], &v)
}

// explain makes the text that says why, and reports whether it is another than before.
func (a *answers) explain(b *engine.Block, now int64) (changed bool) {
	if !a.plugin.ExplainIn(&a.told, b, now) && len(a.explanation) > 0 {
		return false
	}
	a.current = false
	a.explanation = a.told.AppendText(a.explanation[:0])
	return true
}

// unavailable is the reply to a request that could not be decided.
func (a *answers) unavailable(isCall bool, kind string) reply {
	a.call.Reset()
	a.current = false
	if isCall {
		a.addCall(kind, unavailable, grpcUnavailable)
		return reply{200, &a.call, nil, grpcUnavailable}
	}
	return reply{unavailableStatus, &a.call, unavailable, grpcUnavailable}
}

// addCall adds to the headers what gRPC has in place of a body.
func (a *answers) addCall(kind string, text []byte, status int) {
	a.message = percent.Append(a.message[:0], text, &percent.Printable)
	a.call.Add(contentType, kind)
	a.call.Add(grpcStatusName, strconv.Itoa(status))
	a.call.AddBytes("grpc-message", a.message)
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
		if h[0] != contentType || !isCall && a.block.Problem != answer.Yes {
			m.Add(h[0], h[1])
		}
	}
	if a.block.Limited != answer.No && !a.block.Has("x-envoy-ratelimited") {
		m.Add("x-envoy-ratelimited", "true")
	}
	if a.seconds != unknown && !a.block.Has("retry-after") {
		m.Add("retry-after", a.retryAfter)
	}
	switch {
	case isCall:
	case a.block.Problem == answer.Yes:
		m.Add(contentType, answer.ProblemType)
	case a.block.Body == "" && !a.block.Has(contentType):
		m.Add(contentType, "text/plain; charset=utf-8")
	}
}
