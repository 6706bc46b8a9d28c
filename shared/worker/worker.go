// Package worker gives every worker of a process an identity, and one of them the aggregator's role.
//
// Nothing tells a worker its index, and none says goodbye when it dies; so slots and the role are leases in shared data,
// renewed by a heartbeat and free for others when it stops.
package worker

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
	// TTL is how long a slot is its holder's after the last heartbeat, and how long whatever else a worker holds is its own
	// after it last said so, in nanoseconds.
	TTL = 2e9
	// RoleTTL is the same for the aggregator's role.
	RoleTTL = 800e6
	// beatEvery is how often a slot is renewed, roleEvery how often the role is.
	beatEvery = 400e6
	roleEvery = 100e6
	// retryAfter is how long a worker for which there was no slot does not ask again.
	retryAfter = 20e6
	// maxAhead is how far a reading of the clock may be behind another worker's, in nanoseconds.
	maxAhead = 10 * TTL
	// maxTerm is more changes of the aggregator than there will be.
	maxTerm = 1 << 62

	keys    = "sentinel/2/"
	slotKey = keys + "worker/"
	roleKey = keys + "aggregator"
)

// Identity is who a worker is to others. Its zero value is nobody's.
type Identity struct {
	Slot uint16
	// Epoch tells apart the holders of one slot: it is the time at which the slot was taken, in nanoseconds.
	Epoch uint64
}

// Lease is what shared data has of a slot or the role.
type Lease struct {
	Identity
	// Term counts the changes of the aggregator; in a slot it is what Of has said.
	Term uint64
	// Beat is the time of the last heartbeat in nanoseconds.
	Beat int64
	// Since is since when the aggregator's watch has had no gap; it is 0 in a slot.
	Since int64
}

const leaseSize = 4 + 2 + 8 + 8 + 8 + 8

func (l Lease) encode() []byte {
	b := make([]byte, 4, leaseSize)
	b = binary.LittleEndian.AppendUint16(b, l.Slot)
	b = binary.LittleEndian.AppendUint64(b, l.Epoch)
	b = binary.LittleEndian.AppendUint64(b, l.Term)
	b = binary.LittleEndian.AppendUint64(b, uint64(l.Beat))
	b = binary.LittleEndian.AppendUint64(b, uint64(l.Since))
	binary.LittleEndian.PutUint32(b, checksum.Sum(b[4:]))
	return b
}

// decode reads a lease, and reports whether it is one. What is none is the zero lease, which has run out.
func decode(b []byte) (Lease, bool) {
	if len(b) != leaseSize || binary.LittleEndian.Uint32(b) != checksum.Sum(b[4:]) {
		return Lease{}, false
	}
	l := Lease{
		Identity: Identity{Slot: binary.LittleEndian.Uint16(b[4:]), Epoch: binary.LittleEndian.Uint64(b[6:])},
		Term:     binary.LittleEndian.Uint64(b[14:]),
		Beat:     int64(binary.LittleEndian.Uint64(b[22:])),
		Since:    int64(binary.LittleEndian.Uint64(b[30:])),
	}
	if l.Slot >= Slots || l.Term > maxTerm || l.Beat < 0 || l.Since < 0 || l.Since > l.Beat {
		return Lease{}, false
	}
	return l, true
}

// runOut is whether a lease has not been renewed for ttl. One that was renewed after now has been, for it is our reading of
// the clock that is old; unless it is so far ahead that nobody of us can have renewed it.
func (l Lease) runOut(now, ttl int64) bool { return l.Beat < now-ttl || l.forged(now) }

// forged is whether nobody of us can have renewed a lease.
func (l Lease) forged(now int64) bool { return l.Beat > now+maxAhead }

// isFree is whether another may have the slot of a lease.
func (w *Worker) isFree(l Lease, now int64) bool {
	return l.vacant() || l.forged(now) || w.Gone(l.Beat, now)
}

// ErrFull means that all slots are taken.
var ErrFull = errors.New("worker: no free slot")

