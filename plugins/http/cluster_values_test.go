//go:build !wasip1

package http_test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	ratelimit "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"

	"sentinel-envoy/plugins/envoyhost"
	"sentinel-envoy/shared/rls/rlstest"
)

// perUser gives each user 6 requests an hour over three Envoys, and alice 9.
const perUser = `"rate_limit_service": {"cluster": "rls", "timeout_ms": 40}, "hotspotRules": [{"id": "user", "resource": "web",
	"paramSource": "Header", "paramKey": "x-user", "metricType": "QPS", "threshold": 6, "durationInSec": 3600, "clusterMode": true,
	"clusterConfig": {"thresholdType": 1, "clusterSize": 3}, "specificItems": [{"valStr": "alice", "valKind": 1, "threshold": 9}]}]`

func startPerUser(t *testing.T, more string) *limited {
	t.Helper()
	e, p := start(t, perUser+more)
	hour := ratelimit.RateLimitResponse_RateLimit_HOUR
	s := rlstest.New(map[string]rlstest.Limit{"rule=user;value=alice": {Hits: 9, Unit: hour}})
	s.Any = rlstest.Limit{Hits: 6, Unit: hour}
	return &limited{Envoy: e, plugin: p, service: s}
}

// askAs begins so many requests of a user one after the other, and lets the service answer. It returns how many were let in.
func (l *limited) askAs(t *testing.T, user string, n int) (in int) {
	t.Helper()
	for range n {
		s := l.plugin.Stream()
		s.Request = map[string]string{"x-user": user}
		action := s.RequestHeaders()
		for range 30 {
			l.answer(t)
			if action == envoyhost.Continue || len(s.Answers)+s.Resumed > 0 {
				break
			}
			l.Run(5 * time.Millisecond)
		}
		if action == envoyhost.Continue || s.Resumed == 1 {
			in++
		} else if len(s.Answers) != 1 {
			t.Errorf("%s is stuck: %+v", user, s.RecordedStream)
		}
		s.End()
	}
	return in
}

func TestClusterModeOfEachUser(t *testing.T) {
	l := startPerUser(t, "")
	l.settle(t)
	for user, want := range map[string]int{"bob": 6, "carol": 6, "alice": 9, strings.Repeat("x", 5000): 6, "\xff\xfe": 6, "": 6} {
		if in := l.askAs(t, user, 12); in != want && user != "" {
			t.Errorf("%.20q: %d in, want %d", user, in, want)
		}
	}
	if in := l.askAs(t, "bob", 3); in != 0 {
		t.Errorf("%d more of bob", in)
	}
	l.Envoy.Metrics(map[string]uint64{"sentinel_cluster_state;rule=user": 1, "sentinel_cluster_failures": 0})
	l.Faults()
}

// While the service does not answer each user has one Envoy's part, and one call at a time looks whether it is back, however many
// users there are.
func TestClusterModeOfEachUserFallsBack(t *testing.T) {
	l := startPerUser(t, "")
	l.settle(t)
	l.Before = func(call string) error {
		if call == "call" {
			return envoyhost.ErrNoRPC
		}
		return nil
	}
	before := l.Counts["call"]
	for i := range 100 {
		if in := l.askAs(t, "user-"+strconv.Itoa(i), 4); in != 2 {
			t.Fatalf("%d in, want 2", in)
		}
	}
	if in := l.askAs(t, "alice", 5); in != 3 {
		t.Errorf("%d of alice, want 3", in)
	}
	if calls := l.Counts["call"] - before; calls > 8 {
		t.Errorf("%d calls for 100 users: there is no back-off", calls)
	}
	n := 0
	for _, line := range l.Worker.Lines() {
		if strings.Contains(line, "rule user falls back") {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d messages", n)
	}
	l.Envoy.Metrics(map[string]uint64{"sentinel_cluster_state;rule=user": 2})
	l.Before = nil
	l.settle(t)
	if in := l.askAs(t, "dave", 9); in != 6 {
		t.Errorf("%d in once it is back, want 6", in)
	}
	l.Envoy.Metrics(map[string]uint64{"sentinel_cluster_state;rule=user": 1})
	l.Faults()
}

// Clients can name as many users as they like: calls at a time are bounded, and nobody waits for ever.
func TestClusterModeOfManyUsers(t *testing.T) {
	l := startPerUser(t, "")
	l.settle(t)
	before := len(l.RPCs)
	for i := range 3000 {
		s := l.plugin.Stream()
		s.Request = map[string]string{"x-user": "flood-" + strconv.Itoa(i)}
		s.RequestHeaders()
		defer s.End()
	}
	if calls := len(l.RPCs) - before; calls > 64 {
		t.Errorf("%d calls at once", calls)
	}
	l.answered = len(l.RPCs) // none of them is answered
	for range 30 {
		l.Run(50 * time.Millisecond)
	}
	if in := l.askAs(t, "bob", 4); in < 2 {
		t.Errorf("%d of another user", in)
	}
	l.Faults()
}

// Requests that name no user, or too many, are as with any hotspot rule.
func TestClusterModeOfNoUser(t *testing.T) {
	l := startPerUser(t, "")
	l.settle(t)
	for range 10 {
		s := l.plugin.Stream()
		if s.RequestHeaders() != envoyhost.Continue {
			t.Error("it does not pass")
		}
		s.End()
	}
	l.Faults()
}
