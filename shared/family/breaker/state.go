package breaker

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
	// Generation counts the times it was half open. Successes are the probes of this one that have ended well.
	Generation uint64
	Successes  uint64
	// Places are the deadlines of the probes under way, 0 where there is none.
	Places [MaxOutstanding]int64
	// Newest is the number of the newest bucket, while closed. Counts has at i the counts of the bucket whose number is i
	// modulo Buckets+1: the window, and one bucket more for the completions that a worker brings late.
	Newest int64
	Counts [MaxBuckets + 1]Counts
}

// Probe is one request that is let through while the breaker is half open. Its deadline tells it from any other that had
// its place.
type Probe struct {
	Generation uint64
	Place      int
	Deadline   int64
}

// EntersAt is the first time, now or later, at which Enter would let an entry in if nothing happens until then: after the
// retry timeout, or, half open, when a place is free or the first of the probes under way is given up.
func (s *State) EntersAt(p *Params, now int64) int64 {
	switch s.Phase {
	case Closed:
		return now
	case Open:
		return max(now, s.Since+p.Retry)
	}
	underWay, first := uint64(0), int64(0)
	for _, deadline := range s.Places {
		if deadline > now {
			underWay++
			if first == 0 || deadline < first {
				first = deadline
			}
		}
	}
	if s.Successes >= p.Probes || underWay < min(p.Probes-s.Successes, MaxOutstanding) {
		return now
	}
	return first
}

// Enter asks for entry at the time now. The entry is a probe where isProbe; its end must then be told to Conclude or
// GiveBack. An entry into a closed breaker changes nothing.
func (s *State) Enter(p *Params, now int64) (probe Probe, isProbe, ok bool) {
	if s.EntersAt(p, now) > now {
		return Probe{}, false, false
	}
	switch {
	case s.Phase == HalfOpen && s.Successes >= p.Probes: // the rule has changed and asks for fewer
		s.close(now)
	case s.Phase == Open:
		s.Generation++
		s.begin(HalfOpen, now)
	}
	if s.Phase == Closed {
		return Probe{}, false, true
	}
	probe = Probe{Generation: s.Generation, Place: s.place(now), Deadline: now + p.ProbeTime}
	s.Places[probe.Place] = probe.Deadline
	return probe, true, true
}

// Conclude says how a probe ended. It reports whether that changes anything: a probe that has lost its place decides
// nothing.
func (s *State) Conclude(p *Params, probe Probe, bad bool, now int64) bool {
	if !s.GiveBack(probe) {
		return false
	}
	if bad {
		s.begin(Open, now)
		return true
	}
	if s.Successes++; s.Successes >= p.Probes {
		s.close(now)
	}
	return true
}

// GiveBack frees the place of a probe that did not go ahead. It reports whether the probe still had it.
func (s *State) GiveBack(probe Probe) bool {
	if s.Phase != HalfOpen || s.Generation != probe.Generation || s.Places[probe.Place] != probe.Deadline {
		return false
	}
	s.Places[probe.Place] = 0
	return true
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

func (s *State) close(now int64) {
	s.begin(Closed, now)
	s.Counts = [MaxBuckets + 1]Counts{}
}

func (s *State) begin(phase Phase, now int64) {
	s.Phase, s.Since, s.Successes = phase, now, 0
	s.Places = [MaxOutstanding]int64{}
}

// place takes their places from all probes whose time is over, and returns a free one.
func (s *State) place(now int64) int {
	free := 0
	for i := len(s.Places) - 1; i >= 0; i-- {
		if s.Places[i] <= now {
			s.Places[i] = 0
			free = i
		}
	}
	return free
}
