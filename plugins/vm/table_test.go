//go:build !wasip1

package vm

import (
	"math/rand/v2"
	"testing"
	"time"
)

// TestStreams compares the table with a map, over contexts that live for a short or a long time, and over ids that all
// want the same slot.
func TestStreams(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Log("seed ", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for _, stride := range []uint32{1, 7, 64, 1 << 20} {
		var table streams
		want := map[uint32]*Base{}
		next := uint32(1)
		for step := range 50_000 {
			// The number of streams rises and falls between none and about 2,000.
			rising := step/5000%2 == 0
			if roll := random.IntN(100); roll < 60 == rising {
				s := &Base{context: next}
				table.put(next, s)
				want[next] = s
				next += stride
			} else {
				for id, s := range want { // any
					if got := table.take(id); got != s {
						t.Fatalf("stride %d, step %d: take(%d) is %v, want %v", stride, step, id, got, s)
					}
					delete(want, id)
					break
				}
			}
			if table.count != len(want) {
				t.Fatalf("stride %d, step %d: %d streams, want %d", stride, step, table.count, len(want))
			}
			probe := 1 + stride*random.Uint32N(next/stride+2)
			if s, there := want[probe]; there && table.get(probe) != s || !there && table.get(probe) != nil {
				t.Fatalf("stride %d, step %d: get(%d) is %v, want %v", stride, step, probe, table.get(probe), s)
			}
		}
		for id, s := range want {
			if table.take(id) != s || table.take(id) != nil {
				t.Fatalf("stride %d: stream %d is not taken once", stride, id)
			}
		}
		if table.count != 0 || len(table.slots) > fewestSlots {
			t.Errorf("stride %d: without streams, count %d and %d slots", stride, table.count, len(table.slots))
		}
	}
}
