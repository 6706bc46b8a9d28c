package quota

import (
	"encoding/binary"
	"math"

	"sentinel-envoy/shared/rls"
)

const (
	millisecond = 1e6
	// lease is the part of the reserved permits that one worker takes at most.
	lease = 4
	// growth is by how much a lease may exceed the one before.
	growth = 4
	// spacing is between two calls of which the first has brought nothing, in nanoseconds. It doubles after each vain of
	// them, five times at most.
	spacing = 5 * millisecond
	vain    = 64
	// looking is between two calls that look for the turn of the service's second while nothing is known of it, and hurried
	// where requests wait for that. Who looks too late sees what others have taken of the new window, and no turn. In
	// nanoseconds.
	looking = 30 * millisecond
	hurried = 8 * millisecond
	// slack is for how much longer than its time-out a call counts as under way: Envoy ends it by then, unless the worker
	// that made it has died.
	slack = 200 * millisecond
	// firstBackOff and lastBackOff bound the time between calls to a service that fails, in nanoseconds.
	firstBackOff, lastBackOff = 100 * millisecond, 5000 * millisecond
	// doubt is for how long after a refusal a service is known to refuse, and not only to watch, in nanoseconds.
	doubt = 10_000 * millisecond
	// endless are the permits of a rule that the service does not limit.
	endless = 1 << 40
)

// State is what a process has reserved of one limit of the service's, and how it stands with the service. Times are the
// monotonic clock's, in nanoseconds. Its zero value has asked for nothing yet.
//
// What is reserved was counted by the service before, in the window in which it is spent: an answer that is late or lost
// leaves its hits counted there, and brings none here.
type State struct {
	// Free permits are reserved and given to no worker. They hold until End, and belong to the window of that number.
	Free, End, Window int64
	// Serial is the number of the last call, Begun when it was made and Asked how many hits it asked for. Deadline is until
	// when it is under way, 0 where it is not.
	Serial, Begun, Asked, Deadline int64
	// Used permits went to workers since Begun, and Missed entries found none. Rate is how many thousandths went in a second
	// before.
	Used, Missed, Rate int64
	// Next is the earliest time of the next call, Spent the earliest at which the service has more, Failures how many calls
	// in a row have failed, Vain how many have brought no permits.
	Next, Spent, Failures, Vain int64
	// Of the last answer: when it was asked for, 0 where there was none; the limit and its unit in seconds; how many hits
	// were counted at least; how many are left; in how many seconds the window ends.
	Sent, Limit, Unit, Counted, Remaining, Reset int64
	// Since is when the process's load began that has gone on, and Others how many permits all others together take in a
	// second. The window began at Start or later, and Mine are the hits in it that are not theirs.
	Since, Others, Start, Mine, Need, Stock, Refused, Waiting int64
	// Busy is the time of the last call before which somebody had asked since the one before it, and Fickle not 0 where the
	// load has gone before and much was lost with it. Dry is when the last of the free permits went to a worker.
	Fickle, Busy, Dry int64
}

// Failing is whether the service does not answer, so that others must decide.
func (s *State) Failing() bool { return s.Failures > 0 }

// Lease gives up to want permits to a worker, 0 where there are none at the time now.
func (s *State) Lease(want, now int64) int64 {
	if s.Free <= 0 || now >= s.End {
		return 0
	}
	n := min(want, max(1, s.Free/lease))
	s.Free -= n
	s.Used += n
	if s.Free == 0 {
		s.Dry = now
	}
	return n
}

// Return takes back n permits that a worker had of a window.
func (s *State) Return(window, n, now int64) bool {
	if window != s.Window || now >= s.End || n <= 0 {
		return false
	}
	s.Free += n
	s.Used = max(s.Used-n, 0)
	return true
}

// free are the permits that hold at the time now.
func (s *State) free(now int64) int64 {
	if now >= s.End {
		return 0
	}
	return s.Free
}

// Expire ends a call that nobody has answered. Its hits count as spent.
func (s *State) Expire(now int64) bool {
	if s.Deadline == 0 || now <= s.Deadline {
		return false
	}
	s.fail(now)
	return true
}

