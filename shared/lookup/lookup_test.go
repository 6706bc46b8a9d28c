package lookup

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"sentinel-envoy/internal/seeds"
)

// TestNumbers: names have the numbers that a map would give them.
func TestNumbers(t *testing.T) {
	seeds.Try(t, 20, func(t *testing.T, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 0))
		var table Table
		want := map[string]int{}
		for range 5000 {
			name := fmt.Sprint(r.IntN(1000))
			if name == "7" {
				name = ""
			}
			number, is := want[name]
			if !is {
				number = None
			}
			if got := table.Find(name); got != number {
				t.Fatalf("%q is %d, want %d", name, got, number)
			}
			if r.IntN(4) > 0 {
				continue
			}
			if !is {
				number = len(want)
				want[name] = number
			}
			if got := table.Add(name); got != number {
				t.Fatalf("%q is added as %d, want %d", name, got, number)
			}
		}
	})
}

// TestNamesInOnePlace lie behind each other, also beyond the table's end.
func TestNamesInOnePlace(t *testing.T) {
	var table Table
	var alike []string
	for i := 0; len(alike) < 4; i++ { // the table has 8 slots
		if name := fmt.Sprint(i); hash(name)&7 == 7 {
			alike = append(alike, name)
		}
	}
	for _, name := range alike[:3] {
		table.Add(name)
	}
	for i, want := range []int{0, 1, 2, None} {
		if got := table.Find(alike[i]); got != want {
			t.Errorf("%q is %d, want %d", alike[i], got, want)
		}
	}
}
