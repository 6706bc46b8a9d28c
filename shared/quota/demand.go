package quota

import "math"

// How much a process reserves at once, and when.
//
// What is reserved and not spent is lost to all, and so is what is left where somebody asks for more than that: a call that
// exceeds the limit brings nothing, and its hits are counted all the same. Few calls mean large reservations, and large
// reservations lose much if the load goes elsewhere, or if somebody else was faster. So a reservation is for as long as the
// process's load has shown that it stays, is cautious by as much as others may have taken since the last answer, and is the
// whole rest where that is known and soon spent.
const (
	// lead is for how long what is there must last, or more is asked for; it is longer than a call takes. In nanoseconds.
	lead = 10 * millisecond
	// shortest and longest bound for how long a reservation is made, in nanoseconds; between them it is a part of the time
	// for which the process's load has gone on.
	shortest    = 20 * millisecond
	longestSpan = 5000 * millisecond
	part        = 8
	// memory is the time over which a process's rate is averaged, in nanoseconds.
	memory = 60 * millisecond
	// sample is of how many requests it is the average at least, where they are rare: by chance alone the next one may come
	// soon.
	sample = 8
	// fine is how many parts of a permit State.Rate counts: in whole ones a small rate would never grow.
	fine = 1000
	// forgets is after how long without a request nothing is reserved for the next, in nanoseconds.
	forgets = 100 * millisecond
	// begins is for how long a window is one that has just begun, in nanoseconds.
	begins = 50 * millisecond
	// fresh is for how long after an answer nobody else is taken to have changed what is left, in nanoseconds.
	fresh = 5 * millisecond
	// tail is the part of the limit that is asked for where little is known of what is left: as much may be lost.
	tail = 100
	// little is the part of the limit that is asked for as a whole when it is all that is left, and of the rate of which others
	// do not matter.
	little = 30
	// careful is the part that a process takes of what it thinks is its share of the rest.
	careful = 0.8
	// enough is the part of the limit below which all demand together leaves enough for all, and few the processes whose load
	// may come at once. Load has settled that has gone on for that many windows.
	enough  = 0.75
	few     = 16
	settled = 2
	// gaps is how many requests may fail to come, beyond what is reserved, before the load has gone.
	gaps = 4
	// bearable is the part of the limit that may be lost when load goes, and mistrust how often a reservation is halved for
	// load that has gone with more.
	bearable = 200
	mistrust = 3
)

// rate is how many permits a second the process needs, as seen at the time now.
func (s *State) rate(now int64) float64 {
	before := float64(s.Rate) / fine
	if s.Spent > s.Begun { // it was refused since: that says nothing of what it needs, but until then it got it
		if s.Dry <= s.Begun {
			return before
		}
		now = min(now, s.Dry)
	}
	elapsed, used := float64(max(now-s.Begun, 0)), float64(s.used())
	over := float64(memory)
	if !s.surges(now) {
		over = min(max(over, sample*second/max(before, 1)), second)
	}
	return (before*over + used*second) / (over + elapsed)
}

// used is how many permits have been asked for since the last call.
func (s *State) used() int64 { return max(s.Used-s.Waiting, 0) + s.Missed }

// surges is whether more permits have been asked for since the last call than chance brings.
func (s *State) surges(now int64) bool {
	return float64(s.used()) > 2+2*float64(s.Rate)/fine*float64(max(now-s.Begun, 0))/second
}

// Want is how many hits to reserve at the time now, 0 where what there is lasts. sure is whether the service's window has
// not just turned, or may have.
func (s *State) Want(sure bool, now int64) int64 {
	if now < s.Spent || s.idle(now) {
		return 0
	}
	seen := *s
	seen.steady(now)
	return seen.want(sure, now)
}

// want is Want of a state that has seen whether the load has gone on.
func (s *State) want(sure bool, now int64) int64 {
	free, rate := s.free(now), s.rate(now)
	need := s.need(rate, now)
	lasts := free > min(perSpan(rate, lead), need/2)
	if s.Stock < s.Need*3/4 && now-s.Sent <= fresh { // it had to be cautious, and need not any more
		lasts = free > s.Need/2
	}
	if s.Missed == 0 && (lasts || s.Fickle > 0) {
		return 0
	}
	want := need + min(s.Missed, perSpan(rate, lead)+1) - free // who has waited for longer has gone
	switch {
	case want <= 0 || !sure && s.Missed == 0 && s.ample(rate, now): // of which window the answer is would not be sure either
		return 0
	case !sure && s.Remaining > 0: // with nothing left the answer shows by itself that the window has turned
		return min(want, s.least())
	}
	return min(want, s.most(rate, need, now))
}

// idle is whether nobody has asked for a permit for long, or since the service has refused them.
func (s *State) idle(now int64) bool {
	return s.Missed == 0 && (s.Spent > s.Begun || s.Used == 0 && now-s.Begun > forgets)
}

