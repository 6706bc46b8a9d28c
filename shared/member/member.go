// Package member gives every worker of a process an identity, and one of them the aggregator's role.
//
// Nothing tells a worker its index, and none says goodbye when it dies; so slots and the role are leases in shared data,
// renewed by a heartbeat and free for others when it stops.
package member

import (
	"encoding/binary"
	"errors"
	"strconv"

	"sentinel-envoy/shared/checksum"
	"sentinel-envoy/shared/host"
)

const (
	// Slots is the largest number of workers that can have an identity at once.
	Slots = 512
	// TTL is how long a slot is its holder's after the last heartbeat, in nanoseconds.
	TTL = 2e9
	// RoleTTL is the same for the aggregator's role.
	RoleTTL = 800e6
	// beatEvery is how often a slot is renewed, roleEvery how often the role is.
	beatEvery = 400e6
	roleEvery = 100e6
	// maxAhead is how far a reading of the clock may be behind another worker's, in nanoseconds.
	maxAhead = 10 * TTL
	// maxTerm is more changes of the aggregator than there will be.
	maxTerm = 1 << 62

	keys    = "sentinel/1/"
	slotKey = keys + "worker/"
	roleKey = keys + "aggregator"
)

// Lease is what shared data has of a slot or the role.
type Lease struct {
	Slot uint16
	// Epoch tells apart the holders of one slot: it is the time at which the slot was taken, in nanoseconds.
	Epoch uint64
	// Term counts the changes of the aggregator; it is 0 in a slot.
	Term uint64
	// Beat is the time of the last heartbeat in nanoseconds.
	Beat int64
}

const leaseSize = 4 + 2 + 8 + 8 + 8

func (l Lease) encode() []byte {
	b := make([]byte, 4, leaseSize)
	b = binary.LittleEndian.AppendUint16(b, l.Slot)
	b = binary.LittleEndian.AppendUint64(b, l.Epoch)
	b = binary.LittleEndian.AppendUint64(b, l.Term)
	b = binary.LittleEndian.AppendUint64(b, uint64(l.Beat))
	binary.LittleEndian.PutUint32(b, checksum.Sum(b[4:]))
	return b
}

// decode reads a lease, and reports whether it is one. What is none is the zero lease, which has run out.
func decode(b []byte) (Lease, bool) {
	if len(b) != leaseSize || binary.LittleEndian.Uint32(b) != checksum.Sum(b[4:]) {
		return Lease{}, false
	}
	l := Lease{
		Slot:  binary.LittleEndian.Uint16(b[4:]),
		Epoch: binary.LittleEndian.Uint64(b[6:]),
		Term:  binary.LittleEndian.Uint64(b[14:]),
		Beat:  int64(binary.LittleEndian.Uint64(b[22:])),
	}
	if l.Slot >= Slots || l.Term > maxTerm || l.Beat < 0 {
		return Lease{}, false
	}
	return l, true
}

// runOut is whether a lease is free for others. One that was renewed after now is not, for it is our reading of the clock
// that is old; unless it is so far ahead that nobody of us can have renewed it.
func (l Lease) runOut(now, ttl int64) bool { return l.Beat < now-ttl || l.Beat > now+maxAhead }

// ErrFull means that all slots are taken.
var ErrFull = errors.New("member: no free slot")

// Member is this worker among the workers of its process.
type Member struct {
	data  host.SharedData
	lease Lease
	held  bool
	// term is the latest known: where the role's record was lost, terms go on from here.
	term    uint64
	corrupt uint64
	// lost and returned: see Lost.
	lost, returned uint64
}

// Corrupt is how many leases were found that nobody of us can have written; they are replaced.
func (m *Member) Corrupt() uint64 { return m.corrupt }

// New returns a member that has no slot yet.
func New(data host.SharedData) *Member { return &Member{data: data} }

// Lease is the slot this worker holds, and whether it holds one.
func (m *Member) Lease() (Lease, bool) { return m.lease, m.held }

// Beat claims a slot, or renews the one it has. now is the monotonic time in nanoseconds. A worker that was so slow that
// another took its slot gets a new one, in a new epoch; it reports whether the lease is a new one. It fails with
// ErrFull or the host's error.
func (m *Member) Beat(now int64) (claimed bool, err error) {
	if m.held {
		if now-m.lease.Beat < beatEvery {
			return false, nil
		}
		if ok, err := m.renew(now); ok || err != nil {
			return false, err
		}
		m.held = false
		if now-m.lease.Beat > TTL {
			m.returned++
		}
	}
	for slot := range uint16(Slots) {
		ok, err := m.claim(slot, now)
		if ok || err != nil {
			return ok, err
		}
	}
	return false, ErrFull
}

func (m *Member) renew(now int64) (bool, error) {
	key := slotKey + strconv.Itoa(int(m.lease.Slot))
	l, cas, err := m.get(key)
	if err != nil || l.Epoch != m.lease.Epoch || l.Slot != m.lease.Slot {
		return false, err
	}
	l.Beat = now
	return m.put(key, l, cas)
}

func (m *Member) claim(slot uint16, now int64) (bool, error) {
	key := slotKey + strconv.Itoa(int(slot))
	l, cas, err := m.get(key)
	if err != nil || !l.runOut(now, TTL) {
		return false, err
	}
	ok, err := m.put(key, Lease{Slot: slot, Epoch: uint64(now), Beat: now}, cas)
	if ok && !l.vacant() {
		m.lost++
	}
	return ok, err
}

// put writes the lease of this worker's slot, and reports false if another worker was faster.
func (m *Member) put(key string, l Lease, cas uint32) (bool, error) {
	err := m.data.Set(key, l.encode(), cas)
	if errors.Is(err, host.ErrCASMismatch) {
		return false, nil
	}
	if err == nil {
		m.lease, m.held = l, true
	}
	return err == nil, err
}

// Role is who aggregates.
type Role struct {
	Lease
	// Mine is whether it is this worker, Fresh whether the holder has renewed it lately.
	Mine, Fresh bool
}

// Role returns who aggregates, having renewed the role if this worker has it, or taken it if it was free. A worker
// without a slot takes nothing.
func (m *Member) Role(now int64) (Role, error) {
	l, cas, err := m.get(roleKey)
	if err != nil {
		return Role{}, err
	}
	m.term = max(m.term, l.Term)
	mine := m.held && l.Slot == m.lease.Slot && l.Epoch == m.lease.Epoch
	free := l.runOut(now, RoleTTL)
	switch {
	case mine && now-l.Beat < roleEvery && !free, !mine && !free, !m.held:
		return Role{Lease: l, Mine: mine, Fresh: !free}, nil
	case !mine || free:
		// Also its own role, once run out, is taken anew: in between another may have led.
		l = Lease{Slot: m.lease.Slot, Epoch: m.lease.Epoch, Term: m.term + 1}
	}
	l.Beat = now
	err = m.data.Set(roleKey, l.encode(), cas)
	if errors.Is(err, host.ErrCASMismatch) {
		return Role{Lease: l, Fresh: true}, nil // somebody else has just taken it
	}
	return Role{Lease: l, Mine: err == nil, Fresh: err == nil}, err
}

func (m *Member) get(key string) (Lease, uint32, error) {
	value, cas, err := m.data.Get(key)
	if errors.Is(err, host.ErrNotFound) {
		return Lease{}, host.CreateOnly, nil
	}
	if err != nil {
		return Lease{}, 0, err
	}
	l, intact := decode(value)
	if !intact {
		m.corrupt++
	}
	return l, cas, nil
}
