// Package isolation counts the entries in flight in all workers of a process, and keeps them within a threshold.
//
// The shared record says how many entries each worker may have in flight: its lease. All leases together are within the
// threshold; a worker is within its own lease. Nothing depends on a worker saying goodbye: a lease runs out unless it is
// renewed.
package isolation

import (
	"encoding/binary"
	"math"
	"slices"

	"sentinel-envoy/shared/worker"
)

// MaxLeases bounds a record: as many workers as can have an identity, and those that died in the last worker.TTL.
const MaxLeases = 1024

// unknown holds the lease that stands for whatever a lost record had: until it runs out, nobody gets anything.
var unknown = worker.Identity{Slot: math.MaxUint16}

// lease is how many entries a worker may have in flight, and when it last said that it lives, in nanoseconds.
type lease struct {
	holder worker.Identity
	n      uint32
	stamp  int64
}

// leaseSize is what a lease takes in a record: slot (2 bytes), epoch (8), number (4), stamp (8), little-endian.
const leaseSize = 2 + 8 + 4 + 8

// State is a record: the leases that count. Its zero value has none.
type State struct {
	leases []lease
	// Newest is the latest stamp in the record.
	Newest int64
}

// Decode reads a record, and reports false where it is none. What it was before does not matter.
func (s *State) Decode(payload []byte) bool {
	s.leases, s.Newest = s.leases[:0], 0
	if len(payload)%leaseSize != 0 || len(payload) > MaxLeases*leaseSize {
		return false
	}
	for ; len(payload) > 0; payload = payload[leaseSize:] {
		l := lease{
			holder: worker.Identity{Slot: binary.LittleEndian.Uint16(payload), Epoch: binary.LittleEndian.Uint64(payload[2:])},
			n:      binary.LittleEndian.Uint32(payload[10:]),
			stamp:  int64(binary.LittleEndian.Uint64(payload[14:])),
		}
		s.Newest = max(s.Newest, l.stamp)
		s.leases = append(s.leases, l)
	}
	return true
}

// Encode appends the record to dst.
func (s *State) Encode(dst []byte) []byte {
	for _, l := range s.leases {
		dst = binary.LittleEndian.AppendUint16(dst, l.holder.Slot)
		dst = binary.LittleEndian.AppendUint64(dst, l.holder.Epoch)
		dst = binary.LittleEndian.AppendUint32(dst, l.n)
		dst = binary.LittleEndian.AppendUint64(dst, uint64(l.stamp))
	}
	return dst
}

// Forget makes the state of a record that was lost at the time now, in nanoseconds: for worker.TTL nothing is free, in which
// every worker that lives renews its lease.
func (s *State) Forget(now int64) {
	s.leases = append(s.leases[:0], lease{holder: unknown, n: math.MaxUint32, stamp: now})
	s.Newest = now
}

// Expire drops the leases whose holders are dead at the time now, as far as a worker has watched.
func (s *State) Expire(w *worker.Watch, now int64) {
	s.leases = slices.DeleteFunc(s.leases, func(l lease) bool { return w.Gone(l.stamp, now) })
}

// Take removes the lease of a holder, and returns its number and stamp; 0 where it has none.
func (s *State) Take(h worker.Identity) (n uint32, stamp int64) {
	for i, l := range s.leases {
		if l.holder == h {
			s.leases = slices.Delete(s.leases, i, i+1)
			return l.n, l.stamp
		}
	}
	return 0, 0
}

// Put adds the lease of a holder that has none, and reports false where the record is full.
func (s *State) Put(h worker.Identity, n uint32, now int64) bool {
	if n == 0 {
		return true
	}
	if len(s.leases) >= MaxLeases {
		return false
	}
	s.leases = append(s.leases, lease{holder: h, n: n, stamp: now})
	return true
}

// Holders is how many have a lease.
func (s *State) Holders() int { return len(s.leases) }

// Sum is the number of all leases together.
func (s *State) Sum() (sum int64) {
	for _, l := range s.leases {
		sum += int64(l.n)
	}
	return sum
}
