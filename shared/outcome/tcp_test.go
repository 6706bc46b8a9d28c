package outcome_test

import (
	"testing"

	"sentinel-envoy/shared/outcome"
)

// Flags as Envoy numbers them.
const (
	uh, lr, ur, uf, uo, urx, dt outcome.Flags = 1 << 1, 1 << 3, 1 << 4, 1 << 5, 1 << 7, 1 << 15, 1 << 22
)

func TestTCP(t *testing.T) {
	f := outcome.DefaultFailures()
	for _, c := range []struct {
		name            string
		flags           outcome.Flags
		asked, answered bool
		want            outcome.Outcome
		time            int64
		gave            bool
	}{
		{"closed by either side after an answer", 0, true, true, outcome.Well, waited, false},
		{"the upstream spoke first", 0, false, true, outcome.Well, waited, false},
		{"refused", uf | urx, false, false, outcome.Badly, waited, false},
		{"nobody to connect to", uh, false, false, outcome.Badly, waited, false},
		{"reset by the upstream", ur, true, true, outcome.Badly, waited, false},
		{"reset by Envoy", lr, true, true, outcome.Badly, waited, false},
		{"the client left without an answer", 0, true, false, outcome.Silent, waited, true},
		{"RBAC, or nobody said anything", 0, false, false, outcome.Silent, outcome.NoTime, false},
		{"over the cluster's limits", uo, false, false, outcome.Silent, outcome.NoTime, false},
		{"max_downstream_connection_duration", dt, true, true, outcome.Silent, waited, false},
		{"max_downstream_connection_duration without an answer", dt, true, false, outcome.Silent, waited, true},
	} {
		got := f.TCP(outcome.TCPEnd{Flags: c.flags, Asked: c.asked, Answered: c.answered, WaitMs: waited})
		if want := (outcome.End{Outcome: c.want, ResponseMs: c.time, GaveUp: c.gave, Connection: true}); got != want {
			t.Errorf("%s: %+v, want %+v", c.name, got, want)
		}
	}
	silent, abandoned := outcome.Failures{}, outcome.Failures{AbandonedAfterMs: waited}
	for _, c := range []struct {
		f    *outcome.Failures
		end  outcome.TCPEnd
		want outcome.Outcome
	}{
		{&silent, outcome.TCPEnd{Flags: uf}, outcome.Silent},
		{&silent, outcome.TCPEnd{Flags: ur}, outcome.Silent},
		{&silent, outcome.TCPEnd{Flags: ur, Answered: true}, outcome.Well},
		{&abandoned, outcome.TCPEnd{Asked: true, WaitMs: waited}, outcome.Badly},
		{&abandoned, outcome.TCPEnd{Asked: true, WaitMs: waited - 1}, outcome.Silent},
		{&abandoned, outcome.TCPEnd{WaitMs: waited}, outcome.Silent},
	} {
		if got := c.f.TCP(c.end).Outcome; got != c.want {
			t.Errorf("%+v by %+v: %v, want %v", c.end, *c.f, got, c.want)
		}
	}
}
