package http

import (
	"slices"
	"strconv"
	"strings"

	"sentinel-envoy/plugins/envoyhost"
	"sentinel-envoy/shared/engine"
)

// unavailableStatus is the answer where a fault of ours keeps us from deciding and the failure mode is closed.
const unavailableStatus = 503

// Refuse implements vm.Stream: the request is answered here.
func (s *stream) Refuse(b *engine.Block, now int64) envoyhost.Action {
	envoyhost.NameBlock(b)
	if err := s.answer(b, now); err != nil {
		s.Plugin.Fault("answering", err)
	}
	return envoyhost.Pause
}

// answer sends the reply to a blocked request.
func (s *stream) answer(b *engine.Block, now int64) error {
	if b.Reason == engine.Unavailable {
		const grpcUnavailable = 14
		return send(unavailableStatus, nil, "flow control is unavailable\n", grpcUnavailable)
	}
	cfg := &s.Plugin.Config().Block
	headers := make([][2]string, 0, 4+len(cfg.Headers))
	headers = append(headers, cfg.Headers...)
	headers = addUnlessThere(headers, "x-envoy-ratelimited", "true")
	if b.RetryAfterMs >= 0 {
		seconds := (b.RetryAfterMs + 999) / 1000
		headers = addUnlessThere(headers, "retry-after", strconv.FormatInt(seconds, 10))
	}
	body := cfg.Body
	if body == "" {
		headers = addUnlessThere(headers, contentType, "text/plain; charset=utf-8")
		body = s.Plugin.Explain(b, now)
	}
	return send(cfg.Status, headers, body, cfg.GRPCStatus)
}

const contentType = "content-type"

// send sends a response, to a call of gRPC in the form that it understands. Envoy would do the same, but not for gRPC-Web,
// which its filter for that has made look like gRPC.
func send(status int, headers [][2]string, body string, grpcStatus int) error {
	kind, _ := envoyhost.RequestHeader(contentType)
	if !strings.HasPrefix(kind, "application/grpc") {
		return envoyhost.SendResponse(uint32(status), headers, []byte(body), int32(grpcStatus))
	}
	headers = slices.DeleteFunc(headers, func(h [2]string) bool { return h[0] == contentType })
	headers = append(headers, [2]string{contentType, kind}, [2]string{grpcStatusName, strconv.Itoa(grpcStatus)},
		[2]string{"grpc-message", percentEncoded(body)})
	return envoyhost.SendResponse(200, headers, nil, int32(grpcStatus))
}

// percentEncoded is a text as grpc-message has it.
func percentEncoded(text string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(text) {
		if c := text[i]; c < ' ' || c > '~' || c == '%' {
			b.Write([]byte{'%', hex[c>>4], hex[c&15]})
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// addUnlessThere adds a header of ours; what is configured wins.
func addUnlessThere(headers [][2]string, name, value string) [][2]string {
	if slices.ContainsFunc(headers, func(h [2]string) bool { return h[0] == name }) {
		return headers
	}
	return append(headers, [2]string{name, value})
}
