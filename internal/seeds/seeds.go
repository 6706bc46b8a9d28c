// Package seeds runs random tests, each time with new seeds, but for those that judge a sample. One that fails prints its seed, and with that runs again:
//
//	go test ./shared/stat -run TestSnapshotEqualsRecount -seed 1234567890
//
// The flag is there in every package whose tests import this one.
package seeds

import (
	"flag"
	"math/rand/v2"
	"strconv"
	"testing"
)

// shortFor is by how much -short divides the runs of a test.
const shortFor = 10

// again is the seed that the flag asks for, nil where it was not given.
var again *uint64

func init() {
	flag.Func("seed", "run each random test once, with this seed", func(text string) error {
		seed, err := strconv.ParseUint(text, 10, 64)
		again = &seed
		return err
	})
}

// Try runs check that many times, each with another seed, which must decide everything that is random in it. With -short
// it makes a tenth of the runs, at least one; with -seed one. It stops at the first run that fails and logs its seed.
func Try(t *testing.T, runs int, check func(t *testing.T, seed uint64)) {
	t.Helper()
	each(t, runs, func(int) uint64 { return rand.Uint64() >> 11 }, check) // 16 digits at the most
}

// Sample is Try with the same seeds each time, 1, 2, 3 and so on. It is for what holds for nearly all seeds, as how much of a limit
// is used: what chance may miss, no run of the same code misses that another has met.
func Sample(t *testing.T, runs int, check func(t *testing.T, seed uint64)) {
	t.Helper()
	each(t, runs, func(i int) uint64 { return uint64(i + 1) }, check)
}

func each(t *testing.T, runs int, seed func(i int) uint64, check func(t *testing.T, seed uint64)) {
	t.Helper()
	if again != nil {
		try(t, *again, check)
		return
	}
	if testing.Short() {
		runs = max(1, runs/shortFor)
	}
	for i := 0; i < runs && !t.Failed(); i++ {
		try(t, seed(i), check)
	}
}

// try logs the seed also where check ends the test, or panics.
func try(t *testing.T, seed uint64, check func(t *testing.T, seed uint64)) {
	t.Helper()
	over := false
	defer func() {
		if !over || t.Failed() {
			t.Logf("seed %d: to run it again, -run '^%s$' -seed %d", seed, t.Name(), seed)
		}
	}()
	check(t, seed)
	over = true
}

// Complete tells whether Try makes all runs that it is asked for, so that a test can ask of all of them together that
// they met what they look for.
func Complete() bool { return again == nil && !testing.Short() }
