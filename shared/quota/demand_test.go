package quota_test

import (
	"testing"

	"sentinel-envoy/shared/quota"
)

// How much is asked for at once follows from what is known: of the load, of what others take, and of what is left.
func TestWant(t *testing.T) {
	const now, turn = 1000 * second, 999*second + 500*millisecond
	// steady has needed 400 permits a second for 2 s, with all of a second's window known; others take as many.
	steady := quota.State{
		Begun: now - 250*millisecond, Since: now - 2*second, Rate: 400_000, Used: 100, End: turn + second, Limit: 1000, Unit: 1,
		Sent: now - 250*millisecond, Remaining: 700, Others: 400, Start: turn, Asked: 100, Need: 100, Stock: 100,
		Busy: now - 250*millisecond,
	}
	with := func(change func(*quota.State)) quota.State {
		s := steady
		change(&s)
		return s
	}
	for _, c := range []struct {
		name        string
		state       quota.State
		unsure      bool
		least, most int64
	}{
		{"2 s of load: an eighth of it", steady, false, 95, 105},
		{"what there is lasts", with(func(s *quota.State) { s.Free = 50 }), false, 0, 0},
		{"load that has just come: 20 ms", with(func(s *quota.State) { s.Since = now - 50*millisecond }), false, 8, 10},
		{"all demand is far below the limit: all of the window", with(func(s *quota.State) { s.Limit, s.Remaining, s.Others = 2000, 1500, 100 }), false, 190, 205},
		{"others may have taken most of what was left", with(func(s *quota.State) { s.Remaining = 150 }), false, 10, 10},
		{"nearly nothing is left, as an answer has just said", with(func(s *quota.State) { s.Remaining, s.Sent, s.Begun, s.Used = 25, now-millisecond, now-millisecond, 0 }), false, 25, 25},
		{"the window may have turned", steady, true, 10, 10},
		{"it was refused, and nobody has asked since", with(func(s *quota.State) { s.Spent = now - 10*millisecond }), false, 0, 0},
		{"it was refused", with(func(s *quota.State) { s.Spent = now + 10*millisecond; s.Missed = 9 }), false, 0, 0},
		{"nobody has asked for long", with(func(s *quota.State) { s.Used = 0 }), false, 0, 0},
		{"amid a window of which nothing is known", with(func(s *quota.State) { s.End = now - 400*millisecond }), false, 10, 10},
		{"the first of all", quota.State{Missed: 3}, false, 1, 1},
	} {
		s := c.state
		if got := s.Want(!c.unsure, now); got < c.least || got > c.most {
			t.Errorf("%s: %d, want %d to %d", c.name, got, c.least, c.most)
		}
	}
}
