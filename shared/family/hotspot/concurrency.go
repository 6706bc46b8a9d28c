package hotspot

import (
	"slices"

	"sentinel-envoy/shared/record"
	"sentinel-envoy/shared/worker"
)

const (
	// countPages is how many pages all rules of a process share.
	countPages = 1024
	// maxHeld is how many values a worker counts each by itself in a page. What comes beyond is counted in one of shares
	// counts, together with other values that have come beyond.
	maxHeld = 128
	shares  = 16
	// maxHolders bounds the workers in a page: as many as can have an identity, and those that died in the last worker.TTL.
	maxHolders = 2 * worker.Slots
	// renewEvery is how old a tick lets the stamp of a worker's part grow, in nanoseconds. It counts for worker.TTL.
	renewEvery = 300e6
)

// Concurrency is the entries in flight of each value under each rule, as one worker sees them. Each worker says in shared
// data how many it has of a value, in a part of a page that is its own: no worker takes another's room. What one that
// died has said counts for worker.TTL. It is not safe for concurrent use.
type Concurrency struct {
	table *record.Table
	watch *worker.Watch
	// pages are those that this worker has used, else nil.
	pages [countPages]*countPage
	// active are the pages in which this worker has something.
	active []*countPage
	op     counting
}

// countPage is this worker's part of one page.
type countPage struct {
	cell   record.Cell
	held   []held
	holder worker.Identity
	stamp  int64
	active bool
}

// held is how many entries this worker has in flight of a value, or of those that share a count: the hash of the value, or
// its remainder by shares.
type held struct {
	hash uint64
	n    uint32
}

// Count is the answer to one entry.
type Count struct {
	OK bool
	// InFlight is how many entries of the value all workers had in flight before, with those that share its count.
	InFlight int64
	// Key is what the entry is counted by, where OK; Full is whether other values share the count.
	Key  uint64
	Full bool
}

// NewConcurrency returns the entries in flight of a table's process. watch is this worker's.
func NewConcurrency(table *record.Table, watch *worker.Watch) *Concurrency {
	return &Concurrency{table: table, watch: watch}
}

// page is the page that a value belongs to.
func (c *Concurrency) page(hash uint64) *countPage {
	at := pageOf(hash, countPages)
	if c.pages[at] == nil {
		c.pages[at] = &countPage{cell: c.table.Fixed("counts", at)}
	}
	return c.pages[at]
}

// Enter asks for one entry of a value, as holder, at the time now in nanoseconds. hash is of the rule and the value. What
// is let in must leave by Exit. An error is the host's; a page that too many workers fight for refuses.
func (c *Concurrency) Enter(holder worker.Identity, hash uint64, threshold, now int64) (Count, error) {
	p := c.page(hash)
	key, full := p.key(hash)
	err := c.apply(p, counting{holder: holder, hash: hash, key: key, threshold: threshold, enters: true, now: now})
	if err != nil && err != record.ErrContended {
		return Count{}, err
	}
	count := c.op.count
	count.Key, count.Full = key, full
	if count.OK = count.OK && err == nil; !count.OK {
		return count, nil
	}
	p.change(key, 1)
	if !p.active {
		p.active = true
		c.active = append(c.active, p)
	}
	return count, nil
}

// Exit ends an entry of a value that was counted by a key. It is over whatever the error, which is the host's.
func (c *Concurrency) Exit(hash, key uint64, now int64) error {
	p := c.page(hash)
	p.change(key, -1)
	return c.settle(p, p.holder, now)
}

// Holding is whether Tick has something to do.
func (c *Concurrency) Holding() bool { return len(c.active) > 0 }

// Tick renews what this worker has in flight, as holder. It must be called at least every 100 ms while Holding.
func (c *Concurrency) Tick(holder worker.Identity, now int64) error {
	var first error
	kept := c.active[:0]
	for _, p := range c.active {
		if len(p.held) > 0 && p.holder == holder && now-p.stamp < renewEvery {
			kept = append(kept, p)
			continue
		}
		if p.stamp != 0 || len(p.held) > 0 { // an emptied page was written when its last entry left, unless that failed
			if err := c.settle(p, holder, now); err != nil && first == nil {
				first = err
			}
		}
		if p.active = len(p.held) > 0 || p.stamp != 0; p.active {
			kept = append(kept, p)
		}
	}
	clear(c.active[len(kept):])
	c.active = kept
	return first
}

// settle writes what this worker has in flight in a page. Where it cannot, the next tick tries again.
func (c *Concurrency) settle(p *countPage, holder worker.Identity, now int64) error {
	err := c.apply(p, counting{holder: holder, now: now})
	if err == record.ErrContended {
		err = nil
	}
	return err
}

func (c *Concurrency) apply(p *countPage, op counting) error {
	op.of, op.page = c, p
	c.op = op
	if err := c.table.Update(&p.cell, op.now, &c.op); err != nil {
		p.stamp = 1 // older than any: due
		return err
	}
	if c.op.written {
		p.holder, p.stamp = op.holder, c.op.now
		if len(p.held) == 0 && !c.op.count.OK {
			p.stamp = 0
		}
	}
	return nil
}

// find is where this worker's entries counted by a key are, or −1.
func (p *countPage) find(key uint64) int {
	return slices.IndexFunc(p.held, func(h held) bool { return h.hash == key })
}

// key is what another entry of a value is counted by, and whether for want of room that is a count it shares.
func (p *countPage) key(hash uint64) (key uint64, full bool) {
	if len(p.held) < maxHeld || p.find(hash) >= 0 {
		return hash, false
	}
	return shared(hash), true
}

// shared is the key of the count that a value shares with others.
func shared(hash uint64) uint64 { return hash % shares }

func (p *countPage) change(key uint64, by int32) {
	i := p.find(key)
	switch {
	case i >= 0:
		if p.held[i].n = uint32(int32(p.held[i].n) + by); p.held[i].n == 0 {
			p.held = slices.Delete(p.held, i, i+1)
		}
	case by > 0:
		p.held = append(p.held, held{key, uint32(by)})
	}
}
