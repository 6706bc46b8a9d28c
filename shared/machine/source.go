package machine

import (
	"errors"
	"fmt"

	"sentinel-envoy/shared/config"
	"sentinel-envoy/shared/host"
)

// Key is that of the figures in shared data.
const Key = "sentinel/1/system"

// Source is the figures of the machine as one worker knows them: the one that aggregates asks for them and publishes the
// answer, all read it. It is not safe for concurrent use.
type Source struct {
	data host.SharedData
	// config says where to ask; nil where no filter does.
	config *config.SystemSource
	// figures are those of the tick readIn, where fresh.
	figures Figures
	fresh   bool
	tick    uint64
	readIn  uint64
	// asked is when the source was asked and has not yet answered, 0 if it has; next is when to ask it again.
	asked, next int64
	// exported is whether there is a gauge of stale figures.
	exported bool
	corrupt  uint64
}

// NewSource returns a source that no filter has configured.
func NewSource(data host.SharedData) *Source { return &Source{data: data} }

// Configure says where the figures come from; nil is nowhere.
func (s *Source) Configure(c *config.SystemSource) { s.config = c }

// BeginTick lets the figures be read anew.
func (s *Source) BeginTick() { s.tick++ }

// Corrupt is how many records were found that nobody of us can have written.
func (s *Source) Corrupt() uint64 { return s.corrupt }

// Figures are the last that were published, and whether they are of use: not where the source has been silent for too
// long, and not where there is none. They are read at most once a tick. An error is the host's.
func (s *Source) Figures(now int64) (f Figures, fresh bool, err error) {
	if s.readIn == s.tick+1 {
		return s.figures, s.fresh, nil
	}
	s.readIn = s.tick + 1
	if s.fresh = false; s.config == nil {
		return s.figures, false, nil
	}
	record, _, err := s.data.Get(Key)
	if err != nil && !errors.Is(err, host.ErrNotFound) {
		return s.figures, false, err
	}
	s.figures, s.fresh = Decode(record)
	s.fresh = s.fresh && !s.figures.Stale(now)
	return s.figures, s.fresh, nil
}

// Due is whether it is time to ask the source that c describes, which then counts as asked: whatever comes of it, Answered
// must be called. One that has not answered for two intervals is asked again.
func (s *Source) Due(c *config.SystemSource, now int64) bool {
	if s.config == nil || s.config != c || now < s.next {
		return false
	}
	interval := int64(c.IntervalMs) * 1e6
	if s.asked != 0 && now-s.asked < 2*interval {
		return false
	}
	s.asked, s.next = now, now+interval
	return true
}

// Answered publishes what a source has answered at the time now, in nanoseconds, or returns why it has not: failed, a
// mistake in the answer, or the host's error.
func (s *Source) Answered(c *config.SystemSource, answer []byte, failed error, now int64) error {
	s.asked = 0
	if failed != nil {
		return failed
	}
	record, cas, err := s.data.Get(Key)
	before, intact := Decode(record)
	switch {
	case errors.Is(err, host.ErrNotFound):
		cas = host.CreateOnly
	case err != nil:
		return err
	case !intact:
		s.corrupt++
	}
	figures, err := Read(answer, before, now, int64(c.IntervalMs)*1e6)
	if err != nil {
		return fmt.Errorf("%s%s: %w", c.Authority, c.Path, err)
	}
	if err = s.data.Set(Key, figures.Encode(nil), cas); errors.Is(err, host.ErrCASMismatch) {
		return nil // an aggregator before or after this one
	}
	return err
}

// Stale is whether the figures are too old to be of use, for the gauge that says so; known is false where no filter has
// ever configured a source.
func (s *Source) Stale(now int64) (stale, known bool) {
	if s.config == nil && !s.exported {
		return false, false
	}
	s.exported = true
	if s.config == nil {
		return false, true
	}
	record, _, err := s.data.Get(Key)
	figures, ok := Decode(record)
	return err != nil || !ok || figures.Stale(now), true
}