// MayCall is whether the service may be asked at the time now.
func (s *State) MayCall(now int64) bool { return s.Deadline == 0 && now >= s.Next }

// Begin makes a call for so many hits, which is under way for its time-out in nanoseconds.
func (s *State) Begin(hits, timeout, now int64) {
	s.steady(now)
	rate := s.rate(now)
	s.Rate, s.Need, s.Stock = int64(rate*fine), s.need(rate, now), s.free(now)+hits
	s.Serial = max(s.Serial+1, now) // a record that was lost must not give a number twice
	s.Begun, s.Asked, s.Deadline = now, hits, now+timeout+slack
	s.Used, s.Missed, s.Waiting = 0, 0, s.Missed
}

// Calibrates is whether to ask the service only for what its clock says, and for how many hits: the first of a window
// shows in which one it is.
func (s *State) Calibrates(c *Clock, now int64) (hits int64, calibrates bool) {
	const narrow = 60 * millisecond
	if now < s.Spent || s.Sent > 0 && s.Limit == 0 || c.Known(now) && (c.Width(now) <= narrow || c.Next(now) > now) {
		return 0, false
	}
	if s.Unit == 1 && s.Counted == 0 {
		return 1, true
	}
	return 0, true
}

// amid is whether the window is sure neither to end soon nor to have just begun at the time now, by the last answer.
func (s *State) amid(now int64) bool {
	left := s.Reset - (now-s.Sent)/second
	return s.Sent > 0 && left > 2 && s.Reset < s.Unit
}

// current is whether an answer is to the call that is under way.
func (s *State) current(serial int64) bool { return s.Deadline != 0 && serial == s.Serial }

// Turned is what an answer, which came at the time now, says of the service's clock beside the one before: whether a window
// must have begun between them, and whether just one of its seconds.
func (s *State) Turned(a *rls.Answer) (window, once bool) {
	unit := a.Unit.Seconds()
	if s.Sent == 0 || int64(a.Limit) != s.Limit || unit != s.Unit {
		return false, false
	}
	window = a.Code == rls.OK && a.Remaining > 0 && counted(a, s.Asked) < s.Counted+s.Asked
	if unit > 1 {
		return window, s.Reset > 0 && a.ResetSeconds > 0 && (s.Reset-a.ResetSeconds+unit)%unit == 1
	}
	return window, window
}

// counted is how many hits the service has counted in its window, at least, by its answer to a call for some: not every
// service counts those that it refuses.
func counted(a *rls.Answer, hits int64) int64 {
	if a.Code == rls.OverLimit {
		return max(int64(a.Limit)-hits+1, 0)
	}
	return int64(a.Limit) - min(int64(a.Remaining), int64(a.Limit))
}

// ends is the earliest time at which the window may end in which the service has counted a call, by an answer that came at
// the time now. window is whether one must have begun since the last answer.
//
// The service reads its clock once to count and once more to say how long the window lasts, anywhere between the call and
// the answer. Where it says that all of the window is left it may have counted in the one before.
func (s *State) ends(a *rls.Answer, c *Clock, window bool, now int64) int64 {
	unit := max(a.Unit.Seconds(), 1)
	left := min(max(a.ResetSeconds, 1), unit)
	next := c.Next(s.Begun)
	end := next + (left-1)*second
	if left == unit && next <= now {
		end = next
	}
	if window {
		end = max(end, c.Next(s.Sent)+unit*second)
	}
	return end
}

