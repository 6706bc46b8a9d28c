package stat

import (
	"testing"

	"sentinel-envoy/shared/outcome"
)

// Every end is one that completed; only those that tell how long the service took have a share in the response time.
func TestEndsWithoutAResponseTime(t *testing.T) {
	n := NewNodes().Acquire("r")
	for _, end := range []outcome.End{
		{Outcome: outcome.Well, ResponseMs: 30},
		{Outcome: outcome.Badly, ResponseMs: 10},
		{Outcome: outcome.Silent, ResponseMs: 20},
		{Outcome: outcome.Silent, ResponseMs: outcome.NoTime},
		{Outcome: outcome.Badly, ResponseMs: 1000, GaveUp: true},
	} {
		n.Pass(start)
		n.Complete(start, end)
	}
	if want := (Counts{Pass: 5, Complete: 5, RT: 60}); n.Total != want {
		t.Errorf("%+v, want %+v", n.Total, want)
	}
	if want := (Counts{Pass: 5, Complete: 3, RT: 60}); n.current.Counts != want || n.current.MinRT != 10 {
		t.Errorf("%+v, want %+v", n.current, want)
	}
	if n.Failed != 2 {
		t.Errorf("%d failed", n.Failed)
	}
	if n.InFlight != 0 {
		t.Errorf("%d in flight", n.InFlight)
	}
}
