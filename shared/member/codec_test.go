package member

import (
	"bytes"
	"math"
	"testing"
)

func FuzzDecodeLease(f *testing.F) {
	f.Add(Lease{Slot: 3, Epoch: 4, Term: 5, Beat: 6}.encode())
	f.Add(Lease{Slot: math.MaxUint16, Epoch: math.MaxUint64, Term: math.MaxUint64, Beat: math.MinInt64}.encode())
	f.Add([]byte{})
	f.Add(make([]byte, leaseSize))
	f.Fuzz(func(t *testing.T, b []byte) {
		l := decode(b)
		if l != (Lease{}) && !bytes.Equal(l.encode(), b) {
			t.Errorf("%x was decoded as %+v", b, l)
		}
	})
}

func TestLeaseRunsOut(t *testing.T) {
	const now = int64(1e12)
	for beat, free := range map[int64]bool{
		0: true, now - TTL - 1: true, now - TTL: false, now: false, now + 10*TTL: false,
	} {
		if got := (Lease{Beat: beat}).runOut(now, TTL); got != free {
			t.Errorf("a lease renewed at %d has run out at %d: %t", beat, now, got)
		}
	}
}