// Answer takes the answer to the call under way, which came at the time now. clock has seen it, and window is whether a
// window of the service's must have begun since the answer before.
func (s *State) Answer(a *rls.Answer, c *Clock, window bool, now int64) {
	hits, end := s.Asked, s.ends(a, c, window, now)
	s.Deadline, s.Failures = 0, 0
	s.Next = now
	switch {
	case a.Unlimited():
		s.Free, s.End, s.Spent, s.Remaining = endless, now+second, 0, math.MaxUint32
		s.Window++
	case a.Code == rls.OverLimit && a.Limit == 0: // nothing is ever to be had
		s.Remaining, s.Spent = 0, now+jitter(second, now)
	case a.Code == rls.OverLimit:
		s.settle(s.Limit, s.Begun-s.Start)
		s.Refused, s.Missed = now, 0 // who has waited is refused
		s.Remaining, s.Spent = 0, max(end, s.later(c, now))
	default:
		s.learn(hits, counted(a, hits), window, now)
		s.Remaining, s.Spent = int64(a.Remaining), 0
		s.reserve(hits, end, window, c, now)
		if s.Remaining == 0 && now < s.Refused+doubt { // it does not only watch
			s.settle(s.Limit, s.Begun-s.Start)
			s.Spent = s.End
		}
	}
	s.Sent, s.Limit, s.Unit = s.Begun, int64(a.Limit), a.Unit.Seconds()
	s.Counted, s.Reset = counted(a, hits), a.ResetSeconds
}

// reserve adds hits that were counted in a window that ends at end, or not before. Where it may have ended they are lost.
func (s *State) reserve(hits, end int64, window bool, c *Clock, now int64) {
	if hits > 0 && end > now {
		s.Vain = 0
	}
	switch {
	case hits == 0 || end <= now:
		s.Next = s.later(c, now)
	case s.free(now) > 0 && !window:
		s.Free, s.End = s.Free+hits, min(s.End, end)
	default:
		s.Free, s.End = hits, end
		s.Window++
	}
}

// later is when to call again after a call that has brought nothing.
func (s *State) later(c *Clock, now int64) int64 {
	s.Vain++
	if !c.Known(now) {
		between := int64(looking)
		if s.Waiting+s.Missed > 0 {
			between = hurried
		}
		return now + jitter(between<<min(s.Vain/vain, 5), now)
	}
	return now + jitter(spacing<<min(s.Vain/vain, 5), now)
}

// fail counts a call that has failed. The next is made after a time that doubles with each.
func (s *State) fail(now int64) {
	s.Deadline = 0
	s.Failures++
	wait := int64(lastBackOff)
	if s.Failures < 7 {
		wait = min(wait, firstBackOff<<(s.Failures-1))
	}
	s.Next = now + jitter(wait, now)
}

// jitter is a time from 3/4 to 5/4 of d: processes that have seen a service fail together do not come back together.
func jitter(d, now int64) int64 {
	h := uint64(now) * 0x9e3779b97f4a7c15 >> 40
	return d*3/4 + int64(h)%(d/2)
}

// numbers are all of the state, in the order in which they are stored.
func (s *State) numbers() [31]*int64 {
	return [...]*int64{
		&s.Free, &s.End, &s.Window, &s.Serial, &s.Begun, &s.Asked, &s.Deadline, &s.Used, &s.Missed, &s.Rate,
		&s.Next, &s.Spent, &s.Failures, &s.Vain, &s.Sent, &s.Limit, &s.Unit, &s.Counted, &s.Remaining, &s.Reset,
		&s.Since, &s.Others, &s.Start, &s.Mine, &s.Need, &s.Stock, &s.Refused, &s.Waiting, &s.Fickle, &s.Busy, &s.Dry,
	}
}

// Encode appends the state to dst, little endian.
func (s *State) Encode(dst []byte) []byte {
	for _, v := range s.numbers() {
		dst = binary.LittleEndian.AppendUint64(dst, uint64(*v))
	}
	return dst
}

// Decode reads what Encode wrote at the time now or before, and reports whether it could be that.
func (s *State) Decode(src []byte, now int64) bool {
	numbers := s.numbers()
	if len(src) != 8*len(numbers) {
		return false
	}
	for i, v := range numbers {
		*v = int64(binary.LittleEndian.Uint64(src[8*i:]))
		if *v < 0 {
			return false
		}
	}
	const year = 366 * 24 * 3600 * second
	return s.Begun <= now && s.Sent <= now && s.End <= now+year && s.Free <= 2*endless && s.Deadline <= now+year
}
