//go:build !wasip1

package http_test

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	ratelimit "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"

	"sentinel-envoy/plugins/envoyhost"
	"sentinel-envoy/plugins/vm/vmtest"
	"sentinel-envoy/shared/rls/rlstest"
)

// counted is a rule that a rate limit service counts; alone an Envoy has a threshold of 2.
const counted = `"rate_limit_service": {"cluster": "rls", "domain": "shop", "timeout_ms": 40}, "flowRules": [{"id": "all",
	"resource": "web", "threshold": 6, "statIntervalInMs": 3600000, "clusterMode": true,
	"clusterConfig": {"thresholdType": 1, "clusterSize": 3}}]`

// limited is an Envoy with a service that answers when the test says so.
type limited struct {
	*vmtest.Envoy
	plugin   *vmtest.Plugin
	service  *rlstest.Service
	answered int
}

func startLimited(t *testing.T, more string) *limited {
	t.Helper()
	e, p := start(t, counted+more)
	return &limited{Envoy: e, plugin: p, service: rlstest.New(map[string]rlstest.Limit{
		"rule=all":             {Hits: 6, Unit: ratelimit.RateLimitResponse_RateLimit_HOUR},
		"rule=all;mode=shadow": {Hits: 1, Unit: ratelimit.RateLimitResponse_RateLimit_HOUR},
	})}
}

// answer lets the service answer all calls that wait, by a clock that is half a second off.
func (l *limited) answer(t *testing.T) {
	t.Helper()
	for l.answered < len(l.RPCs) {
		l.answered++
		seconds := (l.Now() + 500e6) / 1e9
		reply, err := l.service.ShouldRateLimit(l.RPCs[uint32(l.answered)].Message, seconds, seconds)
		if err != nil {
			t.Fatal(err)
		}
		l.AnswerRPC(uint32(l.answered), reply)
	}
}

// settle lets time pass until the service's clock is known.
func (l *limited) settle(t *testing.T) {
	t.Helper()
	for range 60 {
		l.Run(20 * time.Millisecond)
		l.answer(t)
	}
}

// ask begins so many requests one after the other, and lets the service answer. It returns how many were let in, and how
// many refused.
func (l *limited) ask(t *testing.T, n int) (in, refused int) {
	t.Helper()
	for range n {
		s := l.plugin.Stream()
		action := s.RequestHeaders()
		for range 30 {
			l.answer(t)
			if action == envoyhost.Continue || len(s.Answers)+s.Resumed > 0 {
				break
			}
			l.Run(5 * time.Millisecond)
		}
		switch {
		case len(s.Answers) == 1:
			refused++
		case action == envoyhost.Continue || s.Resumed == 1:
			in++
		default:
			t.Errorf("it is stuck: %+v", s.RecordedStream)
		}
		s.End()
	}
	return in, refused
}

func TestClusterModeSpendsWhatTheServiceGives(t *testing.T) {
	l := startLimited(t, "")
	l.settle(t)
	if in, refused := l.ask(t, 9); in != 6 || refused != 3 {
		t.Errorf("%d in, %d refused, want 6 and 3", in, refused)
	}
	c := l.RPCs[1]
	if c.Cluster != "rls" || c.TimeoutMs != 40 || c.Service != "envoy.service.ratelimit.v3.RateLimitService" || c.Method != "ShouldRateLimit" {
		t.Errorf("the call is %+v", c)
	}
	l.Envoy.Metrics(map[string]uint64{
		"sentinel_cluster_state;rule=all": 1, "sentinel_cluster_failures": 0, "sentinel_blocked;resource=web;rule=all;kind=flow": 3,
	})
	l.Faults()
}

// What the service gives of a long window holds also before it is known when its seconds turn.
func TestClusterModeNeedsNoClockForHours(t *testing.T) {
	l := startLimited(t, "")
	l.Advance(1800e9)
	l.Run(20 * time.Millisecond)
	l.answer(t)
	before := l.Now()
	if in, refused := l.ask(t, 9); in != 6 || refused != 3 || l.Now()-before > 100e6 {
		t.Errorf("%d in, %d refused after %d ms, want 6 and 3", in, refused, (l.Now()-before)/1e6)
	}
	l.Faults()
}

// At the turn of an hour the service may mean either, and nothing is lost until that is known.
func TestClusterModeAtTheTurnOfAnHour(t *testing.T) {
	l := startLimited(t, "") // it is the first second of one
	l.Run(20 * time.Millisecond)
	l.answer(t)
	var all []*vmtest.Stream
	for range 4 {
		all = append(all, begin(t, l.plugin, envoyhost.Pause))
	}
	l.settle(t)
	for _, s := range all {
		if s.Resumed != 1 || len(s.Answers) > 0 {
			t.Errorf("%+v", s.RecordedStream)
		}
		s.End()
	}
	if n := l.service.Counted("rule=all", l.Now()/1e9); n > 6 {
		t.Errorf("%d hits for 4 requests", n)
	}
	l.Faults()
}

