//go:build !wasip1

package http_test

import (
	"fmt"
	"testing"
	"time"
)

// BenchmarkRequest is for `make pgo`: which calls are hot on the way of a request through the callbacks.
func BenchmarkRequest(b *testing.B) {
	for _, c := range []struct{ name, rules, threshold string }{
		{"flow", flowRule, "1000000000"},
		{"isolation", isolated, "1000000"},
		{"hotspot", byHost, "1000000000"},
		{"system", inboundRule, "1000000000"},
		{"slow", breaksByTime, "1000"},
	} {
		b.Run(c.name, func(b *testing.B) {
			e, p := start(b, fmt.Sprintf(c.rules, c.threshold))
			e.Run(time.Second)
			s := p.Stream()
			s.Request[":authority"], s.Response[":status"] = "example.org", "200"
			s.Properties["response.code_details"] = "via_upstream"
			for i := range b.N {
				if i%16 == 0 {
					e.Run(time.Millisecond)
				}
				s.RequestHeaders()
				s.ResponseHeaders()
				s.End()
				p.Again(s)
			}
		})
	}
}
