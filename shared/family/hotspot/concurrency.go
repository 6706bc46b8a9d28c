package hotspot

import (
	"encoding/binary"
	"slices"
	"strconv"

	"sentinel-envoy/shared/record"
	"sentinel-envoy/shared/worker"
)

const (
	// maxLeases is beyond how many leases a page takes no new entry. Those that have entered are always written.
	maxLeases = 128
	// renewEvery is how old a tick lets the stamp of a lease grow, in nanoseconds. It counts for worker.TTL.
	renewEvery = 300e6
)

// Concurrency is the entries in flight of each value under a rule, as one worker sees them. Each worker says in shared data
// how many it has of a value; what one that died has said counts for worker.TTL. It is not safe for concurrent use.
type Concurrency struct {
	table *record.Table
	pages []countPage
	// active are the pages in which this worker has something.
	active []int
	op     counting
	// Full are the entries refused because too many values are in flight.
	Full uint64
}

// countPage is this worker's part of one page.
type countPage struct {
	cell   record.Cell
	held   []held
	holder worker.Identity
	stamp  int64
	active bool
}

// held is how many entries this worker has in flight of a value.
type held struct {
	hash uint64
	n    uint32
}

// Count is the answer to one entry.
type Count struct {
	OK bool
	// InFlight is how many entries of the value all workers had in flight before. Full is whether there was no room to
	// count another value.
	InFlight int64
	Full     bool
}

// NewConcurrency returns the entries in flight of the rule that id describes. capacity is as in NewValues.
func NewConcurrency(table *record.Table, capacity int64, id ...string) *Concurrency {
	pages, _ := shape(capacity)
	c := &Concurrency{table: table, pages: make([]countPage, pages)}
	id = append(id, strconv.Itoa(pages), "")
	for i := range c.pages {
		id[len(id)-1] = strconv.Itoa(i)
		c.pages[i].cell.ID = record.IDOf(id...)
	}
	return c
}

func (c *Concurrency) page(hash uint64) int { return int((hash >> 32 * uint64(len(c.pages))) >> 32) }

// Enter asks for one entry of a value, as holder, at the time now in nanoseconds. What is let in must leave by Exit. An
// error is the host's, or record.ErrFull; a page that too many workers fight for refuses.
func (c *Concurrency) Enter(holder worker.Identity, hash uint64, threshold, now int64) (Count, error) {
	at := c.page(hash)
	err := c.apply(at, counting{holder: holder, hash: hash, threshold: threshold, enters: true, now: now})
	if err != nil && err != record.ErrContended {
		return Count{}, err
	}
	if err != nil || !c.op.count.OK {
		c.op.count.OK = false
		if c.op.count.Full {
			c.Full++
		}
		return c.op.count, nil
	}
	c.pages[at].change(hash, 1)
	if !c.pages[at].active {
		c.pages[at].active = true
		c.active = append(c.active, at)
	}
	return c.op.count, nil
}

// Exit ends an entry of a value. It is over whatever the error, which is the host's.
func (c *Concurrency) Exit(hash uint64, now int64) error {
	at := c.page(hash)
	c.pages[at].change(hash, -1)
	return c.settle(at, c.pages[at].holder, now)
}

// Holding is whether Tick has something to do.
func (c *Concurrency) Holding() bool { return len(c.active) > 0 }

// Tick renews what this worker has in flight, as holder. It must be called at least every 100 ms while Holding.
func (c *Concurrency) Tick(holder worker.Identity, now int64) error {
	var first error
	kept := c.active[:0]
	for _, at := range c.active {
		p := &c.pages[at]
		if len(p.held) > 0 && p.holder == holder && now-p.stamp < renewEvery {
			kept = append(kept, at)
			continue
		}
		if p.stamp != 0 || len(p.held) > 0 { // an emptied page was written when its last entry left, unless that failed
			if err := c.settle(at, holder, now); err != nil && first == nil {
				first = err
			}
		}
		if p.active = len(p.held) > 0 || p.stamp != 0; p.active {
			kept = append(kept, at)
		}
	}
	c.active = kept
	return first
}

// settle writes what this worker has in flight in a page. Where it cannot, the next tick tries again.
func (c *Concurrency) settle(at int, holder worker.Identity, now int64) error {
	err := c.apply(at, counting{holder: holder, now: now})
	if err == record.ErrContended {
		err = nil
	}
	return err
}

