package ledger

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
)

func FuzzDecodePage(f *testing.F) {
	one := encodePage(nil, nil, 0, entry{id: IDOf("a"), touched: 7})
	f.Add(one)
	f.Add(one[:len(one)-1])
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte{1}, pageHeader+slotsPerPage*entrySize+entrySize))
	f.Fuzz(func(t *testing.T, value []byte) {
		entries, intact := decodePage(value)
		if len(entries) > slotsPerPage {
			t.Errorf("%d entries in a page", len(entries))
		}
		if !intact || len(entries) == 0 {
			return
		}
		last := len(entries) - 1
		if again := encodePage(nil, entries, last, entries[last]); !bytes.Equal(again, value) {
			t.Errorf("%x was encoded as %x", value, again)
		}
	})
}

func FuzzDecodeRecord(f *testing.F) {
	record := append(appendHeader(nil, IDOf("a")), "payload"...)
	seal(record)
	f.Add(record)
	f.Add(record[:recordHeader])
	f.Add([]byte{})
	f.Add([]byte{1, 2, 3})
	f.Fuzz(func(t *testing.T, value []byte) {
		payload, owner, intact := decodeRecord(value)
		if !intact || value == nil {
			return
		}
		again := append(appendHeader(nil, owner), payload...)
		seal(again)
		if !bytes.Equal(again, value) {
			t.Errorf("%x was encoded as %x", value, again)
		}
	})
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
