package system

import "testing"

func TestCongested(t *testing.T) {
	for _, c := range []struct {
		inFlight    uint32
		maxComplete uint64
		minRT       uint32
		want        bool
	}{
		{1, 0, 1, false},    // one is always let in
		{2, 0, 60000, true}, // nothing completes
		{20, 50, 200, false},
		{21, 50, 200, true},
	} {
		if got := congested(c.inFlight, c.maxComplete, 500, c.minRT); got != c.want {
			t.Errorf("%+v: %t", c, got)
		}
	}
}
