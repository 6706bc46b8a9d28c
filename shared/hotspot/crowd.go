package hotspot

import (
	"encoding/binary"
	"slices"
	"strconv"

	"sentinel-envoy/shared/isolation"
	"sentinel-envoy/shared/ledger"
)

const (
	// maxLeases is beyond how many leases a page takes no new entry. Those that have entered are always written.
	maxLeases = 128
	// ttl is how long after its stamp a lease counts, in nanoseconds, and renewEvery how old a tick lets it grow.
	ttl        = isolation.TTL
	renewEvery = 300e6
)

// Crowd is the entries in flight of each value under a rule, as one worker sees them. Each worker says in shared data
// how many it has of a value; what one that died has said counts for isolation.TTL. It is not safe for concurrent use.
type Crowd struct {
	table *ledger.Table
	clock func() int64
	pages []crowdPage
	// active are the pages in which this worker has something.
	active []int
	op     counting
	// Full are the entries refused because too many values are in flight.
	Full uint64
}

// crowdPage is this worker's part of one page.
type crowdPage struct {
	cell   ledger.Cell
	held   []held
	holder isolation.Holder
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

// NewCrowd returns the entries in flight of the rule that id describes. capacity and clock are as in NewValues.
func NewCrowd(table *ledger.Table, capacity int64, clock func() int64, id ...string) *Crowd {
	pages, _ := shape(capacity)
	c := &Crowd{table: table, clock: clock, pages: make([]crowdPage, pages)}
	id = append(id, strconv.Itoa(pages), "")
	for i := range c.pages {
		id[len(id)-1] = strconv.Itoa(i)
		c.pages[i].cell.ID = ledger.IDOf(id...)
	}
	return c
}

func (c *Crowd) page(hash uint64) int { return int((hash >> 32 * uint64(len(c.pages))) >> 32) }

// Enter asks for one entry of a value, as holder, at the time now in nanoseconds. What is let in must leave by Exit. An
// error is the host's, or ledger.ErrFull; a page that too many workers fight for refuses.
func (c *Crowd) Enter(holder isolation.Holder, hash uint64, threshold, now int64) (Count, error) {
	at := c.page(hash)
	err := c.apply(at, counting{holder: holder, hash: hash, threshold: threshold, enters: true, now: now})
	if err != nil && err != ledger.ErrContended {
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
func (c *Crowd) Exit(hash uint64, now int64) error {
	at := c.page(hash)
	c.pages[at].change(hash, -1)
	return c.settle(at, c.pages[at].holder, now)
}

// Holding is whether Tick has something to do.
func (c *Crowd) Holding() bool { return len(c.active) > 0 }

// Tick renews what this worker has in flight, as holder. It must be called at least every 100 ms while Holding.
func (c *Crowd) Tick(holder isolation.Holder, now int64) error {
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
func (c *Crowd) settle(at int, holder isolation.Holder, now int64) error {
	err := c.apply(at, counting{holder: holder, now: now})
	if err == ledger.ErrContended {
		err = nil
	}
	return err
}

func (c *Crowd) apply(at int, op counting) error {
	p := &c.pages[at]
	op.crowd, op.page = c, p
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

// Touch marks the records as in use; see ledger.Table.Touch.
func (c *Crowd) Touch(now int64) error {
	for i := range c.pages {
		if err := c.table.Touch(&c.pages[i].cell, now); err != nil {
			return err
		}
	}
	return nil
}

func (p *crowdPage) change(hash uint64, by int32) {
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
	crowd     *Crowd
	page      *crowdPage
	holder    isolation.Holder
	hash      uint64
	threshold int64
	enters    bool
	now       int64 // moved forward where the page is ahead
	count     Count
	written   bool
}

// Apply implements ledger.Transition.
func (o *counting) Apply(dst, payload []byte, lost bool) ([]byte, bool, bool) {
	lostAt, leases, ok := o.read(payload)
	if !ok {
		return dst, false, false
	}
	if lost {
		o.now = max(o.now, o.crowd.clock())
		lostAt = o.now
	}
	dst = binary.LittleEndian.AppendUint64(dst, uint64(lostAt))
	start := len(dst)
	var others int64
	for ; len(leases) > 0; leases = leases[leaseSize:] {
		if h := holderOf(leases); h == o.holder || h == o.page.holder || stampOf(leases)+ttl < o.now {
			continue
		}
		dst = append(dst, leases[:leaseSize]...)
		if o.enters && binary.LittleEndian.Uint64(leases) == o.hash {
			others += int64(binary.LittleEndian.Uint32(leases[18:]))
		}
	}
	o.decide(others, (len(dst)-start)/leaseSize, lostAt > 0 && lostAt+ttl >= o.now)
	if o.written = lost || o.count.OK || !o.enters; !o.written {
		return dst, false, true
	}
	return o.appendMine(dst), true, true
}

// read splits a page. It moves the operation's time forward where the page is ahead, and reports whether it is one.
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
	if newest > o.now {
		o.now = max(o.now, o.crowd.clock())
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

func holderOf(lease []byte) isolation.Holder {
	return isolation.Holder{Slot: binary.LittleEndian.Uint16(lease[8:]), Epoch: binary.LittleEndian.Uint64(lease[10:])}
}

func stampOf(lease []byte) int64 { return int64(binary.LittleEndian.Uint64(lease[22:])) }