func (c *Concurrency) apply(at int, op counting) error {
	p := &c.pages[at]
	op.page = p
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

// Touch marks the records as in use; see record.Table.Touch.
func (c *Concurrency) Touch(now int64) error {
	for i := range c.pages {
		if err := c.table.Touch(&c.pages[i].cell, now); err != nil {
			return err
		}
	}
	return nil
}

func (p *countPage) change(hash uint64, by int32) {
	i := slices.IndexFunc(p.held, func(h held) bool { return h.hash == hash })
	switch {
	case i >= 0:
		if p.held[i].n = uint32(int32(p.held[i].n) + by); p.held[i].n == 0 {
			p.held = slices.Delete(p.held, i, i+1)
		}
	case by > 0:
		p.held = append(p.held, held{hash, uint32(by)})
	}
}

// A page is the time at which it was lost (8 bytes, in nanoseconds, 0 if never), and then leases: hash (8 bytes), slot
// (2), epoch (8), number (4), stamp (8), little-endian.
const leaseSize = 8 + 2 + 8 + 4 + 8

// counting is one update of a page: an entry, or what this worker has.
type counting struct {
	crowd     *Concurrency
	page      *countPage
	holder    worker.Identity
	hash      uint64
	threshold int64
	enters    bool
	now       int64 // the page's, once it is applied
	count     Count
	written   bool
}

// Apply implements record.Transition.
func (o *counting) Apply(dst []byte, r record.State) ([]byte, record.Outcome) {
	o.now = r.Now
	lostAt, leases, ok := o.read(r.Payload)
	if !ok {
		return dst, record.Unreadable
	}
	if r.Lost {
		lostAt = o.now
	}
	dst = binary.LittleEndian.AppendUint64(dst, uint64(lostAt))
	start := len(dst)
	var others int64
	for ; len(leases) > 0; leases = leases[leaseSize:] {
		if h := holderOf(leases); h == o.holder || h == o.page.holder || stampOf(leases)+worker.TTL < o.now {
			continue
		}
		dst = append(dst, leases[:leaseSize]...)
		if o.enters && binary.LittleEndian.Uint64(leases) == o.hash {
			others += int64(binary.LittleEndian.Uint32(leases[18:]))
		}
	}
	o.decide(others, (len(dst)-start)/leaseSize, lostAt > 0 && lostAt+worker.TTL >= o.now)
	if o.written = r.Lost || o.count.OK || !o.enters; !o.written {
		return dst, record.Keep
	}
	return o.appendMine(dst), record.Store
}

// read splits a page, and reports whether it is one.
func (o *counting) read(payload []byte) (lostAt int64, leases []byte, ok bool) {
	if payload == nil {
		return 0, nil, true
	}
	if len(payload) < 8 || (len(payload)-8)%leaseSize != 0 {
		return 0, nil, false
	}
	lostAt, leases = int64(binary.LittleEndian.Uint64(payload)), payload[8:]
	newest := lostAt
	for l := leases; len(l) > 0; l = l[leaseSize:] {
		newest = max(newest, stampOf(l))
	}
	return lostAt, leases, lostAt >= 0 && newest <= o.now
}

// decide sets the answer, where the other workers have so many in flight of the value, and so many leases in the page.
func (o *counting) decide(others int64, leases int, unknown bool) {
	if !o.enters {
		return
	}
	mine, known := int64(0), false
	for _, h := range o.page.held {
		if h.hash == o.hash {
			mine, known = int64(h.n), true
		}
	}
	o.count = Count{InFlight: others + mine, Full: !known && leases+len(o.page.held) >= maxLeases}
	o.count.OK = others+mine < o.threshold && !o.count.Full && !unknown
}

// appendMine appends this worker's leases, with the entry that is let in.
func (o *counting) appendMine(dst []byte) []byte {
	entered := o.count.OK
	for _, h := range o.page.held {
		if o.count.OK && h.hash == o.hash {
			h.n++
			entered = false
		}
		dst = o.appendLease(dst, h)
	}
	if entered {
		dst = o.appendLease(dst, held{o.hash, 1})
	}
	return dst
}

func (o *counting) appendLease(dst []byte, h held) []byte {
	dst = binary.LittleEndian.AppendUint64(dst, h.hash)
	dst = binary.LittleEndian.AppendUint16(dst, o.holder.Slot)
	dst = binary.LittleEndian.AppendUint64(dst, o.holder.Epoch)
	dst = binary.LittleEndian.AppendUint32(dst, h.n)
	return binary.LittleEndian.AppendUint64(dst, uint64(o.now))
}

func holderOf(lease []byte) worker.Identity {
	return worker.Identity{Slot: binary.LittleEndian.Uint16(lease[8:]), Epoch: binary.LittleEndian.Uint64(lease[10:])}
}

func stampOf(lease []byte) int64 { return int64(binary.LittleEndian.Uint64(lease[22:])) }
