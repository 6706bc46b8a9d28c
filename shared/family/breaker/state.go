package breaker

import "sentinel-envoy/shared/worker"

// Phase is a state of a breaker, with sentinel-golang's integers.
type Phase uint8

// The phases.
const (
	Closed Phase = iota
	HalfOpen
	Open
)

// String is the phase in words.
func (p Phase) String() string {
	switch p {
	case Closed:
		return "closed"
	case HalfOpen:
		return "half-open"
	}
	return "open"
}

// Counts are completions, and those of them that were bad.
type Counts struct{ Bad, Total uint64 }

// State is a breaker's. Its zero value is closed and has counted nothing. Times are nanoseconds.
type State struct {
	Phase Phase
	// At is the time of the newest transition, Since when the phase began.
	At, Since int64
	// Seen is the figure that opened it last.
	Seen float64
	// Granted is the mark of the newest probe, First that of the first since it became half open for the last time.
	// Successes are the probes since then that have ended well.
	Granted, First int64
	Successes      uint64
	// Again is how often it has opened again since it had last recovered.
	Again uint64
	// Places are the leases of the probes under way, also of those that decide nothing any more.
	Places [MaxOutstanding]Lease
	// Newest is the number of the newest bucket, while closed. Counts has at i the counts of the bucket whose number is i
	// modulo Buckets+1: the window, and one bucket more for the completions that a worker brings late.
	Newest int64
	Counts [MaxBuckets + 1]Counts
}

// Lease is the place of one probe: its mark, and when its worker was last seen. Its zero value is free.
type Lease struct{ Mark, Renewed int64 }

// freeAt is when the lease ends, as a worker has watched, if its own worker is silent from now on.
func (l *Lease) freeAt(w *worker.Watch, now int64) int64 {
	if l.Mark == 0 {
		return 0
	}
	return w.GoneAt(l.Renewed, now)
}

// Probe is one request that is let through while the breaker is half open. Its mark, about the time when it was, tells it
// from any other that had its place.
type Probe struct {
	Mark  int64
	Place int
}

// EntersAt is the first time, now or later, at which Enter may let an entry in if nothing happens until then: after the
// retry timeout, when there is a place, or the first of those that have one is given up for dead. w is the worker's.
func (s *State) EntersAt(p *Params, w *worker.Watch, now int64) int64 {
	at := now
	switch {
	case s.Phase == Closed, s.Phase == HalfOpen && s.Successes >= p.Probes:
		return now
	case s.Phase == Open:
		at = max(now, s.Since+p.retryAfter(s.Again))
	}
	all, mine, first := s.underWay(w, now, at)
	if all < min(p.Probes, MaxOutstanding) && (s.Phase == Open || mine < p.Probes-s.Successes) {
		return at
	}
	return first
}

// underWay counts the leases that will be good at a time, and those of them that decide, and finds the first that ends.
func (s *State) underWay(w *worker.Watch, now, at int64) (all, mine uint64, first int64) {
	for i := range s.Places {
		ends := s.Places[i].freeAt(w, now)
		if ends <= at {
			continue
		}
		all++
		if s.Places[i].Mark >= s.First {
			mine++
		}
		if first == 0 || ends < first {
			first = ends
		}
	}
	return all, mine, first
}

// Enter asks for entry at the time now. The entry is a probe where isProbe; its worker must then call Renew for as long as
// it is under way, and Conclude or GiveBack when it is not any more. An entry into a closed breaker changes nothing.
func (s *State) Enter(p *Params, w *worker.Watch, now int64) (probe Probe, isProbe, ok bool) {
	if s.EntersAt(p, w, now) > now {
		return Probe{}, false, false
	}
	mark := max(s.Granted+1, now)
	switch {
	case s.Phase == HalfOpen && s.Successes >= p.Probes: // the rule has changed and asks for fewer
		s.close(p, now)
	case s.Phase == Open:
		s.begin(HalfOpen, now)
		s.First = mark
	}
	if s.Phase == Closed {
		return Probe{}, false, true
	}
	s.Granted = mark
	probe = Probe{Mark: mark, Place: s.place(w, now)}
	s.Places[probe.Place] = Lease{Mark: mark, Renewed: now}
	return probe, true, true
}

