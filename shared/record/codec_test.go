package record

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
)

// What is changed anywhere, or cut, is neither a page nor a record any more.
func TestRubbishIsNoticed(t *testing.T) {
	written := page{entries: []entry{{IDOf("a"), 7}, {IDOf("b"), 9}}, lost: 3}
	sealed := append(appendHeader(nil, IDOf("a"), 7), "payload"...)
	seal(sealed)
	isPage := func(value []byte) bool { _, intact := decodePage(value); return intact }
	isRecord := func(value []byte) bool {
		var r record
		r.decode(value)
		return !r.corrupt
	}
	for name, c := range map[string]struct {
		value []byte
		is    func([]byte) bool
	}{"page": {written.encode(nil), isPage}, "record": {sealed, isRecord}} {
		if !c.is(c.value) {
			t.Errorf("%s: not read", name)
		}
		for i := range c.value {
			if c.is(c.value[:i]) {
				t.Errorf("%s: %d bytes of it were read", name, i)
			}
			for bit := range 8 {
				flipped := bytes.Clone(c.value)
				if flipped[i] ^= 1 << bit; c.is(flipped) {
					t.Errorf("%s: bit %d of byte %d changed, and it was read", name, bit, i)
				}
			}
		}
	}
	if isPage(bytes.Repeat([]byte{1}, pageHeader+slotsPerPage*entrySize+entrySize)) {
		t.Error("a page of too many slots was read")
	}
}

// A slot that is said to be used in a time to come would never be free: nobody of us has written it.
func TestSlotsOfATimeToComeAreFree(t *testing.T) {
	const now = uint32(1000)
	for touched, want := range map[uint32]int64{
		now: 0, now - 5: 5, now + touchSeconds: 0, now + touchSeconds + 1: idleSeconds, 1<<32 - 1: idleSeconds,
	} {
		if got := (entry{IDOf("a"), touched}).idle(now); got != want {
			t.Errorf("touched at %d: idle for %d s at %d, want %d", touched, got, now, want)
		}
	}
	var p page
	for i := range slotsPerPage {
		if at := p.vacant(now); at != i {
			t.Fatalf("place %d of %d", at, i)
		}
		p.entries[i] = entry{IDOf("somebody's", string(rune('a'+i))), now}
	}
	if at := p.vacant(now); at >= 0 {
		t.Error("a slot in use was given away")
	}
	if p.entries[7].touched = 1<<32 - 1; p.vacant(now) != 7 || p.inUse(now) != slotsPerPage-1 {
		t.Errorf("place %d, %d in use", p.vacant(now), p.inUse(now))
	}
	if p.entries[9] = (entry{touched: now}); p.inUse(now) != slotsPerPage-2 {
		t.Error("what is nobody's is in use")
	}
}

func TestPageRoundTrip(t *testing.T) {
	for n := range slotsPerPage + 1 {
		want := page{lost: uint32(n)}
		for i := range n {
			want.entries = append(want.entries, entry{IDOf("id", string(rune('a'+i))), uint32(i)})
		}
		got, intact := decodePage(want.encode(nil))
		if !intact || got.lost != want.lost || !slices.Equal(got.entries, want.entries) {
			t.Errorf("%d entries: %v, intact %t", n, got, intact)
		}
	}
}

func TestIDsOfDifferentPartsDiffer(t *testing.T) {
	if IDOf("ab", "c") == IDOf("a", "bc") || IDOf("a") == IDOf("a", "") {
		t.Error("different lists of parts have one ID")
	}
}

// With as many ids in use as there is said to be room for, whatever their names are like, no page has more than its slots.
func TestIDsSpreadOverPages(t *testing.T) {
	for _, format := range []string{"%d", "/orders/%d/items", "sentinel_blocked;resource=some;rule=r%d", "%032d", "%x-suffix"} {
		used := [tablePages]int{}
		for i := range MaxRecords {
			used[IDOf(fmt.Sprintf(format, i)).page(tablePages)]++
		}
		if fullest := slices.Max(used[:]); fullest > slotsPerPage {
			t.Errorf("%q: %d ids a page on average, and %d on one", format, MaxRecords/tablePages, fullest)
		}
	}
}
