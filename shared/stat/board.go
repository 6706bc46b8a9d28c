package stat

import (
	"errors"
	"strconv"

	"sentinel-envoy/shared/host"
)

// ratesTTL is how old a page may be to be believed, in nanoseconds.
const ratesTTL = 2e9

// PageKey is the key in shared data of a page of the snapshot.
func PageKey(number int) string { return "sentinel/2/rates/" + strconv.Itoa(number) }

// Board is the snapshot in shared data, where all workers see it. It is not safe for concurrent use.
type Board struct {
	data  host.SharedData
	clock host.Clock
	pages [Pages]cached
	tick  uint64
	now   int64
	// corrupt counts pages that nobody of us can have written.
	corrupt uint64
}

// cached is a page as this worker has last read it, in the tick with that number.
type cached struct {
	content []byte
	tick    uint64
}

// NewBoard returns the snapshot of a process.
func NewBoard(data host.SharedData, clock host.Clock) *Board { return &Board{data: data, clock: clock} }

// BeginTick lets each page be read anew. now is in nanoseconds.
func (b *Board) BeginTick(now int64) {
	b.tick++
	b.now = now
}

// Corrupt is how many pages were found that nobody of us can have written.
func (b *Board) Corrupt() uint64 { return b.corrupt }

// Rates is what was last published about a resource. A page is read at most once a tick.
func (b *Board) Rates(hash uint64, now int64) (r Rates, ok bool) {
	p := &b.pages[PageOf(hash)]
	if p.content == nil || p.tick != b.tick {
		p.tick = b.tick
		content, _, err := b.data.Get(PageKey(PageOf(hash)))
		if err != nil {
			return Rates{}, false
		}
		p.content = content
	}
	h, err := DecodePage(p.content, func(other uint64, found Rates) {
		if other == hash {
			r, ok = found, true
		}
	})
	if err != nil || h.At+ratesTTL < now || h.At > now+ratesTTL {
		return Rates{}, false
	}
	return r, ok
}

// Adopt lets an aggregator take over what the one before it has published. It fails with the host's error.
func (b *Board) Adopt(a *Aggregator, now int64) error {
	for number := range Pages {
		content, _, err := b.data.Get(PageKey(number))
		switch {
		case err == nil:
			a.Adopt(content, now)
		case !errors.Is(err, host.ErrNotFound):
			return err
		}
	}
	return nil
}

// Put publishes one page in a term, unless a later aggregator has, and reports whether it did. An error is the host's.
func (b *Board) Put(number int, content []byte, term uint64) (done bool, err error) {
	key := PageKey(number)
	old, cas, err := b.data.Get(key)
	switch {
	case errors.Is(err, host.ErrNotFound):
		cas, err = host.CreateOnly, nil
	case err == nil && b.isSucceeded(old, term):
		return false, nil
	}
	if err == nil {
		err = b.data.Set(key, content, cas)
	}
	if errors.Is(err, host.ErrCASMismatch) {
		return false, nil
	}
	return err == nil, err
}

// isSucceeded is whether a page is of a later term, and neither left over from before the role's record was lost nor of a
// time to come.
func (b *Board) isSucceeded(page []byte, term uint64) bool {
	h, err := DecodePageHeader(page)
	if err != nil {
		b.corrupt++
		return false
	}
	return h.Term > term && h.At+ratesTTL >= b.now && (h.At <= b.now || h.At <= b.clock.Now())
}
