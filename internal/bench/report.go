package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
)

// summary is the middle and the ends of some measurements; N is how many there were.
type summary struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
	N      int     `json:"n"`
}

// summarize sums up values, which may be none.
func summarize(values []float64) summary {
	if len(values) == 0 {
		return summary{}
	}
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	median := sorted[middle]
	if len(sorted)%2 == 0 {
		median = (sorted[middle-1] + sorted[middle]) / 2
	}
	return summary{median, sorted[0], sorted[len(sorted)-1], len(sorted)}
}

// format shows a summary with so many decimals, or a dash for none.
func (s summary) format(decimals int) string {
	if s.N == 0 {
		return "–"
	}
	if s.N == 1 {
		return fmt.Sprintf("%.*f", decimals, s.Median)
	}
	return fmt.Sprintf("%.*f (%.*f … %.*f)", decimals, s.Median, decimals, s.Min, decimals, s.Max)
}

// report is everything that one run found.
type report struct {
	Rounds   int `json:"rounds"`
	Requests int `json:"requests_per_round"`
	Workers  int `json:"workers"`
	// Yardstick is the row that others are compared with.
	Yardstick string   `json:"yardstick"`
	CPU       []cpuRow `json:"cpu"`
	// Asking are rows of what a rate limit service limits, all of which forward: of the first, and above it.
	Asking  []cpuRow   `json:"asking,omitempty"`
	Starts  []startRow `json:"starts,omitempty"`
	Targets []target   `json:"targets,omitempty"`
}

// target is a ratio that Sentinel is to stay at or below.
type target struct {
	What  string  `json:"what"`
	Limit float64 `json:"limit"`
	Got   float64 `json:"got"`
	Met   bool    `json:"met"`
}

// judge compares Sentinel's rows with its targets; there are none without its rows.
func judge(cpu []cpuRow, starts []startRow) []target {
	var targets []target
	add := func(what string, got, limit float64) {
		targets = append(targets, target{what, limit, got, got <= limit})
	}
	rows := map[string]cpuRow{}
	for _, r := range cpu {
		rows[r.Name] = r
	}
	for _, t := range []struct {
		row, what string
		limit     float64
	}{
		{sentinel, "1 rule", 1.0},
		{sentinelMany, "1,000 rules", 1.5},
		{sentinelAll, "all five families", 1.4},
	} {
		if got := rows[t.row].OfEmpty; got.N > 0 {
			add("CPU with "+t.what+", of the empty filter's", got.Median, t.limit)
		}
	}
	if tiny, least := rows[sentinelTiny].PerRequest, rows[emptyC].PerRequest; tiny.N > 0 && least.Median > 0 {
		add("TinyGo: CPU with 1 rule, of the empty C filter's", tiny.Median/least.Median, 1.5)
	}
	one, full := rows[sentinel].PerRequest, rows[sentinelGo].PerRequest
	if one.N > 0 && full.Median > 0 {
		add("CPU with 1 rule, of sentinel-golang's", one.Median/full.Median, 1.0/3)
	}
	for _, name := range []string{sentinelRefusing, sentinelRefusing + ", no filter state", rowOf(module{name: sentinelTiny}, sentinelRefusing)} {
		if ours, plain := rows[name].PerRequest, rows[emptyRefusing].PerRequest; ours.N > 0 && plain.Median > 0 {
			add("CPU of "+name+", of an empty filter's that answers 429", ours.Median/plain.Median, 1.2)
		}
	}
	times := map[string]startRow{}
	for _, r := range starts {
		times[r.Name] = r
	}
	if one, plain := times[sentinel], times[empty]; one.Ready.N > 0 && plain.Ready.Median > 0 && plain.PerWorker.Median > 0 {
		add("start to ready, of the empty filter's", one.Ready.Median/plain.Ready.Median, 1.3)
		add("memory per further worker, of the empty filter's", one.PerWorker.Median/plain.PerWorker.Median, 1.3)
	}
	return targets
}

// writeJSON writes the report for programs.
func (r report) writeJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// writeMarkdown writes the report as tables for people.
func (r report) writeMarkdown(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "Envoy's CPU time per request above a listener without a filter, %d worker(s): median of %d interleaved\n"+
		"rounds of %d requests each, of which the calmer half counts (least … most).\n\n| filter | µs of CPU per request | of the %s |\n|---|---|---|\n",
		r.Workers, r.Rounds, r.Requests, r.Yardstick)
	writeCPU(&b, r.CPU)
	if len(r.Asking) > 0 {
		fmt.Fprintf(&b, "\nThe same, in the same rounds, where requests go on to a listener that answers, for a limit of the rate limit service's:\n\n"+
			"| filter | µs of CPU per request | of the %s |\n|---|---|---|\n", service)
		writeCPU(&b, r.Asking)
	}
	if len(r.Starts) > 0 {
		fmt.Fprintf(&b, "\nEnvoy's start, and memory with %d workers against %d, each after requests on every worker; Envoy's own\n"+
			"part is in it.\n\n| filter | start to ready, s | MB per further worker |\n|---|---|---|\n", manyWorkers, fewWorkers)
		for _, row := range r.Starts {
			fmt.Fprintf(&b, "| %s | %s | %s |\n", row.Name, row.Ready.format(2), row.PerWorker.format(2))
		}
	}
	writeTargets(&b, r.Targets)
	_, err := io.WriteString(w, b.String())
	return err
}

// writeCPU prints the rows of a table, the first of which has no filter.
func writeCPU(b *strings.Builder, rows []cpuRow) {
	for i, row := range rows {
		name := row.Name
		if i == 0 {
			name += " (the whole request)"
		}
		fmt.Fprintf(b, "| %s | %s | %s |\n", name, row.PerRequest.format(1), row.OfEmpty.format(2))
	}
}

// writeTargets prints the table of targets, where there are any.
func writeTargets(b *strings.Builder, targets []target) {
	if len(targets) == 0 {
		return
	}
	b.WriteString("\n| target | at most | got | |\n|---|---|---|---|\n")
	for _, t := range targets {
		verdict := "met"
		if !t.Met {
			verdict = "missed"
		}
		fmt.Fprintf(b, "| %s | %.2f | %.2f | %s |\n", t.What, t.Limit, t.Got, verdict)
	}
}
