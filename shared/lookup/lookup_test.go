package lookup

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"sentinel-envoy/internal/seeds"
)

// TestTableIsAMap: what is put and what is asked for give what a map gives.
func TestTableIsAMap(t *testing.T) {
	seeds.Try(t, 20, func(t *testing.T, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 0))
		var table Table[int]
		want := map[string]int{}
		if _, found := table.Get(""); found {
			t.Error("an empty table has a name")
		}
		for range 5000 {
			name := fmt.Sprint(r.IntN(1000))
			if name == "7" {
				name = ""
			}
			if r.IntN(4) == 0 {
				value := r.IntN(5)
				table.Put(name, value)
				want[name] = value
			}
			got, found := table.Get(name)
			if value, is := want[name]; got != value || found != is {
				t.Fatalf("%q is %d (%t), want %d (%t)", name, got, found, value, is)
			}
		}
		if table.Len() != len(want) {
			t.Errorf("%d names, want %d", table.Len(), len(want))
		}
	})
}

// TestNamesWithOneHash lie behind each other, also beyond the table's end.
func TestNamesWithOneHash(t *testing.T) {
	var table Table[string]
	var alike []string
	for i := 0; len(alike) < 4; i++ { // the table has 8 slots
		if name := fmt.Sprint(i); hash(name)&7 == 7 {
			alike = append(alike, name)
		}
	}
	for _, name := range alike[:3] {
		table.Put(name, name)
	}
	for i, name := range alike {
		if got, found := table.Get(name); found != (i < 3) || found && got != name {
			t.Errorf("%q is %q (%t)", name, got, found)
		}
	}
}
