package main

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
)

const (
	// intervalMs is the interval of every rule here, and bucketMs are the buckets that its window slides over.
	intervalMs = 1000
	bucketMs   = 500
)

// auditLine matches what the plugin writes at debug level about its decisions, after Envoy's [time][thread].
const auditLine = `^\[[^]]*\]\[(\d+)\].*\baudit rule=(\S+) bucket_ms=(\d+) bucket=(\d+) admitted=(-?\d+) refused=(\d+)$`

// decided counts decisions.
type decided struct{ admitted, refused int }

func (d decided) all() int { return d.admitted + d.refused }

func (d *decided) add(o decided) {
	d.admitted += o.admitted
	d.refused += o.refused
}

// audit is what all workers decided about one rule.
type audit struct {
	buckets map[int]decided    // by the number of the 500 ms bucket that holds the time of the decision
	threads map[string]decided // by Envoy's thread
}

// sumAudit adds up the matches of auditLine by rule.
func sumAudit(lines [][]string) (map[string]*audit, error) {
	rules := map[string]*audit{}
	for _, line := range lines {
		var n [4]int // bucket_ms, bucket, admitted, refused
		for i := range n {
			var err error
			if n[i], err = strconv.Atoi(line[3+i]); err != nil {
				return nil, fmt.Errorf("%w in %q", err, line[0])
			}
		}
		if n[0] != bucketMs {
			return nil, fmt.Errorf("buckets are not %d ms long: %q", bucketMs, line[0])
		}
		a := rules[line[2]]
		if a == nil {
			a = &audit{buckets: map[int]decided{}, threads: map[string]decided{}}
			rules[line[2]] = a
		}
		d := decided{n[2], n[3]}
		bucket, thread := a.buckets[n[1]], a.threads[line[1]]
		bucket.add(d)
		thread.add(d)
		a.buckets[n[1]], a.threads[line[1]] = bucket, thread
	}
	return rules, nil
}

func (a *audit) total() decided {
	var sum decided
	for _, d := range a.buckets {
		sum.add(d)
	}
	return sum
}

// workers are the shares of the threads that decided anything, the largest first, from 0 to 1.
func (a *audit) workers() []float64 {
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
func (a *audit) span() (first, last int, ok bool) {
	if len(a.buckets) == 0 {
		return 0, 0, false
	}
	numbers := slices.Sorted(maps.Keys(a.buckets))
	return numbers[0], numbers[len(numbers)-1], true
}
