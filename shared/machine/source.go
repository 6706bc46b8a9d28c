package machine

import (
	"encoding/binary"
	"errors"
	"strconv"

	"sentinel-envoy/shared/config"
	"sentinel-envoy/shared/record"
)

// Sources are those that the filters of one worker have configured, told apart by what their configuration says. It is not
// safe for concurrent use.
type Sources struct {
	table *record.Table
	all   []*Source
	tick  uint64
}

// NewSources returns no sources. Their records are in table.
func NewSources(table *record.Table) *Sources { return &Sources{table: table} }

// Acquire returns the source that c describes, until each who has acquired it has called Release; nil where c is.
func (ss *Sources) Acquire(c *config.SystemSource) *Source {
	if c == nil {
		return nil
	}
	for _, s := range ss.all {
		if s.config == *c {
			s.refs++
			return s
		}
	}
	s := &Source{of: ss, config: *c, refs: 1}
	s.cell.ID = record.IDOf("system_source", c.Cluster, c.Path, c.Authority, strconv.FormatUint(uint64(c.IntervalMs), 10))
	ss.all = append(ss.all, s)
	return s
}

// Release ends one use of a source, and reports whether it was the last. One that is nil has none.
func (ss *Sources) Release(s *Source) (gone bool) {
	if s == nil {
		return false
	}
	if s.refs--; s.refs > 0 {
		return false
	}
	for i, other := range ss.all {
		if other == s {
			ss.all = append(ss.all[:i:i], ss.all[i+1:]...)
		}
	}
	return true
}

// BeginTick lets figures be read anew.
func (ss *Sources) BeginTick() { ss.tick++ }

// All calls f with each source.
func (ss *Sources) All(f func(*Source)) {
	for _, s := range ss.all {
		f(s)
	}
}

// Source is where the figures of the machine come from, and what this worker knows of them. Of the workers that have a
// source one asks it at a time, whichever comes first, and publishes the answer in the source's record, where all read it:
// a worker that has no such source has no part in it.
type Source struct {
	of     *Sources
	config config.SystemSource
	refs   int
	cell   record.Cell
	// figures are those that were read in the tick before readIn, where fresh.
	figures Figures
	fresh   bool
	readIn  uint64
	// next is when this worker looks whether the source is to be asked.
	next int64
	op   operation
}

// Config says where to ask.
func (s *Source) Config() *config.SystemSource { return &s.config }

// Figures are the last that were published, and whether they are of use: not where the source has been silent for too
// long, and not where there is none. They are read at most once a tick. An error is the host's.
func (s *Source) Figures(now int64) (f Figures, fresh bool, err error) {
	if s == nil {
		return Figures{}, false, nil
	}
	if s.readIn == s.of.tick+1 {
		return s.figures, s.fresh, nil
	}
	s.readIn, s.fresh = s.of.tick+1, false
	if err := s.update(operation{}, now); err != nil {
		return s.figures, false, err
	}
	s.figures, s.fresh = s.op.figures, !s.op.figures.Stale(now)
	return s.figures, s.fresh, nil
}

// Due is whether it is this worker that asks the source, which then counts as asked: nobody else does until an interval has
// passed. An error is the host's.
func (s *Source) Due(now int64) (due bool, err error) {
	if s == nil || now < s.next {
		return false, nil
	}
	s.next = now + s.interval()
	if err := s.update(operation{interval: s.interval()}, now); err != nil {
		return false, err
	}
	s.next = s.op.asked + s.interval()
	return s.op.done, nil
}

// Answered publishes what the source has answered at the time now, in nanoseconds, or returns why it has not: failed, a
// mistake in the answer, or the host's error.
func (s *Source) Answered(answer []byte, failed error, now int64) error {
	if failed != nil {
		return failed
	}
	err := s.update(operation{publishes: true, answer: answer, interval: s.interval()}, now)
	if err == nil && s.op.failed != nil {
		return errors.New(s.config.Authority + s.config.Path + ": " + s.op.failed.Error())
	}
	return err
}

// Stale is whether the figures are too old to be of use, for the gauge that says so.
func (s *Source) Stale(now int64) bool {
	err := s.update(operation{}, now)
	return err != nil || s.op.figures.Stale(now)
}

// Touch marks the source's record as in use; see record.Table.Touch.
func (s *Source) Touch(now int64) error { return s.of.table.Touch(&s.cell, now) }

func (s *Source) interval() int64 { return int64(s.config.IntervalMs) * 1e6 }

func (s *Source) update(op operation, now int64) error {
	s.op = op
	err := s.of.table.Update(&s.cell, now, &s.op)
	if errors.Is(err, record.ErrContended) {
		s.op.done = false // others are at it
		return nil
	}
	return err
}

// operation is one look at a source's record: with an interval it asks for the next turn to ask the source, or publishes an
// answer.
type operation struct {
	interval  int64
	publishes bool
	answer    []byte

	// asked is when the source was last asked, in nanoseconds; figures are those of the last answer.
	asked   int64
	figures Figures
	// done is whether the turn is ours.
	done   bool
	failed error
}

// Apply implements record.Transition. The record is the time at which the source was asked, 8 bytes, and the figures.
func (o *operation) Apply(dst []byte, r record.State) (next []byte, outcome record.Outcome) {
	o.asked, o.figures, o.done, o.failed = 0, Figures{}, false, nil
	if r.Payload != nil && !o.decode(r.Payload, r.Now) {
		return dst, record.Unreadable
	}
	switch {
	case o.publishes:
		figures, err := Read(o.answer, o.figures, r.Now, o.interval)
		if o.failed = err; err != nil {
			return dst, record.Keep
		}
		o.figures, o.done = figures, true
	case o.interval > 0 && r.Now-o.asked >= o.interval:
		o.asked, o.done = r.Now, true
	default:
		return dst, record.Keep
	}
	dst = binary.LittleEndian.AppendUint64(dst, uint64(o.asked))
	return o.figures.Encode(dst), record.Store
}

func (o *operation) decode(payload []byte, now int64) (ok bool) {
	if len(payload) < 8 {
		return false
	}
	o.asked = int64(binary.LittleEndian.Uint64(payload))
	o.figures, ok = Decode(payload[8:])
	return ok && o.asked >= 0 && o.asked <= now && o.figures.At <= now
}
