package main

import (
	"fmt"
	"maps"
	"slices"

	"sentinel-envoy/internal/audit"
)

const (
	// intervalMs is the interval of every rule here, and bucketMs are the buckets that its window slides over.
	intervalMs = 1000
	bucketMs   = 500
)

// decided counts decisions.
type decided struct{ admitted, refused int }

func (d decided) all() int { return d.admitted + d.refused }

func (d *decided) add(o decided) {
	d.admitted += o.admitted
	d.refused += o.refused
}

// decisions are what all workers decided about one rule.
type decisions struct {
	buckets map[int]decided    // by the number of the 500 ms bucket that holds the time of the decision
	threads map[string]decided // by Envoy's thread
}

// sumAudit adds up the matches of audit.Pattern by rule.
func sumAudit(matches [][]string) (map[string]*decisions, error) {
	rules := map[string]*decisions{}
	for _, match := range matches {
		line, err := audit.Read(match)
		if err != nil {
			return nil, err
		}
		if line.BucketMs != bucketMs {
			return nil, fmt.Errorf("buckets are not %d ms long: %q", bucketMs, match[0])
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
