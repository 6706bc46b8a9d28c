package http

import (
	"slices"
	"strconv"

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

// answer sends the reply to a blocked request: for a gRPC request Envoy makes a gRPC status of it.
func (s *stream) answer(b *engine.Block, now int64) error {
	if b.Reason == engine.Unavailable {
		const grpcUnavailable = 14
		return envoyhost.SendResponse(unavailableStatus, nil, []byte("flow control is unavailable\n"), grpcUnavailable)
	}
	cfg := &s.Plugin.Config().Block
	headers := make([][2]string, 0, 3+len(cfg.Headers))
	headers = append(headers, cfg.Headers...)
	headers = addUnlessThere(headers, "x-envoy-ratelimited", "true")
	if b.RetryAfterMs >= 0 {
		seconds := (b.RetryAfterMs + 999) / 1000
		headers = addUnlessThere(headers, "retry-after", strconv.FormatInt(seconds, 10))
	}
	body := cfg.Body
	if body == "" {
		headers = addUnlessThere(headers, "content-type", "text/plain; charset=utf-8")
		body = s.Plugin.Explain(b, now)
	}
	return envoyhost.SendResponse(uint32(cfg.Status), headers, []byte(body), int32(cfg.GRPCStatus))
}

// addUnlessThere adds a header of ours; what is configured wins.
func addUnlessThere(headers [][2]string, name, value string) [][2]string {
	if slices.ContainsFunc(headers, func(h [2]string) bool { return h[0] == name }) {
		return headers
	}
	return append(headers, [2]string{name, value})
}
