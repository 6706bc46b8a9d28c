package e2e

import (
	"strings"
	"testing"

	"sentinel-envoy/internal/envoytest"
	"sentinel-envoy/internal/plugintest"
)

// auditing has the plugin write what it decided, by the time of the decision.
var auditing = map[string]string{"wasm": "debug"}

// decided is what all workers decided about one rule.
type decided struct {
	admitted map[int]int // by the number of the bucket
	refused  int
}

// audit adds up what the log says about a rule whose window has buckets of 500 ms.
func audit(t testing.TB, e *envoytest.Envoy, rule string) decided {
	t.Helper()
	d := decided{admitted: map[int]int{}}
	for line := range strings.Lines(e.Log.String()) {
		one, ok, err := plugintest.ParseDecided(line)
		if err != nil {
			t.Fatal(err)
		}
		if ok && one.Rule == rule {
			d.admitted[int(one.Bucket)] += one.Admitted
			d.refused += one.Refused
		}
	}
	return d
}

// total is what was admitted in all.
func (d decided) total() (sum int) {
	for _, n := range d.admitted {
		sum += n
	}
	return sum
}

// most is the largest number admitted in two adjacent buckets, of those from the number after on.
func (d decided) most(after int) (most int) {
	for b, n := range d.admitted {
		if b >= after {
			most = max(most, n+d.admitted[b+1])
		}
	}
	return most
}

// newest is the number of the last bucket in which anything was admitted.
func (d decided) newest() (newest int) {
	for b := range d.admitted {
		newest = max(newest, b)
	}
	return newest
}

// within fails the test where two adjacent buckets have admitted more than the threshold, or, so that there was
// something to limit, none admitted nearly as much and nothing was refused.
func (d decided) within(t testing.TB, threshold int) {
	t.Helper()
	for b, n := range d.admitted {
		if sum := n + d.admitted[b+1]; sum > threshold {
			t.Errorf("buckets %d and %d admitted %d, more than %d", b, b+1, sum, threshold)
		}
	}
	if most := d.most(0); most < threshold*9/10 || d.refused == 0 {
		t.Errorf("at most %d of %d were admitted in a window and %d refused in all: there was too little to limit",
			most, threshold, d.refused)
	}
}
