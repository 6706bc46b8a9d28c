package record

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
)

// What is changed anywhere, or cut, is neither a page nor a record any more.
func TestRubbishIsNoticed(t *testing.T) {
	page := encodePage(nil, []entry{{id: IDOf("a"), touched: 7}}, 1, entry{id: IDOf("b"), touched: 9})
	record := append(appendHeader(nil, IDOf("a"), 7), "payload"...)
	seal(record)
	isPage := func(value []byte) bool { _, intact := decodePage(value); return intact }
	isRecord := func(value []byte) bool { return !decode(value).corrupt }
	for name, c := range map[string]struct {
		value []byte
		is    func([]byte) bool
	}{"page": {page, isPage}, "record": {record, isRecord}} {
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
		if got := (entry{touched: touched}).idle(now); got != want {
			t.Errorf("touched at %d: idle for %d s at %d, want %d", touched, got, now, want)
		}
	}
	d := NewDirectory(nil, "", true)
	entries := make([]entry, slotsPerPage)
	for i := range entries {
		entries[i] = entry{id: IDOf("somebody's", string(rune('a'+i))), touched: now}
	}
	if _, _, ok := d.place(entries, IDOf("ours"), now); ok {
		t.Error("a slot in use was given away")
	}
	entries[7].touched = 1<<32 - 1
	if at, changed, ok := d.place(entries, IDOf("ours"), now); at != 7 || !changed || !ok {
		t.Errorf("place %d, %t, %t; want 7", at, changed, ok)
	}
	if _, changed, _ := d.place(entries, entries[7].id, now); !changed {
		t.Error("the slot's own id leaves it as it is")
	}
}

func TestPageRoundTrip(t *testing.T) {
	var page []byte
	var want []entry
	for i := range slotsPerPage {
		e := entry{id: IDOf("id", string(rune('a'+i))), touched: uint32(i)}
		page = encodePage(nil, append([]entry(nil), want...), i, e)
		want = append(want, e)
	}
	got, intact := decodePage(page)
	if !intact || len(got) != len(want) {
		t.Fatalf("%d entries, intact %t", len(got), intact)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("entry %d is %v, want %v", i, got[i], want[i])
		}
	}
}

func TestIDsOfDifferentPartsDiffer(t *testing.T) {
	if IDOf("ab", "c") == IDOf("a", "bc") || IDOf("a") == IDOf("a", "") {
		t.Error("different lists of parts have one ID")
	}
}

// Names that differ in a few characters, wherever those are, fall on all pages: a page has few slots.
func TestIDsSpreadOverPages(t *testing.T) {
	for _, format := range []string{"%d", "/orders/%d/items", "sentinel_blocked;resource=some;rule=r%d", "%032d", "%x-suffix"} {
		used := [pages]int{}
		for i := range 16 * pages {
			used[IDOf(fmt.Sprintf(format, i)).page()]++
		}
		if fullest := slices.Max(used[:]); fullest > slotsPerPage+8 {
			t.Errorf("%q: 16 ids a page on average, and %d on one", format, fullest)
		}
	}
}
