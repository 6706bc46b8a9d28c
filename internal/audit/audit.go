// Package audit reads from Envoy's log what the plugin writes at debug level about its decisions: how many entries each
// worker admitted and refused, by the bucket of time in which it decided.
package audit

import (
	"fmt"
	"regexp"
	"strconv"
)

// Pattern matches a line about decisions, after Envoy's [time][thread]. Its submatches are what Read takes.
const Pattern = `^\[[^]]*\]\[(\d+)\].*\baudit rule=(\S+) bucket_ms=(\d+)(?:/(\d+))? bucket=(\d+) admitted=(-?\d+) refused=(\d+)$`

var pattern = regexp.MustCompile(Pattern)

// Line is what one worker decided about one rule in one bucket since its last line. Lines of the same bucket add up;
// Admitted is negative where more was given back than admitted.
type Line struct {
	Thread            string // Envoy's number of the worker's thread
	Rule              string // id
	BucketMs          int    // how long the bucket is, or where Slices is not 0
	Slices            int    // that many of them together, of an exact window
	Bucket            int    // its number since the clock's zero
	Admitted, Refused int
}

// Parse reads a line of Envoy's log. ok is false for any other line.
func Parse(text []byte) (l Line, ok bool) {
	m := pattern.FindSubmatch(text)
	if m == nil {
		return Line{}, false
	}
	match := make([]string, len(m))
	for i := range m {
		match[i] = string(m[i])
	}
	l, err := Read(match)
	return l, err == nil
}

// Read makes a Line of what Pattern matched. The error is about a number that is too large.
func Read(match []string) (Line, error) {
	l := Line{Thread: match[1], Rule: match[2]}
	for i, n := range []*int{&l.BucketMs, &l.Slices, &l.Bucket, &l.Admitted, &l.Refused} {
		if match[3+i] == "" {
			continue // not sliced
		}
		var err error
		if *n, err = strconv.Atoi(match[3+i]); err != nil {
			return Line{}, fmt.Errorf("%w in %q", err, match[0])
		}
	}
	return l, nil
}
