package quota_test

import (
	"math"
	"testing"

	"sentinel-envoy/shared/quota"
	"sentinel-envoy/shared/rls"
)

// known is a clock whose seconds turn at the given time and 10 ms later at most.
func known(at int64) *quota.Clock { return &quota.Clock{Low: at, High: at + 10*millisecond} }

// ask makes a state whose call for so many hits was begun at a time.
func ask(s quota.State, hits, at int64) quota.State {
	s.Begin(hits, 50*millisecond, at)
	return s
}

func ok(limit, remaining uint32, unit rls.Unit, reset int64) *rls.Answer {
	return &rls.Answer{Code: rls.OK, Limited: true, Limit: limit, Remaining: remaining, Unit: unit, ResetSeconds: reset}
}

// What is reserved holds until the window may end in which it was counted: of a clock that is known to 10 ms, by the earliest.
func TestReservationsEndWithTheWindow(t *testing.T) {
	const turn = 100 * second
	for _, c := range []struct {
		name      string
		clock     *quota.Clock
		asked     int64
		answered  int64
		answer    *rls.Answer
		window    bool
		before    int64 // when the call before was made
		free, end int64
	}{
		{"in the middle of a second", known(turn), turn + 500*millisecond, turn + 510*millisecond, ok(100, 92, 1, 1), false, 0, 8, turn + second},
		{"a minute's last 30 s", known(turn), turn + 500*millisecond, turn + 510*millisecond, ok(100, 92, 2, 30), false, 0, 8, turn + 30*second},
		{"a clock that is not known", &quota.Clock{}, turn, turn + millisecond, ok(100, 92, 1, 1), false, 0, 0, 0},
		{"a minute's last 30 s by a clock that is not known", &quota.Clock{}, turn, turn + millisecond, ok(100, 92, 2, 30), false, 0, 8, turn + 29*second},
		{"as the second may turn", known(turn), turn + 5*millisecond, turn + 6*millisecond, ok(100, 92, 1, 1), false, 0, 0, 0},
		{"as it turns, seen by the count", known(turn), turn + 5*millisecond, turn + 6*millisecond, ok(100, 92, 1, 1), true, turn - 20*millisecond, 8, turn + second},
		{"counted in a minute, told of the next", known(turn), turn - 5*millisecond, turn + 15*millisecond, ok(100, 92, 2, 60), false, 0, 0, 0},
		{"a minute that is new", known(turn), turn + 15*millisecond, turn + 16*millisecond, ok(100, 92, 2, 60), false, 0, 8, turn + 60*second},
		{"late", known(turn), turn + 980*millisecond, turn + second + millisecond, ok(100, 92, 1, 1), false, 0, 0, 0},
	} {
		s := ask(quota.State{Sent: c.before}, 8, c.asked)
		s.Answer(c.answer, c.clock, c.window, c.answered)
		end := s.End
		if s.Free == 0 {
			end = 0
		}
		if slop := c.end - end; s.Free != c.free || slop < 0 || slop > millisecond { // a clock drifts
			t.Errorf("%s: %d until %d, want %d until %d", c.name, s.Free, end, c.free, c.end)
		}
	}
}

// Permits of one window are put together until the earlier of their ends; those of an earlier window do not come back.
func TestPermitsStayInTheirWindow(t *testing.T) {
	const turn = 100 * second
	s := ask(quota.State{}, 8, turn+100*millisecond)
	s.Answer(ok(100, 92, 1, 1), known(turn), false, turn+110*millisecond)
	s = ask(s, 8, turn+200*millisecond)
	s.Answer(ok(100, 84, 1, 1), known(turn+50*millisecond), false, turn+210*millisecond)
	if s.Free != 16 || s.End > turn+second {
		t.Errorf("%d until %d", s.Free, s.End)
	}
	window := s.Window
	if got := s.Lease(100, turn+300*millisecond); got != 4 || s.Free != 12 {
		t.Errorf("leased %d of 16, %d are left", got, s.Free)
	}
	if !s.Return(window, 2, turn+400*millisecond) || s.Free != 14 {
		t.Errorf("%d after 2 came back", s.Free)
	}
	if got := s.Lease(1, turn+1000*millisecond); got != 0 {
		t.Errorf("leased %d after its end", got)
	}
	s = ask(s, 8, turn+1500*millisecond)
	s.Answer(ok(100, 92, 1, 1), known(turn), true, turn+1510*millisecond)
	if s.Free != 8 || s.Return(window, 2, turn+1520*millisecond) || s.Free != 8 {
		t.Errorf("%d in the new window, with what was of the old", s.Free)
	}
}

// What others may have got since is not taken for a window that has begun.
func TestTurnedOnlyWhereCertain(t *testing.T) {
	base := quota.State{Sent: 1, Limit: 100, Unit: 1, Counted: 40, Asked: 8}
	for _, c := range []struct {
		name   string
		state  quota.State
		answer *rls.Answer
		window bool
		once   bool
	}{
		{"as many as before and ours", base, ok(100, 52, 1, 1), false, false},
		{"fewer", base, ok(100, 53, 1, 1), true, true},
		{"another limit", base, ok(200, 190, 1, 1), false, false},
		{"no answer before", quota.State{Asked: 8}, ok(100, 92, 1, 1), false, false},
		{"none left", base, ok(100, 0, 1, 1), false, false},
		{"refused", base, &rls.Answer{Code: rls.OverLimit, Limited: true, Limit: 100, Unit: 1, ResetSeconds: 1}, false, false},
		{"a minute's next second", quota.State{Sent: 1, Limit: 100, Unit: 60, Counted: 40, Asked: 8, Reset: 30}, ok(100, 52, 2, 29), false, true},
		{"a minute's same second", quota.State{Sent: 1, Limit: 100, Unit: 60, Counted: 40, Asked: 8, Reset: 30}, ok(100, 52, 2, 30), false, false},
		{"a minute's first second", quota.State{Sent: 1, Limit: 100, Unit: 60, Counted: 40, Asked: 8, Reset: 1}, ok(100, 92, 2, 60), true, true},
	} {
		if window, once := c.state.Turned(c.answer); window != c.window || once != c.once {
			t.Errorf("%s: window %t, once %t", c.name, window, once)
		}
	}
}

