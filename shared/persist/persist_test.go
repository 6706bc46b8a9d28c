package persist_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"sentinel-envoy/internal/seeds"
	"sentinel-envoy/shared/persist"
)

const second = int64(1e9)

func TestDocument(t *testing.T) {
	var s persist.Snapshot
	s.Add(persist.FixedWindow, persist.Always, []byte("fixed"))
	s.Add(persist.ValueSeed, persist.Always, []byte("seed"))
	s.Add(persist.Value, 7, bytes.Repeat([]byte("v"), 300))
	text := s.Encode(5*second, 9*second)
	d, err := persist.Decode(text)
	if err != nil || d.Now != 5*second || d.Wall != 9*second || len(d.Entries) != 3 || s.Dropped() != 0 {
		t.Fatalf("%+v, %v", d, err)
	}
	for i, want := range []string{"1 fixed", "5 seed", "6 " + string(bytes.Repeat([]byte("v"), 300))} {
		if got := fmt.Sprintf("%d %s", d.Entries[i].Kind, d.Entries[i].Data); got != want {
			t.Errorf("entry %d is %q, want %q", i, got, want)
		}
	}
}

// A key of values without any is left out, so that nobody's values change their hash for nothing.
func TestSeedWithoutValues(t *testing.T) {
	var s persist.Snapshot
	s.Add(persist.ValueSeed, persist.Always, []byte("seed"))
	s.Add(persist.TokenBucket, persist.Always, []byte("tokens"))
	d, err := persist.Decode(s.Encode(0, 0))
	if err != nil || len(d.Entries) != 1 || d.Entries[0].Kind != persist.TokenBucket {
		t.Errorf("%+v, %v", d, err)
	}
}

// No document is read of which a byte is missing or another.
func TestDamage(t *testing.T) {
	var s persist.Snapshot
	for n := range 20 {
		s.Add(persist.FixedWindow, persist.Always, fmt.Append(nil, "rule ", n))
	}
	text := s.Encode(second, second)
	for i := range text {
		if _, err := persist.Decode(text[:i]); err == nil || errors.Is(err, persist.ErrForeign) != (i < 16) {
			t.Errorf("the first %d bytes: %v", i, err)
		}
		damaged := bytes.Clone(text)
		damaged[i] ^= byte(1 + rand.IntN(255))
		if _, err := persist.Decode(damaged); err == nil {
			t.Errorf("byte %d is another", i)
		}
	}
}

// What has the least weight is left out, and nothing that must stay.
func TestSize(t *testing.T) {
	seeds.Try(t, 10, func(t *testing.T, seed uint64) {
		rng := rand.New(rand.NewPCG(seed, 1))
		var s persist.Snapshot
		added, always := 0, 0
		for range 60_000 + rng.IntN(60_000) {
			weight := int64(rng.IntN(100))
			if rng.IntN(50) == 0 {
				weight = persist.Always
				always++
			}
			s.Add(persist.Value, weight, append(fmt.Appendf(nil, "%3d", min(weight, 999)), make([]byte, 33)...))
			added++
		}
		text := s.Encode(0, 0)
		d, err := persist.Decode(text)
		if err != nil || len(text) > persist.MaxSize || len(text) < persist.MaxSize-100 || len(d.Entries)+s.Dropped() != added {
			t.Fatalf("%d bytes, %d dropped of %d, %v", len(text), s.Dropped(), added, err)
		}
		if n := bytes.Count(text, []byte("999\x00")); n != always {
			t.Errorf("%d of %d must stay and do", n, always)
		}
		if bytes.Contains(text, []byte("  3\x00")) {
			t.Error("one of little weight is there")
		}
	})
}

// As much time is taken to have passed as the wall clock says, less a little, and none where it was set back.
func TestShift(t *testing.T) {
	d := &persist.Document{Now: 100 * second, Wall: 1000 * second}
	for _, c := range []struct{ now, wall, then, least, most int64 }{
		{500 * second, 1010 * second, 90 * second, 480 * second, 482 * second},
		{5 * second, 1010 * second, 90 * second, -15 * second, -13 * second},
		{5 * second, 1010 * second, 160 * second, 55 * second, 57 * second},
		{50 * second, 10 * second, 90 * second, 40 * second, 40 * second},
		{50 * second, 1000 * second, 90 * second, 40 * second, 40 * second},
		{50 * second, 1000*second + second/2, 90 * second, 40 * second, 40 * second},
	} {
		s := persist.ShiftOf(d, c.now, c.wall)
		if got := s.Time(c.then); got < c.least || got > c.most {
			t.Errorf("%+v: %d", c, got)
		}
		if got := s.Past(c.then); got > c.now {
			t.Errorf("%+v: %d is to come", c, got)
		}
	}
}

// FuzzDecode: whatever comes, no panic, and what is read can be written and read again.
func FuzzDecode(f *testing.F) {
	var s persist.Snapshot
	s.Add(persist.FixedWindow, persist.Always, make([]byte, 40))
	s.Add(persist.Value, 1, make([]byte, 36))
	f.Add(s.Encode(second, second))
	f.Add([]byte("<html>"))
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, text := range [][]byte{text, sealed(text)} {
			d, err := persist.Decode(text)
			if err != nil {
				continue
			}
			var s persist.Snapshot
			for _, e := range d.Entries {
				s.Add(e.Kind, persist.Always, e.Data)
			}
			again, err := persist.Decode(s.Encode(d.Now, d.Wall))
			if err != nil || len(again.Entries) != len(d.Entries) {
				t.Fatalf("%v, %d entries, before %d", err, len(again.Entries), len(d.Entries))
			}
			shift := persist.ShiftOf(d, second, second)
			shift.Time(d.Now)
		}
	})
}

// sealed makes a text one with the beginning of a document, so that what follows is looked at.
func sealed(text []byte) []byte {
	var s persist.Snapshot
	empty := s.Encode(0, 0)
	return persist.Seal(append(empty, text...))
}
