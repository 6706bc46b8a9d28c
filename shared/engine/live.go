package engine

import (
	"errors"
	"slices"
	"strconv"

	"sentinel-envoy/shared/config"
	"sentinel-envoy/shared/publication"
	"sentinel-envoy/shared/record"
)

// Reader reads a filter's own configuration anew, together with the documents of its data sources.
type Reader func(documents []config.Document) (*config.Config, error)

// live is a filter's part in its data sources.
type live struct {
	// read is nil where the filter has no sources.
	read Reader
	// sources are those of the configuration, in its order; uses is what that says of them. A parked filter has none.
	sources []*source
	uses    []config.DataSource
	// applied are the hashes of the texts that the filter decides by, 0 where there is none; tried those that it has last
	// tried to decide by.
	applied, tried []uint64
	// until is when it must be looked whether there are others.
	until int64
	// fresh is whether the filters that there are have changed: what was refused before may now be right.
	fresh bool
	// prepared is what the texts with the hashes preparedOf come to, which take effect soon.
	prepared   *config.Config
	preparedOf []uint64
}

// Follow lets the filter take rules from its data sources, read by read. Renew then says when they have changed.
func (f *Filter) Follow(read Reader) {
	if len(f.cfg.Sources) > 0 {
		f.live.read, f.live.fresh = read, true
	}
}

// Renew makes the filter decide by what its sources say at the time now, in nanoseconds, and reports whether that has changed.
// It must be called before each decision. It costs a comparison, where nothing can have changed since the last time.
func (f *Filter) Renew(now int64) (changed bool) {
	l := &f.live
	if l.read == nil || now < l.until || f.Parked() {
		return false
	}
	board := f.vm.sources.board
	if err := board.Look(now); err != nil {
		f.vm.Fault("looking for new rules", err)
		return false
	}
	l.until = board.Until()
	want, changed := l.inForce(board, now)
	if !changed || slices.Equal(want, l.tried) {
		return false
	}
	l.tried = want
	if err := f.change(want, now); err != nil {
		f.vm.Fault("changing to new rules", err)
		return false
	}
	return true
}

// inForce are the hashes of the texts that the filter shall decide by, and whether they are not those that it decides by. A
// source of which nothing is known any more keeps what it had.
func (l *live) inForce(board *publication.Board, now int64) (want []uint64, changed bool) {
	want = slices.Clone(l.applied)
	for i, s := range l.sources {
		if e := board.Entry(s.id); e != nil {
			if v := e.InForce(now); v.At != 0 {
				want[i] = v.Hash
			}
		}
	}
	return want, !slices.Equal(want, l.applied)
}

// change makes the filter decide by texts.
func (f *Filter) change(want []uint64, now int64) error {
	l := &f.live
	cfg := l.prepared
	if cfg == nil || !slices.Equal(l.preparedOf, want) {
		documents, err := f.documents(func(i int, e *publication.Entry) publication.Version {
			return e.InForce(now)
		}, now)
		if err == nil {
			cfg, err = l.read(documents)
		}
		if err != nil {
			return err
		}
	}
	l.prepared, l.preparedOf = nil, nil
	f.Change(cfg)
	l.applied, l.tried = want, want
	return nil
}

// documents are the texts of the filter's sources, of the versions that pick picks. A source that has none is left out.
func (f *Filter) documents(pick func(i int, e *publication.Entry) publication.Version, now int64) ([]config.Document, error) {
	var all []config.Document
	for i, s := range f.live.sources {
		e := f.vm.sources.board.Entry(s.id)
		if e == nil {
			continue
		}
		v := pick(i, e)
		if v.At == 0 {
			continue
		}
		text, err := f.vm.sources.board.Text(s.id, v, now)
		if err != nil {
			if errors.Is(err, publication.ErrText) {
				f.live.tried = nil // once more, when it was asked anew
				err = errors.Join(err, f.vm.sources.board.AskAnew(s.id, now))
			}
			return nil, errors.New(s.title + ": " + err.Error())
		}
		all = append(all, f.live.document(i, text))
	}
	return all, nil
}