// A request waits while the service is asked, and goes on with the answer: no tick is needed.
func TestClusterModeResumesWithTheAnswer(t *testing.T) {
	l := startLimited(t, "")
	l.settle(t)
	first := begin(t, l.plugin, envoyhost.Pause)
	second := begin(t, l.plugin, envoyhost.Pause)
	second.End() // its client has gone meanwhile
	l.answer(t)
	if first.Resumed != 1 || second.Resumed != 0 || len(first.Answers)+len(second.Answers) > 0 {
		t.Errorf("%+v, %+v", first.RecordedStream, second.RecordedStream)
	}
	l.Faults()
}

// Without an answer a request goes by what one Envoy has for itself, within the time-out.
func TestClusterModeFallsBack(t *testing.T) {
	for name, fail := range map[string]func(l *limited, token uint32){
		"the call ends":  func(l *limited, token uint32) { l.EndRPC(token, 14) },
		"nonsense":       func(l *limited, token uint32) { l.AnswerRPC(token, []byte("hello")) },
		"nothing at all": func(l *limited, token uint32) { l.AnswerRPC(token, nil) },
		"no such rule":   func(l *limited, token uint32) { l.AnswerRPC(token, []byte{8, 1, 18, 2, 8, 1}) },
		"silence":        func(*limited, uint32) {},
	} {
		t.Run(name, func(t *testing.T) {
			l := startLimited(t, "")
			got := map[string]int{}
			for range 5 {
				s := l.plugin.Stream()
				action := s.RequestHeaders()
				for token := range l.RPCs {
					fail(l, token)
				}
				for range 300 { // a call that nobody ends is under way for a while longer
					l.Run(time.Millisecond)
				}
				switch {
				case len(s.Answers) == 1:
					got["refused"]++
				case action == envoyhost.Continue || s.Resumed == 1:
					got["in"]++
				}
				s.End()
			}
			if want := map[string]int{"in": 2, "refused": 3}; !maps.Equal(got, want) {
				t.Errorf("%v, want %v", got, want)
			}
			lines := slices.DeleteFunc(slices.Clone(l.Worker.Lines()), func(line string) bool { return !strings.Contains(line, "falls back") })
			if len(lines) != 1 {
				t.Errorf("%d messages: %q", len(lines), lines)
			}
			l.Envoy.Metrics(map[string]uint64{"sentinel_cluster_state;rule=all": 2})
			if calls := len(l.RPCs); calls > 12 {
				t.Errorf("%d calls in 3.5 s: there is no back-off", calls)
			}
			l.Faults()
		})
	}
}

func TestClusterModeComesBack(t *testing.T) {
	l := startLimited(t, "")
	l.Run(20 * time.Millisecond)
	l.EndRPC(1, 14)
	l.answered = 1
	if in, refused := l.ask(t, 3); in != 2 || refused != 1 {
		t.Errorf("%d in, %d refused while it does not answer, want 2 and 1", in, refused)
	}
	l.settle(t)
	if in, refused := l.ask(t, 9); in != 6 || refused != 3 {
		t.Errorf("%d in, %d refused once it does, want 6 and 3", in, refused)
	}
	l.Envoy.Metrics(map[string]uint64{"sentinel_cluster_state;rule=all": 1, "sentinel_cluster_changes": 2})
	l.Faults()
}

// An Envoy that has no such cluster says so at once.
func TestClusterModeWithoutTheCluster(t *testing.T) {
	for more, want := range map[string]int{"": 2, `, "failure_mode": "closed"`: 2} {
		l := startLimited(t, more)
		l.Before = func(call string) error {
			if call == "call" {
				return envoyhost.ErrNoRPC
			}
			return nil
		}
		if in, _ := l.ask(t, 5); in != want {
			t.Errorf("%s: %d in, want %d", more, in, want)
		}
		l.Faults()
	}
}

// In shadow mode nobody waits, and the service counts apart.
func TestClusterModeInShadow(t *testing.T) {
	l := startLimited(t, `, "mode": "shadow"`)
	l.settle(t)
	if in, refused := l.ask(t, 5); in != 5 || refused != 0 {
		t.Errorf("%d in, %d refused", in, refused)
	}
	if n := l.service.Counted("rule=all", l.Now()/1e9); n != 0 {
		t.Errorf("shadow decisions have taken %d of the rule's own", n)
	}
	if v, _ := l.Metric("sentinel_shadow_blocked;resource=web;rule=all;kind=flow"); v > 4 {
		t.Errorf("%d would have been refused", v)
	}
	l.Faults()
}

// What comes when a VM has forgotten the call, or twice, does nothing.
func TestClusterModeUnknownAnswers(t *testing.T) {
	l := startLimited(t, "")
	l.settle(t)
	l.EndRPC(77, 0)
	l.AnswerRPC(78, []byte{8, 1})
	l.AnswerRPC(1, []byte{8, 1})
	if in, _ := l.ask(t, 7); in != 6 {
		t.Errorf("%d in", in)
	}
	l.Faults()
}
