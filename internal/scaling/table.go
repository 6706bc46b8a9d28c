package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"sentinel-envoy/internal/figures"
)

// what says what is guarded and how the load lies on it.
func (c cell) what() string {
	if c.spread {
		return c.guard.name + ", spread"
	}
	return c.guard.name + ", one connection"
}

// progress is a line about a cell that is done.
func (r *result) progress() string {
	line := fmt.Sprintf("%d workers, %s, threshold %d: %.0f/s offered, over %d, %s of the threshold, %s",
		r.concurrency, r.what(), r.threshold, r.offered, r.over, r.ofThreshold(), r.verdict)
	if r.detail != "" {
		line += ": " + r.detail
	}
	if r.failed > 0 {
		line += fmt.Sprintf("; %d requests got no answer", r.failed)
	}
	return line
}

// ofThreshold is what was admitted where the demand was there.
func (r *result) ofThreshold() string {
	if r.judged == 0 {
		return "–"
	}
	return fmt.Sprintf("%.2f %%", 100*r.share)
}

// deciders says how many workers decided, and how much of it the busiest.
func (r *result) deciders() string {
	if len(r.workers) == 0 {
		return "0"
	}
	return fmt.Sprintf("%d (%.0f %%)", len(r.workers), 100*r.workers[0])
}

func (r *result) admitted() string {
	if len(r.windows) == 0 {
		return "–"
	}
	return fmt.Sprintf("%d / %d / %d", r.windows[0], r.windows[len(r.windows)/2], r.windows[len(r.windows)-1])
}

// rows are the results as they are kept.
func rows(results []result) []figures.Scaling {
	kept := make([]figures.Scaling, len(results))
	for i, r := range results {
		kept[i] = figures.Scaling{
			Workers: r.concurrency, Listeners: r.guard.name, Spread: r.spread, Threshold: r.threshold, Offered: r.offered,
			Over: r.over, Verdict: string(r.verdict),
		}
		if n := len(r.windows); n > 0 {
			kept[i].Min, kept[i].Median, kept[i].Max = r.windows[0], r.windows[n/2], r.windows[n-1]
		}
	}
	return kept
}

var columns = []string{
	"workers", "listeners", "load", "threshold", "offered/s", "admitted per window, min / median / max", "over",
	"of threshold", "deciding workers (busiest)", "CAS retries", "",
}

// writeMarkdown writes the table of the results.
func writeMarkdown(w io.Writer, results []result) error {
	var b strings.Builder
	row := func(cells []string) { b.WriteString("| " + strings.Join(cells, " | ") + " |\n") }
	row(columns)
	b.WriteString("|" + strings.Repeat("---|", len(columns)) + "\n")
	for _, r := range results {
		load := "one connection"
		if r.spread {
			load = "spread"
		}
		row([]string{
			strconv.Itoa(r.concurrency), r.guard.name, load, strconv.Itoa(r.threshold), fmt.Sprintf("%.0f", r.offered),
			r.admitted(), strconv.Itoa(r.over), r.ofThreshold(), r.deciders(), strconv.Itoa(r.retries),
			strings.TrimSuffix(string(r.verdict)+": "+r.detail, ": "),
		})
	}
	_, err := io.WriteString(w, b.String())
	return err
}
