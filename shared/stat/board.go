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
	keys  [Pages]string
	pages [Pages]cached
	tick  uint64
	now   int64
	// corrupt counts pages that nobody of us can have written.
	corrupt uint64
}

// cached is a page as this worker has last read it, in the tick with that number. What is on a page that is not there, or
// that nobody of us can have written, is not known.
type cached struct {
	known bool
	tick  uint64
	at    int64
	rates []ratesOf
}

// ratesOf are those of one resource, by its hash.
type ratesOf struct {
	hash uint64
	Rates
}

// read replaces what is known of the page.
func (p *cached) read(content []byte) {
	p.rates = p.rates[:0]
	h, err := DecodePage(content, func(hash uint64, r Rates) { p.rates = append(p.rates, ratesOf{hash, r}) })
	p.known, p.at = err == nil, h.At
}

// of are the rates of one resource. A page has few, so they are looked through.
func (p *cached) of(hash uint64) (Rates, bool) {
	for i := range p.rates {
		if p.rates[i].hash == hash {
			return p.rates[i].Rates, true
		}
	}
	return Rates{}, false
}

// NewBoard returns the snapshot of a process.
func NewBoard(data host.SharedData, clock host.Clock) *Board {
	b := &Board{data: data, clock: clock}
	for number := range b.keys {
		b.keys[number] = PageKey(number)
	}
	return b
}

// BeginTick lets each page be read anew. now is in nanoseconds.
func (b *Board) BeginTick(now int64) {
	b.tick++
	b.now = now
}

// Corrupt is how many pages were found that nobody of us can have written.
func (b *Board) Corrupt() uint64 { return b.corrupt }

// Rates is what was last published about a resource. A page is read and decoded at most once a tick.
func (b *Board) Rates(hash uint64, now int64) (r Rates, ok bool) {
	p := &b.pages[PageOf(hash)]
	if !p.known || p.tick != b.tick {
		content, _, err := b.data.Get(b.keys[PageOf(hash)])
		if err != nil {
			content = nil
		}
		p.tick = b.tick
		p.read(content)
	}
	if !p.known || p.at+ratesTTL < now || p.at > now+ratesTTL {
		return Rates{}, false
	}
	return p.of(hash)
}

// Adopt lets an aggregator take over what the one before it has published. It fails with the host's error.
func (b *Board) Adopt(a *Aggregator, now int64) error {
	for number := range Pages {
		content, _, err := b.data.Get(b.keys[number])
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
	key := b.keys[number]
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