// Worker is this worker among the workers of its process.
type Worker struct {
	Watch
	data  host.SharedData
	lease Lease
	held  bool
	// of tells apart the VMs of one configuration from others'.
	of uint64
	// askAt is when a worker that has found no slot may ask again.
	askAt int64
	// term is the latest known: where the role's record was lost, terms go on from here.
	term uint64
	// led is the aggregator's role as this worker has renewed it last, none where another has it.
	led     Lease
	corrupt uint64
	// lost and returned: see Lost.
	lost, returned uint64
}

// Corrupt is how many leases were found that nobody of us can have written; they are replaced.
func (w *Worker) Corrupt() uint64 { return w.corrupt }

// New returns a worker that has no slot yet.
func New(data host.SharedData) *Worker { return &Worker{data: data} }

// Of says which VM's worker this is, as a hash: there are as many workers of each VM as Envoy has threads. It must be called
// before the worker claims a slot.
func (w *Worker) Of(vm uint64) { w.of = vm % (maxTerm + 1) }

// Identity is who this worker is, and whether it holds a slot.
func (w *Worker) Identity() (Identity, bool) { return w.lease.Identity, w.held }

// Identify is who this worker is at the time now, in nanoseconds: one that holds no slot yet claims one. It fails with
// ErrFull or the host's error; it then fails for a while without asking anybody.
func (w *Worker) Identify(now int64) (Identity, error) {
	if w.held {
		return w.lease.Identity, nil
	}
	if now < w.askAt {
		return Identity{}, ErrFull
	}
	if err := w.Beat(now); err != nil {
		w.askAt = now + retryAfter
		return Identity{}, err
	}
	return w.lease.Identity, nil
}

// Beat claims a slot, or renews the one it has. now is the monotonic time in nanoseconds. A worker that was so slow that
// another took its slot gets a new one, in a new epoch. It fails with ErrFull or the host's error.
func (w *Worker) Beat(now int64) error {
	if err := w.look(now); err != nil {
		return err
	}
	if w.held {
		if now-w.lease.Beat < beatEvery {
			return nil
		}
		if ok, err := w.renew(now); ok || err != nil {
			return err
		}
		w.held = false
		if now-w.lease.Beat > TTL {
			w.returned++
		}
	}
	for slot := range uint16(Slots) {
		ok, err := w.claim(slot, now)
		if ok || err != nil {
			return err
		}
	}
	return ErrFull
}

// look is Look, of a worker that may be younger than its process, or have been held up alone: the aggregator knows.
func (w *Worker) look(now int64) error {
	if !w.looks(now) {
		role, _, err := w.get(roleKey)
		if err != nil {
			return err
		}
		if !role.runOut(now, RoleTTL) && (!w.held || role.Identity != w.lease.Identity) {
			w.adopt(role.Since, now)
		}
	}
	w.Look(now)
	return nil
}

func (w *Worker) renew(now int64) (bool, error) {
	key := slotKey + strconv.Itoa(int(w.lease.Slot))
	l, cas, err := w.get(key)
	if err != nil || l.Identity != w.lease.Identity {
		return false, err
	}
	l.Beat = now
	return w.put(key, l, cas)
}

func (w *Worker) claim(slot uint16, now int64) (bool, error) {
	key := slotKey + strconv.Itoa(int(slot))
	l, cas, err := w.get(key)
	if err != nil || !w.isFree(l, now) {
		return false, err
	}
	ok, err := w.put(key, Lease{Identity: Identity{slot, uint64(now)}, Term: w.of, Beat: now}, cas)
	if ok && !l.vacant() {
		w.lost++
	}
	return ok, err
}

// put writes the lease of this worker's slot, and reports false if another worker was faster.
func (w *Worker) put(key string, l Lease, cas uint32) (bool, error) {
	err := w.data.Set(key, l.encode(), cas)
	if errors.Is(err, host.ErrCASMismatch) {
		return false, nil
	}
	if err == nil {
		w.lease, w.held = l, true
	}
	return err == nil, err
}

func (w *Worker) get(key string) (Lease, uint32, error) {
	value, cas, err := w.data.Get(key)
	if errors.Is(err, host.ErrNotFound) {
		return Lease{}, host.CreateOnly, nil
	}
	if err != nil {
		return Lease{}, 0, err
	}
	l, intact := decode(value)
	if !intact {
		w.corrupt++
	}
	return l, cas, nil
}