// perSpan is how many there are in so many nanoseconds at a rate a second.
func perSpan(rate float64, span int64) int64 { return int64(rate * float64(span) / second) }

// need is how many permits the process should have at a rate.
func (s *State) need(rate float64, now int64) int64 {
	span, left := s.span(now), s.left(now)
	if s.ample(rate, now) {
		span = longestSpan
	}
	if s.Fickle > 0 {
		return perSpan(rate, min(span, left))
	}
	return max(perSpan(rate, min(span, left)), min(perSpan(rate, left), s.least()))
}

// ample is whether the limit is more than enough for all, so that nobody misses what is reserved and not spent. Of load that
// has just come that is not known, unless it is small.
func (s *State) ample(rate float64, now int64) bool {
	unit := float64(max(s.Unit, 1))
	if float64(now-s.Since) < min(settled*unit*second, longestSpan) {
		return rate*unit < float64(s.Limit)/few
	}
	return s.spare(rate)
}

// spare is whether all demand together leaves some of the limit.
func (s *State) spare(rate float64) bool {
	return (rate+float64(s.Others))*float64(max(s.Unit, 1)) < enough*float64(s.Limit)
}

// span is for how long to reserve: load that has gone on for long goes on, unless it is known to come and go.
func (s *State) span(now int64) int64 {
	span := max((now-s.Since)/part, shortest)
	if s.Fickle > 0 {
		span >>= mistrust
	}
	return min(span, longestSpan, max(s.Unit, 1)*second/4)
}

// left is how long the service's window lasts; where it has ended another has just begun.
func (s *State) left(now int64) int64 {
	if now < s.End {
		return s.End - now
	}
	return max(s.Unit, 1) * second
}

// least is what may be asked for whatever is left.
func (s *State) least() int64 { return max(1, s.Limit/tail) }

// most is how many hits may be asked for at once by a process that needs so many.
func (s *State) most(rate float64, need, now int64) int64 {
	others := float64(s.Others)
	mine := rate / max(rate+others, 1)
	age := now - s.Sent
	rest := float64(s.Remaining) - others*float64(age)/second
	switch {
	case s.Limit == 0:
		return 1
	case s.Remaining == 0 && s.Spent < now && now < s.End: // it goes on though nothing is left: it only watches
		return math.MaxUint32
	case now >= s.End && (now-s.End)%(max(s.Unit, 1)*second) > begins && !s.ample(rate, now): // what others have left is not known
		return s.least()
	case now >= s.End: // of a new window nobody has had more than its share
		return max(s.least(), int64(careful*mine*float64(s.Limit)))
	case age <= fresh && (s.Remaining <= s.Limit/little || others < rate/little && rest <= float64(perSpan(rate, s.span(now)))):
		return max(1, s.Remaining)
	}
	cautious := careful * mine * rest
	switch {
	case age > fresh:
		cautious = min(cautious, rest-float64(need))
	case rest <= float64(perSpan(rate, s.span(now))): // it could spend all of it, but somebody else may ask at the same time
		cautious = rest / 2
	}
	return max(1, min(max(s.least(), int64(cautious)), s.Remaining))
}

// steady notes whether the load has gone on since the last call: what that has brought was spent about as fast as expected.
// Load that goes when much is reserved for it, of a limit that others need, is fickle, and is trusted again when it has
// stayed.
func (s *State) steady(now int64) {
	if s.used() == 0 {
		return // nobody has asked since
	}
	idle := now - max(s.Busy, min(s.Spent, now))
	s.Busy = now
	expected := second * float64(2*s.Stock+gaps) * fine / float64(max(s.Rate, fine))
	switch {
	case s.Since == 0:
		s.Since = now
	case float64(idle) > expected+50*millisecond:
		s.Since = now
		if lost := s.Stock - s.Used; lost*bearable > s.Limit && !s.spare(float64(s.Rate)/fine) {
			s.Fickle = 1
		}
	case now-s.Since > settled*second:
		s.Fickle = 0
	}
	if rate := s.rate(now) * fine; s.surges(now) && rate > float64(s.Rate) { // what has come is new
		s.Since = now - int64(float64(now-s.Since)*float64(s.Rate)/rate)
	}
}

// learn notes what others take, by an answer that says how many hits were counted in its window. window is whether that has
// begun since the answer before.
func (s *State) learn(hits, total int64, window bool, now int64) {
	if s.Sent == 0 || window || s.End > 0 && now >= s.End {
		s.settle(s.Limit-s.Remaining, max(s.Unit, 1)*second)
		s.Start, s.Mine = s.Begun, 0
		if !window { // what was before is not known to be of others
			s.Mine = total - hits
		}
	}
	s.Mine += hits
}

// settle notes how fast others have taken in a window of which so many hits were counted in so many nanoseconds.
func (s *State) settle(total, active int64) {
	if s.Start > 0 {
		s.Others = max(0, int64(float64(total-s.Mine)*second/float64(max(active, 50*millisecond))))
	}
	s.Start = 0
}