func (l *live) document(i int, text []byte) config.Document {
	return config.Document{
		Name: "datasource[" + strconv.Itoa(i) + "]", Key: l.uses[i].Rules, Format: l.uses[i].Format, Text: text,
	}
}

// Prepare reads what takes effect soon, so that the first decision after that does not have to.
func (f *Filter) Prepare(now int64) {
	l := &f.live
	if l.read == nil || f.Parked() {
		return
	}
	coming := slices.Clone(l.applied)
	any := false
	for i, s := range l.sources {
		e := f.vm.sources.board.Entry(s.id)
		if e == nil {
			continue
		}
		v, is := e.Coming(now)
		if any = any || is; !is {
			v = e.InForce(now)
		}
		if v.At != 0 {
			coming[i] = v.Hash
		}
	}
	if !any || slices.Equal(coming, l.preparedOf) || slices.Equal(coming, l.applied) {
		return
	}
	l.prepared, l.preparedOf = nil, coming
	documents, err := f.documents(func(_ int, e *publication.Entry) publication.Version {
		if v, is := e.Coming(now); is {
			return v
		}
		return e.InForce(now)
	}, now)
	if err == nil {
		l.prepared, err = l.read(documents)
	}
	f.vm.env.Check("preparing new rules", err)
}

// check is what is wrong with a text, were it the document of a source.
func (f *Filter) check(s *source, text []byte, now int64) (*config.Config, error) {
	var all []config.Document
	for i, own := range f.live.sources {
		if own == s {
			all = append(all, f.live.document(i, text))
		}
	}
	others, err := f.documents(func(i int, e *publication.Entry) publication.Version {
		if f.live.sources[i] == s {
			return publication.Version{}
		}
		return e.InForce(now)
	}, now)
	if err != nil {
		return nil, err
	}
	return f.live.read(append(all, others...))
}

// Awaiting is whether the filter must not admit anything yet: a source that is required has not answered.
func (f *Filter) Awaiting() bool {
	for i := range f.live.uses {
		if f.live.uses[i].Required && i < len(f.live.applied) && f.live.applied[i] == 0 {
			return f.cfg.FailureMode == config.FailClosed && f.Mode == config.Enforce
		}
	}
	return false
}

// Await is the refusal of what comes to a filter that is Awaiting.
func (f *Filter) Await(resource string) *Block {
	return &Block{Reason: Unavailable, Resource: resource, RetryAfterMs: -1}
}

// follows makes the filter use the sources of its configuration.
func (f *Filter) follows(uses []config.DataSource) {
	l := &f.live
	l.uses, l.until, l.prepared, l.preparedOf, l.tried = uses, 0, nil, nil, nil
	l.applied = make([]uint64, len(uses))
	before := l.sources
	l.sources = nil
	for i := range uses {
		l.sources = append(l.sources, f.vm.sources.acquire(&uses[i].Origin))
	}
	f.vm.sources.release(before, f.vm.lastTick)
}

// unfollow gives the filter's sources up. What they have may have been wrong for it, and be right for the others.
func (f *Filter) unfollow() {
	if len(f.live.sources) > 0 {
		for _, other := range f.vm.filters {
			other.live.fresh = true
		}
	}
	f.vm.sources.release(f.live.sources, f.vm.lastTick)
	f.live.sources, f.live.prepared, f.live.preparedOf = nil, nil, nil
}

// usesSource is whether the filter decides by a source.
func (f *Filter) usesSource(s *source) bool {
	return !f.draining && !f.Parked() && f.live.read != nil && slices.Contains(f.live.sources, s)
}

// idOf names an origin to all workers.
func idOf(o *config.Origin) record.ID {
	return record.IDOf("datasource", o.Type.String(), o.Cluster, o.Authority, o.Path, o.Key, o.DataID, o.Group, o.Namespace,
		o.Name, strconv.FormatUint(uint64(o.IntervalMs)<<32|uint64(o.TimeoutMs), 10))
}
