//go:build !wasip1

package http_test

import (
	"fmt"
	"testing"

	"sentinel-envoy/plugins/envoyhost"
)

// Bits of Envoy's response flags.
const (
	noHealthyUpstream     = 1 << 1
	localReset            = 1 << 3
	upstreamReset         = 1 << 4
	upstreamRefused       = 1 << 5
	upstreamTermination   = 1 << 6
	clientLeft            = 1 << 14
	idleTimeout           = 1 << 16
	upstreamMaxDuration   = 1 << 19
	durationTimeout       = 1 << 22
	upstreamProtocolError = 1 << 23
	clientReset           = 1 << 28
)

// end is how a request ended, as Envoy tells it.
type end struct {
	status            string
	flags             int64
	trailers, headers string // grpc-status
}

func TestOutcomes(t *testing.T) {
	const defaults, told = ``, `"failures": {}, `
	for _, c := range []struct {
		failures string
		end      end
		failed   uint64
	}{
		// Without a rule that looks at it, and without being told what a failure is, nobody asks.
		{defaults, end{status: "503"}, 0},

		{told, end{status: "200"}, 0},
		{told, end{status: "404"}, 0},
		{told, end{status: "429"}, 0},
		{told, end{status: "500"}, 1},
		{told, end{status: "599"}, 1},
		{told, end{status: "nonsense", flags: clientLeft}, 0},

		{told, end{flags: 0}, 1}, // no response at all
		{told, end{flags: clientLeft}, 0},
		{told, end{flags: clientReset}, 0},
		{told, end{flags: clientLeft | upstreamReset}, 1},
		{told, end{status: "200", flags: clientLeft}, 0},
		{told, end{status: "200", flags: localReset}, 1},
		{told, end{status: "200", flags: upstreamReset}, 1},
		{told, end{status: "200", flags: upstreamTermination}, 1},
		{told, end{status: "200", flags: idleTimeout}, 1},
		{told, end{status: "200", flags: upstreamMaxDuration}, 1},
		{told, end{status: "200", flags: durationTimeout}, 1},
		{told, end{status: "200", flags: upstreamProtocolError}, 1},
		{told, end{status: "200", flags: noHealthyUpstream}, 1},
		{told, end{status: "200", flags: upstreamRefused}, 1},

		{told, end{status: "200", trailers: "0"}, 0},
		{told, end{status: "200", trailers: "5"}, 0},
		{told, end{status: "200", trailers: "14"}, 1},
		{told, end{status: "200", headers: "14"}, 1},
		{told, end{status: "200", trailers: "0", headers: "14"}, 0}, // trailers come last
		{told, end{status: "200", trailers: "1000"}, 0},
		{told, end{status: "200", trailers: "-1"}, 0},

		{`"failures": {"status": [429, "4xx"]}, `, end{status: "404"}, 1},
		{`"failures": {"status": [429]}, `, end{status: "404"}, 0},
		{`"failures": {"status": [429]}, `, end{status: "503"}, 0},
		{`"failures": {"status": [429]}, `, end{status: "429"}, 1},
		{`"failures": {"status": []}, `, end{status: "503"}, 0},
		{`"failures": {"resets": false}, `, end{flags: 0}, 0},
		{`"failures": {"resets": false}, `, end{status: "200", flags: upstreamReset}, 0},
		{`"failures": {"resets": false}, `, end{status: "503", flags: upstreamReset}, 1},
		{`"failures": {"grpc": []}, `, end{status: "200", trailers: "14"}, 0},
		{`"failures": {"grpc": ["NOT_FOUND"]}, `, end{status: "200", trailers: "5"}, 1},
		{`"failures": {"grpc": ["NOT_FOUND"]}, `, end{status: "200", trailers: "14"}, 0},
		{`"failures": {"status": [], "resets": false, "grpc": []}, `, end{status: "503", flags: upstreamReset, trailers: "14"}, 0},
	} {
		t.Run(fmt.Sprintf("%s%+v", c.failures, c.end), func(t *testing.T) {
			e, p := start(t, c.failures+single)
			s := begin(t, p, envoyhost.Continue)
			for name, value := range map[string]string{":status": c.end.status, "grpc-status": c.end.headers} {
				if value != "" {
					s.Response[name] = value
				}
			}
			if c.end.trailers != "" {
				s.Trailers["grpc-status"] = c.end.trailers
			}
			s.Properties["response.flags"] = envoyhost.Integer(c.end.flags)
			s.End()
			e.Metrics(map[string]uint64{"sentinel_completed;resource=web": 1, "sentinel_failed;resource=web": c.failed})
			e.Faults()
		})
	}
}

// What does not count is not asked for: each call costs as much as all else that is done for a request.
func TestOutcomeAsksForNoMoreThanItNeeds(t *testing.T) {
	for _, c := range []struct {
		failures, status string
		want             string
	}{
		{``, "200", "map[]"},
		{`"failures": {"status": [], "resets": false, "grpc": []}, `, "200", "map[]"},
		{`"failures": {"resets": false, "grpc": []}, `, "200", "map[header:1]"},
		{`"failures": {"grpc": []}, `, "200", "map[header:1 property:1]"},
		{`"failures": {}, `, "200", "map[header:3 property:1]"},
		{`"failures": {}, `, "500", "map[header:1]"},
	} {
		e, p := start(t, c.failures+single)
		s := begin(t, p, envoyhost.Continue)
		s.Response[":status"] = c.status
		calls := map[string]int{}
		e.Before = func(call string) error {
			if call != "host" {
				calls[call]++
			}
			return nil
		}
		s.End()
		if got := fmt.Sprint(calls); got != c.want {
			t.Errorf("%s%s: calls %s, want %s", c.failures, c.status, got, c.want)
		}
	}
}

// A panic while a request ends is counted, and the request leaves its resource all the same.
func TestPanicAtTheEnd(t *testing.T) {
	e, p := start(t, `"failures": {}, `+single)
	s := begin(t, p, envoyhost.Continue)
	e.Panic("header")
	s.End()
	e.Panic("")
	e.Faults("fault 1: ending a stream: panic: injected")
	begin(t, p, envoyhost.Continue).End()
	e.Metrics(map[string]uint64{"sentinel_completed;resource=web": 2, "sentinel_in_flight;resource=web": 0})
}
