//go:build !wasip1

package http

import (
	"strings"
	"testing"
	"time"

	"sentinel-envoy/plugins/vm"
	"sentinel-envoy/plugins/vm/vmtest"
	"sentinel-envoy/shared/engine"
)

// TestAnswersAllocateNothing: an answer is made in memory that is kept, also where retry-after changes.
func TestAnswersAllocateNothing(t *testing.T) {
	for _, block := range []string{
		`{}`, `{"body": "later\n"}`, `{"headers": {"x-team": "payments", "retry-after": "7"}}`,
		`{"problem": true, "status_of": {"flow": 503}}`, `{"body": "{rule} {kind} {resource} {retry_after} {request_id}"}`,
		`{"body": "{\"retry\": {retry_after}}", "headers": {"content-type": "application/json"}}`,
	} {
		for _, contentType := range []string{"", "text/plain", "application/grpc"} {
			e, a := answersOf(t, `{"resource_name": "web", "block": `+block+`}`)
			b := engine.Block{Resource: "web", Reason: "flow", Rule: strings.Repeat("r", 100), Seen: 1.5, Threshold: 1, Measure: "requests in a second"}
			ask := func() {
				b.RetryAfterMs = (b.RetryAfterMs + 700) % 90_000
				a.to(&b, contentType, e.Now())
			}
			ask() // what grows, grows
			if n := testing.AllocsPerRun(1000, ask); n > 0 {
				t.Errorf("%s, %q: an answer allocates %v times", block, contentType, n)
			}
		}
	}
}

// answersOf are those of a filter that has had a request.
func answersOf(t *testing.T, configuration string) (e *vmtest.Envoy, a *answers) {
	kind := Kind
	kind.New = func(p *vm.Plugin) (vm.Handler, error) {
		h, err := newHandler(p)
		if err == nil {
			a = &h.(*handler).answers
		}
		return h, err
	}
	e = vmtest.Start(t, map[string]vm.HandlerKind{"sentinel_http": kind}, "")
	s := e.Plugin("sentinel_http", configuration).Stream()
	s.RequestHeaders()
	s.End()
	e.Run(300 * time.Millisecond) // the snapshot has the resource
	return e, a
}
