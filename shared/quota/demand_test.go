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
		{"load that has gone before: a 64th, for somebody who waits", with(func(s *quota.State) { s.Fickle, s.Missed = 1, 1 }), false, 12, 14},
		{"and nothing where nobody does", with(func(s *quota.State) { s.Fickle = 1 }), false, 0, 0},
		{"much more load than before is new", with(func(s *quota.State) { s.Used = 1000 }), false, 90, 110},
		{"the window may have turned, there is plenty, and nobody waits", with(func(s *quota.State) { s.Limit, s.Others = 2000, 100 }), true, 0, 0},
	} {
		s := c.state
		if got := s.Want(!c.unsure, now); got < c.least || got > c.most {
			t.Errorf("%s: %d, want %d to %d", c.name, got, c.least, c.most)
		}
	}
}

// Load that goes when much lies here for it is not trusted when it comes back, until it has stayed; where the limit is more than
// enough, or little lay here, nothing is held against it.
func TestLoadThatGoesIsRemembered(t *testing.T) {
	const now = 1000 * second
	for _, c := range []struct {
		name         string
		used, others int64
		fickle       bool
	}{
		{"90 of 100 lay here", 10, 700, true},
		{"2 of 100", 98, 700, false},
		{"90 of 100, of which nobody misses any", 10, 100, false},
	} {
		s := quota.State{
			Begun: now, Busy: now, Since: now - 2*second, Rate: 400_000, Used: c.used, Stock: 100, Limit: 1000, Unit: 1, Others: c.others,
		}
		back := now + 3*second
		s.Begin(1, 50*millisecond, back)
		if got := s.Fickle > 0; got != c.fickle || s.Since != back {
			t.Errorf("%s: fickle %t, load since %d ms before", c.name, got, (back-s.Since)/millisecond)
		}
		for i := range int64(25) {
			s.Used, s.Stock = 40, 40
			s.Begin(40, 50*millisecond, back+(i+1)*100*millisecond)
			if i == 10 && s.Fickle > 0 != c.fickle {
				t.Errorf("%s: fickle %t after a second", c.name, !c.fickle)
			}
		}
		if s.Fickle > 0 {
			t.Errorf("%s: it is fickle though it has stayed for 2.5 s", c.name)
		}
	}
}