// A service that fails is left alone for twice as long each time, by each process a little otherwise.
func TestBackOff(t *testing.T) {
	s, now := quota.State{}, 100*second
	for i := range 10 {
		s.Begin(0, 50*millisecond, now)
		if s.Expire(now + 100*millisecond) {
			t.Error("a call that is under way has expired")
		}
		now += second
		if !s.Expire(now) || !s.Failing() {
			t.Fatal("a call that nobody answers does not expire")
		}
		wait, want := s.Next-now, min(int64(100)<<i, 5000)*millisecond
		if wait < want*3/4 || wait > want*5/4 || s.MayCall(s.Next-1) || !s.MayCall(s.Next) {
			t.Errorf("after %d failures it waits %d ms, want %d", i+1, wait/millisecond, want/millisecond)
		}
		now = s.Next
	}
	s.Begin(0, 50*millisecond, now)
	s.Answer(ok(100, 100, 1, 1), &quota.Clock{}, false, now+millisecond)
	if s.Failing() {
		t.Error("it fails though it has answered")
	}
}

// What a service only watches, or does not limit at all, is reserved by the demand alone.
func TestUnlimited(t *testing.T) {
	const turn = 100 * second
	s := ask(quota.State{}, 1, turn+100*millisecond)
	s.Answer(&rls.Answer{Code: rls.OK, Remaining: 1<<32 - 1}, &quota.Clock{}, false, turn+110*millisecond)
	if got := s.Lease(1<<20, turn+200*millisecond); got != 1<<20 {
		t.Errorf("%d", got)
	}
	if _, calibrates := s.Calibrates(&quota.Clock{}, turn+300*millisecond); calibrates {
		t.Error("it asks for the clock of a limit that there is not")
	}
}

func TestStateIsReadAsWritten(t *testing.T) {
	s := ask(quota.State{}, 8, 100*second)
	s.Answer(ok(100, 92, 1, 1), known(99*second), false, 100*second+millisecond)
	var got quota.State
	if !got.Decode(s.Encode(nil), 101*second) || got != s {
		t.Errorf("%+v, want %+v", got, s)
	}
	for n := range len(s.Encode(nil)) {
		if got.Decode(s.Encode(nil)[:n], 101*second) {
			t.Errorf("%d bytes of it are read", n)
		}
	}
	if got.Decode(s.Encode(nil), 99*second) {
		t.Error("it is of a time to come")
	}
	c := known(99 * second)
	var clock quota.Clock
	if !clock.Decode(c.Encode(nil), 100*second) || clock != *c || clock.Decode(c.Encode(nil), 98*second) {
		t.Errorf("%+v, want %+v", clock, c)
	}
}

func TestClock(t *testing.T) {
	var c quota.Clock
	if c.Known(0) || c.Next(5*second) != 5*second {
		t.Error("it knows something of nothing")
	}
	c.Observe(10*second, 10*second+900*millisecond) // too wide
	if c.Known(11 * second) {
		t.Error("it knows something of nearly a second")
	}
	c.Observe(20*second+300*millisecond, 20*second+340*millisecond)
	if got := c.Next(21 * second); got > 21*second+300*millisecond || got < 21*second+299*millisecond {
		t.Errorf("next at %d", got)
	}
	if got := c.Next(21*second + 320*millisecond); got != 21*second+320*millisecond {
		t.Errorf("within the interval next is at %d", got)
	}
	if !c.Observe(29*second+500*millisecond, 30*second+310*millisecond) || c.High > 30*second+310*millisecond {
		t.Errorf("a wide look that has but one turn in it says when that was at the latest: %+v", c)
	}
	for i := range 3 {
		if c.Observe(40*second+800*millisecond, 40*second+810*millisecond) {
			t.Errorf("contradiction %d is none", i+1)
		}
	}
	if c.Low != 40*second+800*millisecond {
		t.Errorf("it does not believe three of them: %+v", c)
	}
	if c.Known(40*second + 3600*second) {
		t.Error("it is known after an hour without a look")
	}
}

// Whatever a service answers, what it leaves is a state that can be read again: else all that is reserved would be lost with it.
func TestEveryAnswerLeavesAStateThatCanBeRead(t *testing.T) {
	const turn = 100 * second
	for name, a := range map[string]*rls.Answer{
		"more left than the limit": ok(10, 30, 1, 1), "far more left": ok(10, math.MaxUint32, 2, 30),
		"a window of no length": ok(10, 5, 1, 0),
	} {
		s := ask(quota.State{}, 8, turn)
		for i := range int64(3) {
			at := turn + (100+300*i)*millisecond
			s = ask(s, 8, at)
			s.Answer(a, known(turn), false, at+millisecond)
			var read quota.State
			if !read.Decode(s.Encode(nil), at+2*millisecond) {
				t.Errorf("%s: after %d answers: %+v", name, i+1, s)
			}
		}
	}
}
