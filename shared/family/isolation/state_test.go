package isolation

import (
	"bytes"
	"math"
	"testing"

	"sentinel-envoy/shared/worker"
)

func TestRoundTrip(t *testing.T) {
	var s, again State
	for i := range MaxLeases {
		s.Put(worker.Identity{Slot: uint16(i), Epoch: math.MaxUint64 - uint64(i)}, math.MaxUint32-uint32(i), int64(i))
	}
	record := s.Encode(nil)
	if !again.Decode(record) || !bytes.Equal(again.Encode(nil), record) || again.Sum() != s.Sum() || again.Newest != MaxLeases-1 {
		t.Errorf("%d leases of %d became %d of %d", len(s.leases), s.Sum(), len(again.leases), again.Sum())
	}
	if again.Decode(record[1:]) || again.Decode(append(record, record[:leaseSize]...)) {
		t.Error("what is too long, or cut, was read")
	}
}

// watching is a worker's watch that has looked since the beginning of time.
func watching(now int64) *worker.Watch {
	w := &worker.Watch{}
	for at := int64(1); at <= now; at += 100e6 {
		w.Look(at)
	}
	return w
}

func TestExpireKeepsWhatIsYoungEnough(t *testing.T) {
	var s State
	w := watching(101 + worker.TTL)
	s.Put(worker.Identity{Slot: 1}, 5, 100)
	s.Put(worker.Identity{Slot: 2}, 7, 101)
	if s.Expire(w, 100+worker.TTL); s.Sum() != 12 {
		t.Errorf("after exactly worker.TTL %d are leased, want 12", s.Sum())
	}
	if s.Expire(w, 101+worker.TTL); s.Sum() != 7 {
		t.Errorf("later %d are leased, want 7", s.Sum())
	}
}

func TestLostRecordIsFullForTTL(t *testing.T) {
	var s State
	w := watching(101 + worker.TTL)
	s.Forget(100)
	if s.Sum() < 1<<32-1 {
		t.Errorf("a lost record leases %d", s.Sum())
	}
	if s.Expire(w, 101+worker.TTL); s.Sum() != 0 {
		t.Errorf("worker.TTL later it leases %d", s.Sum())
	}
}
