package worker

import (
	"bytes"
	"math"
	"testing"
)

func TestRubbishIsNoticed(t *testing.T) {
	l := Lease{Identity: Identity{3, 4}, Term: 5, Beat: 6}
	b := l.encode()
	if got, intact := decode(b); !intact || got != l {
		t.Errorf("%+v became %+v, %t", l, got, intact)
	}
	for i := range b {
		if _, intact := decode(b[:i]); intact {
			t.Errorf("%d bytes were read", i)
		}
		for bit := range 8 {
			flipped := bytes.Clone(b)
			flipped[i] ^= 1 << bit
			if got, intact := decode(flipped); intact || got != (Lease{}) {
				t.Errorf("bit %d of byte %d changed, and it was read as %+v", bit, i, got)
			}
		}
	}
	for _, l := range []Lease{{Identity: Identity{Slot: Slots}}, {Identity: Identity{Slot: math.MaxUint16}}, {Term: math.MaxUint64}, {Beat: math.MinInt64}} {
		if got, intact := decode(l.encode()); intact || got != (Lease{}) {
			t.Errorf("%+v was read as %+v", l, got)
		}
	}
}

func TestLeaseRunsOut(t *testing.T) {
	const now = int64(1e12)
	for beat, free := range map[int64]bool{
		0: true, now - TTL - 1: true, now - TTL: false, now: false, now + 10*TTL: false, now + 10*TTL + 1: true, math.MaxInt64: true,
	} {
		if got := (Lease{Beat: beat}).runOut(now, TTL); got != free {
			t.Errorf("a lease renewed at %d has run out at %d: %t", beat, now, got)
		}
	}
}
