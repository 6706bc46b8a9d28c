package isolation

import (
	"bytes"
	"testing"
)

func FuzzDecode(f *testing.F) {
	var s State
	s.Put(Holder{Slot: 3, Epoch: 7}, 5, 100)
	s.Put(Holder{Slot: 4, Epoch: 8}, 1, 200)
	f.Add(s.Encode(nil))
	f.Add([]byte("rubbish"))
	f.Fuzz(func(t *testing.T, payload []byte) {
		var s State
		if !s.Decode(payload) {
			return
		}
		if got := s.Encode(nil); !bytes.Equal(got, payload) {
			t.Errorf("%x became %x", payload, got)
		}
	})
}

func TestExpireKeepsWhatIsYoungEnough(t *testing.T) {
	var s State
	s.Put(Holder{Slot: 1}, 5, 100)
	s.Put(Holder{Slot: 2}, 7, 101)
	if s.Expire(100 + TTL); s.Sum() != 12 {
		t.Errorf("after exactly TTL %d are leased, want 12", s.Sum())
	}
	if s.Expire(101 + TTL); s.Sum() != 7 {
		t.Errorf("later %d are leased, want 7", s.Sum())
	}
}

func TestLostRecordIsFullForTTL(t *testing.T) {
	var s State
	s.Forget(100)
	if s.Sum() < 1<<32-1 {
		t.Errorf("a lost record leases %d", s.Sum())
	}
	if s.Expire(101 + TTL); s.Sum() != 0 {
		t.Errorf("TTL later it leases %d", s.Sum())
	}
}
