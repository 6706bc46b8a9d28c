package e2e

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"sentinel-envoy/internal/envoytest"
	"sentinel-envoy/internal/load"
)

// auditing has the plugin write what it decided, by the time of the decision.
var auditing = map[string]string{"wasm": "debug"}

// perSecond is a rule that admits so many in a second: in every two adjacent buckets of 500 ms.
func perSecond(id, resource string, threshold int) string {
	return `{"id": "` + id + `", "resource": "` + resource + `", "threshold": ` + strconv.Itoa(threshold) + `}`
}

// decided is what all workers decided about one rule.
type decided struct {
	admitted map[int]int // by the number of the bucket
	refused  int
}

// audit adds up what the log says about a rule.
func audit(t *testing.T, e *envoytest.Envoy, rule string) decided {
	t.Helper()
	d := decided{admitted: map[int]int{}}
	// By hand: a test asks often, and the lines are many.
	const start, format = "audit rule=", " bucket_ms=500 bucket=%d admitted=%d refused=%d\n"
	for line := range strings.Lines(e.Log.String()) {
		_, text, ok := strings.Cut(line, start+rule+" ")
		if !ok || !strings.HasSuffix(text, "\n") {
			continue
		}
		var bucket, admitted, refused int
		if _, err := fmt.Sscanf(" "+text, format, &bucket, &admitted, &refused); err != nil {
			t.Fatalf("%v in %q", err, line)
		}
		d.admitted[bucket] += admitted
		d.refused += refused
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
func (d decided) within(t *testing.T, threshold int) {
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

// offered is load in the background.
type offered struct {
	cancel context.CancelFunc
	done   sync.WaitGroup
	sum    load.Summary
	err    error
}

// offer offers load, until stop or the test's end.
func offer(t *testing.T, o load.Options) *offered {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	l := &offered{cancel: cancel}
	o.Duration = max(o.Duration, 2*time.Minute)
	l.done.Go(func() { l.sum, l.err = load.Run(ctx, o) })
	t.Cleanup(func() { cancel(); l.done.Wait() })
	return l
}

// wait waits until all that was to be offered is.
func (l *offered) wait(t *testing.T) load.Summary {
	t.Helper()
	l.done.Wait()
	if l.err != nil {
		t.Fatal(l.err)
	}
	return l.sum
}

// stop ends the load.
func (l *offered) stop(t *testing.T) load.Summary {
	t.Helper()
	l.cancel()
	return l.wait(t)
}
