package flow_test

import (
	"bytes"
	"testing"

	"sentinel-envoy/shared/family/flow"
)

// FuzzDecode reads rubbish as each of the states. What is accepted is encoded as it was, can be worked with, and never gives
// more than there is.
func FuzzDecode(f *testing.F) {
	w := flow.WindowOf(1000)
	warm := flow.WarmState{Left: 3, Warmth: flow.Warmth{Stored: 4, Filled: 5}}
	warm.Advance(w, 9)
	warm.Take(w, 10, 4)
	pace := flow.PaceState{Last: 8, Warmth: warm.Warmth}
	pace.Count(w, 1e9, 1e9, 3)
	for _, seed := range [][]byte{
		warm.State.Encode(nil, w), warm.Encode(nil, w), warm.EncodeCounts(nil, w), warm.Warmth.Encode(nil),
		pace.Encode(nil), (&flow.PaceState{Last: 8}).Encode(nil),
		{}, bytes.Repeat([]byte{0xff}, 24), bytes.Repeat([]byte{0x7f}, 48),
	} {
		f.Add(seed, uint32(1000))
	}
	f.Add(make([]byte, 168), uint32(10000))
	f.Add(make([]byte, 16), uint32(1))
	long := flow.WindowOf(70_000)
	carried := flow.WarmState{Left: 3, Warmth: flow.Warmth{Stored: 4, Filled: 5}}
	carried.Carry(7, 80e9)
	f.Add(carried.Encode(nil, long), uint32(70_000))
	carried.Filled = 0
	f.Add(carried.Encode(nil, long), uint32(70_000))
	f.Fuzz(func(t *testing.T, code []byte, interval uint32) {
		w := flow.WindowOf(uint64(interval) % 31_622_400_001)
		rule := flow.NewWarmUp(10, uint64(max(interval%3600_001, 1)), 10, 3)
		fuzzWindow(t, code, w)
		fuzzWarm(t, code, w, rule)
		fuzzPace(t, code, w, rule)
	})
}

func fuzzWindow(t *testing.T, code []byte, w flow.Window) {
	var s flow.State
	if !s.Decode(code, w) {
		return
	}
	if again := s.Encode(nil, w); !bytes.Equal(again, code) {
		t.Errorf("%x was encoded as %x", code, again)
	}
	used := s.Used(w)
	if got := s.Take(w, 10, 20); used < 0 || got > 10 || used+got > max(used, 10) {
		t.Errorf("%d of 10 used, and %d granted", used, got)
	}
	if free := s.FreeAt(w, 10, 1); free < s.Newest {
		t.Errorf("free in bucket %d, before %d", free, s.Newest)
	}
	s.Advance(w, s.Newest+1)
	s.GiveBack(w, s.Newest, 1)
}

func fuzzWarm(t *testing.T, code []byte, w flow.Window, rule *flow.WarmUp) {
	var s flow.WarmState
	if s.DecodeCounts(code, w) {
		if again := s.EncodeCounts(nil, w); !bytes.Equal(again, code) {
			t.Errorf("%x was encoded as %x", code, again)
		}
		if s.Add(w, s.Newest, 1<<60); s.Used(w) < 0 || s.Previous(w) < 0 {
			t.Errorf("%d used, %d before", s.Used(w), s.Previous(w))
		}
	}
	if !s.Decode(code, w) {
		return
	}
	if again := s.Encode(nil, w); !bytes.Equal(again, code) {
		t.Errorf("%x was encoded as %x", code, again)
	}
	s.Advance(w, s.Newest+1)
	rule.Advance(&s.Warmth, s.Filled+1, s.Previous(w))
	if got := rule.Threshold(s.Warmth); !(got >= 1 && got <= 10) || s.Stored < 0 {
		t.Errorf("threshold %v, %d tokens", got, s.Stored)
	}
}

func fuzzPace(t *testing.T, code []byte, w flow.Window, rule *flow.WarmUp) {
	var s flow.PaceState
	if !s.Decode(code) {
		return
	}
	if again := s.Encode(nil); !bytes.Equal(again, code) {
		t.Errorf("%x was encoded as %x", code, again)
	}
	if s.Ahead(w, 2e9) || s.Last > 1e18 {
		return // whoever reads it takes it for nobody's
	}
	s.Count(w, 3e9, 1e9, 1)
	rule.Advance(&s.Warmth, s.Filled+1, s.Previous(w, 2e9))
	before := s.Last
	if at, ok := s.Next(1e8, 0, 1e9, 1e9); ok && (at < 1e9 || at > 2e9 || before > 0 && at < before+1e8) {
		t.Errorf("a turn at %d, asked for at 1e9 after %d", at, before)
	}
}
