package main

import (
	"fmt"
	"slices"
)

const (
	// enough is the part of the threshold that must be admitted where the demand is there.
	enough = 0.99
	// minWindows is over how many windows that is said at least.
	minWindows = 10
)

// seen is what a cell's clients and Envoy's metrics say, to be held against the audit.
type seen struct {
	sent, passed, failed int     // by the clients; a failed one may or may not have been decided
	elapsed              float64 // seconds
	metric               int     // sentinel_passed
	faults               int     // sentinel_faults
	retries              int     // sentinel_cas_retries; of all cells that ran at the same time
}

// verdict says whether a cell holds.
type verdict string

const (
	exact    verdict = "exact"
	over     verdict = "OVER"
	under    verdict = "UNDER"
	mismatch verdict = "COUNTS DIFFER"
	faulty   verdict = "FAULTS"
	tooSlow  verdict = "demand below 2×" // says nothing about under
)

// result is a row of the table.
type result struct {
	cell
	seen
	offered float64   // requests a second
	windows []int     // admitted in each window within the run, ascending
	slowest int       // the fewest decisions in any of them
	over    int       // the most that a window admitted above the threshold
	judged  int       // how many of the windows had twice the demand
	share   float64   // admitted of the threshold, in those
	workers []float64 // shares of the threads that decided, the largest first
	verdict verdict
	detail  string // of a verdict other than exact
}

// judge holds a cell's audit against its threshold. Every bucket begins a window.
func judge(c cell, a *decisions, s seen) result {
	r := result{cell: c, seen: s, workers: a.workers()}
	if s.elapsed > 0 {
		r.offered = float64(s.sent) / s.elapsed
	}
	first, last, ok := a.span()
	if !ok {
		r.verdict, r.detail = mismatch, "nothing was decided"
		return r
	}
	worst, sum, half := 0, 0, max(c.window.span/2, 1)
	for b := first; b+c.window.span-1 <= last; b++ {
		older, newer := a.sum(b, half), a.sum(b+half, c.window.span-half)
		admitted := older.admitted + newer.admitted
		if o := admitted - c.threshold; o > r.over {
			r.over, worst = o, b
		}
		if b == first || b+c.window.span > last || (b-first-1)%c.window.step != 0 {
			continue // the load covers a part of the first and the last bucket only
		}
		if demand := older.all() + newer.all(); len(r.windows) == 0 || demand < r.slowest {
			r.slowest = demand
		}
		r.windows = append(r.windows, admitted)
		// Twice the threshold a second is once in half a second. It must be there in both halves: what a window can
		// admit at its end is only what the one before has left.
		if older.all() >= c.threshold && newer.all() >= c.threshold || c.window.span == 1 && older.all() >= 2*c.threshold {
			r.judged++
			sum += admitted
		}
	}
	slices.Sort(r.windows)
	if r.judged > 0 {
		r.share = float64(sum) / float64(r.judged*c.threshold)
	}
	r.conclude(a.total(), worst)
	return r
}

// conclude sets the verdict. decided is the audit's total, worst the first bucket of the window that is most over.
func (r *result) conclude(total decided, worst int) {
	lost := total.admitted - r.passed
	switch {
	case r.over > 0:
		r.verdict = over
		r.detail = fmt.Sprintf("%d above %d in the %d buckets from %d on", r.over, r.threshold, r.window.span, worst)
	case total.admitted != r.metric:
		r.verdict = mismatch
		r.detail = fmt.Sprintf("admitted %d by the audit, %d by sentinel_passed", total.admitted, r.metric)
	case lost < 0 || lost > r.failed:
		r.verdict = mismatch
		r.detail = fmt.Sprintf("admitted %d by the audit, %d passed at the clients, which had %d failures",
			total.admitted, r.passed, r.failed)
	case r.faults > 0:
		r.verdict, r.detail = faulty, fmt.Sprintf("%d faults", r.faults)
	case r.judged < minWindows:
		r.verdict = tooSlow
		r.detail = fmt.Sprintf("in %d of %d windows", len(r.windows)-r.judged, len(r.windows))
	case r.share < enough:
		r.verdict = under
		r.detail = fmt.Sprintf("%.2f %% of %d over %d windows", 100*r.share, r.threshold, r.judged)
	default:
		r.verdict = exact
	}
}

// broken is whether the result shows that a limit does not hold, or that this cannot be told.
func (r *result) broken() bool { return r.verdict != exact && r.verdict != tooSlow }