// Renew says that a probe is still under way. It reports whether the probe still has its place: without, it decides
// nothing.
func (s *State) Renew(probe Probe, now int64) bool {
	l := &s.Places[probe.Place]
	if l.Mark != probe.Mark {
		return false
	}
	l.Renewed = now
	return true
}

// GiveBack frees the place of a probe whose end says nothing. It reports whether the probe still had it.
func (s *State) GiveBack(probe Probe) bool {
	l := &s.Places[probe.Place]
	if l.Mark != probe.Mark {
		return false
	}
	*l = Lease{}
	return true
}

// Conclude says how a probe ended, and frees its place. It reports whether it still had that, and whether it decides: a
// probe of an earlier time half open does not, nor does one that has lost its place.
func (s *State) Conclude(p *Params, probe Probe, bad bool, now int64) (held, decides bool) {
	if held = s.GiveBack(probe); !held || s.Phase != HalfOpen || probe.Mark < s.First {
		return held, false
	}
	if bad {
		s.Again = min(s.Again+1, maxAgain)
		s.begin(Open, now)
		return true, true
	}
	if s.Successes++; s.Successes >= p.Probes {
		s.close(p, now)
	}
	return true, true
}

// Add counts completions in a bucket, and opens the breaker at the time now where they bring a window over the threshold.
// since is when the first of them was counted. It reports whether anything changed: only a closed breaker counts, and
// only what was counted after it closed.
func (s *State) Add(p *Params, bucket int64, c Counts, since, now int64) bool {
	n := int64(p.Window.Buckets)
	if s.Phase != Closed || c.Total == 0 || since < s.Since || bucket < s.Newest-n {
		return false
	}
	s.advance(n, bucket)
	slot := &s.Counts[bucket%(n+1)]
	slot.Bad += c.Bad
	slot.Total += c.Total
	// What comes late belongs to the window that ended with the bucket before the newest, too.
	for end := max(bucket, s.Newest-1); end <= min(s.Newest, bucket+n-1); end++ {
		if figure, opens := p.judge(s.sum(n, end)); opens {
			s.Seen = figure
			if s.Again++; now >= s.RecoversUntil(p) {
				s.Again = 0
			}
			s.Again = min(s.Again, maxAgain)
			s.begin(Open, now)
			break
		}
	}
	return true
}

// sum adds up the window of n buckets that ends with end.
func (s *State) sum(n, end int64) (sum Counts) {
	for b := max(end-n+1, 0); b <= end; b++ {
		c := s.Counts[b%(n+1)]
		sum.Bad += c.Bad
		sum.Total += c.Total
	}
	return sum
}

// advance makes bucket the newest, unless it is not newer: what is older than the n before it is forgotten.
func (s *State) advance(n, bucket int64) {
	if bucket <= s.Newest {
		return
	}
	for b := max(bucket-n, s.Newest+1); b <= bucket; b++ {
		s.Counts[b%(n+1)] = Counts{}
	}
	s.Newest = bucket
}

// RecoversUntil is until when a closed breaker lets in only a share of the requests, 0 where it does not.
func (s *State) RecoversUntil(p *Params) int64 {
	if s.Phase != Closed || p.Recovery == 0 || s.Granted == 0 { // it was never open
		return 0
	}
	return s.Since + p.Recovery
}

func (s *State) close(p *Params, now int64) {
	if s.begin(Closed, now); p.Recovery == 0 {
		s.Again = 0
	}
	s.Counts = [MaxBuckets + 1]Counts{}
}

func (s *State) begin(phase Phase, now int64) {
	s.Phase, s.Since, s.Successes = phase, now, 0
}

// place ends the leases of dead workers, and returns a free place.
func (s *State) place(w *worker.Watch, now int64) int {
	free := 0
	for i := len(s.Places) - 1; i >= 0; i-- {
		if s.Places[i].freeAt(w, now) <= now {
			s.Places[i] = Lease{}
			free = i
		}
	}
	return free
}
