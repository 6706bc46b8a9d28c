package main

import (
	"fmt"
	"maps"
	"slices"

	"sentinel-envoy/internal/audit"
)

// intervalMs is the interval of every rule here.
const intervalMs = 1000

// window is what is judged: that many adjacent buckets, of which every step-th begins one of those that the table tells of.
type window struct {
	name       string     // as in a rule
	line       audit.Line // of which BucketMs and Slices are those of the audit's lines
	span, step int
}

// windows are those that a rule can have.
var windows = []window{
	{name: "sliding", line: audit.Line{BucketMs: 500}, span: 2, step: 1},
	{name: "fixed", line: audit.Line{BucketMs: intervalMs}, span: 1, step: 1},
	{name: "exact", line: audit.Line{BucketMs: intervalMs, Slices: 1000}, span: 1000, step: 500},
}

// decided counts decisions.
type decided struct{ admitted, refused int }

func (d decided) all() int { return d.admitted + d.refused }

func (d *decided) add(o decided) {
	d.admitted += o.admitted
	d.refused += o.refused
}

// decisions are what all workers decided about one rule.
type decisions struct {
	buckets map[int]decided    // by the number of the bucket that holds the time of the decision
	threads map[string]decided // by Envoy's thread
}

// sumAudit adds up the matches of audit.Pattern by rule.
func sumAudit(matches [][]string, w window) (map[string]*decisions, error) {
	rules := map[string]*decisions{}
	for _, match := range matches {
		line, err := audit.Read(match)
		if err != nil {
			return nil, err
		}
		if line.BucketMs != w.line.BucketMs || line.Slices != w.line.Slices {
			return nil, fmt.Errorf("buckets are not those of a window that is %s: %q", w.name, match[0])
		}
		a := rules[line.Rule]
		if a == nil {
			a = &decisions{buckets: map[int]decided{}, threads: map[string]decided{}}
			rules[line.Rule] = a
		}
		d := decided{line.Admitted, line.Refused}
		bucket, thread := a.buckets[line.Bucket], a.threads[line.Thread]
		bucket.add(d)
		thread.add(d)
		a.buckets[line.Bucket], a.threads[line.Thread] = bucket, thread
	}
	return rules, nil
}

// sum adds up n adjacent buckets.
func (a *decisions) sum(from, n int) (sum decided) {
	for b := from; b < from+n; b++ {
		sum.add(a.buckets[b])
	}
	return sum
}

func (a *decisions) total() decided {
	var sum decided
	for _, d := range a.buckets {
		sum.add(d)
	}
	return sum
}

// workers are the shares of the threads that decided anything, the largest first, from 0 to 1.
func (a *decisions) workers() []float64 {
	var shares []float64
	for _, d := range a.threads {
		if d.all() > 0 {
			shares = append(shares, float64(d.all())/float64(a.total().all()))
		}
	}
	slices.SortFunc(shares, func(a, b float64) int { return int(b*1e6) - int(a*1e6) })
	return shares
}

// span is from the first to the last bucket in which anything was decided.
func (a *decisions) span() (first, last int, ok bool) {
	if len(a.buckets) == 0 {
		return 0, 0, false
	}
	numbers := slices.Sorted(maps.Keys(a.buckets))
	return numbers[0], numbers[len(numbers)-1], true
}
