package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

const (
	topHostCalls = 15
	topFunctions = 25
)

// report is what a profile shows.
type report struct {
	Rules string
	Load  offered
	profile
}

// timed are the callbacks that come with time and not with requests.
var timed = map[string]bool{"on_tick": true, "on_queue_ready": true}

// perRequest is what so many samples are in µs of CPU per request.
func (r report) perRequest(samples int) float64 {
	return r.share(samples) * r.Load.CPU.Seconds() * 1e6 / float64(r.Load.Requests)
}

// perSecond is what so many samples are in ms of CPU per second.
func (r report) perSecond(samples int) float64 {
	return r.share(samples) * r.Load.CPU.Seconds() * 1e3 / r.Load.Elapsed.Seconds()
}

func (r report) share(samples int) float64 { return float64(samples) / float64(r.samples) }

// count gives the number of samples at sites that match.
func (r report) count(match func(site) bool) (n int) {
	for s, samples := range r.at {
		if match(s) {
			n += samples
		}
	}
	return n
}

// writeMarkdown writes the report as tables for people.
func (r report) writeMarkdown(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "Rules `%s`, 1 worker: %d requests in %.1f s (answers: %s), %.1f µs of CPU per request; %d samples.\n",
		r.Rules, r.Load.Requests, r.Load.Elapsed.Round(100*time.Millisecond).Seconds(), statuses(r.Load.Statuses),
		r.perRequest(r.samples), r.samples)
	fmt.Fprintf(&b, "Host calls are what runs below a call that the plugin makes; guest is the rest of a callback. %.0f %% of the stacks\n"+
		"do not reach back to the start of their thread, mostly for libc's system calls: what is cut off does not count.\n",
		100*r.share(r.cut))
	r.writeCallbacks(&b, "µs per request", false, r.perRequest)
	r.writeCallbacks(&b, "ms per second", true, r.perSecond)
	r.writeOutside(&b)
	r.writeSites(&b, "host call, by its caller", topHostCalls, func(s site) bool { return s.kind == hostCall })
	r.writeSites(&b, "guest function, by its own time", topFunctions, func(s site) bool {
		return s.callback != "" && s.kind != hostCall
	})
	_, err := io.WriteString(w, b.String())
	return err
}

// statuses lists how many answers had which status.
func statuses(counts map[string]uint64) string {
	var list []string
	for _, status := range slices.Sorted(maps.Keys(counts)) {
		list = append(list, fmt.Sprintf("%d × %s", counts[status], status))
	}
	return strings.Join(list, ", ")
}

// writeCallbacks writes a row for each callback, those with time or those with requests, the dearest first, and their sum.
func (r report) writeCallbacks(b *strings.Builder, unit string, withTime bool, in func(samples int) float64) {
	columns := append([]kind{hostCall}, guestKinds...)
	row := func(name string, of func(site) bool) []string {
		all := r.count(of)
		host := r.count(func(s site) bool { return of(s) && s.kind == hostCall })
		cells := []string{name, figure(in(all)), figure(in(all - host))}
		for _, k := range columns {
			cells = append(cells, figure(in(r.count(func(s site) bool { return of(s) && s.kind == k }))))
		}
		return cells
	}
	size := map[string]int{}
	for s, n := range r.at {
		if s.callback != "" && timed[s.callback] == withTime {
			size[s.callback] += n
		}
	}
	if len(size) == 0 {
		return
	}
	header := []string{"callback, " + unit, "all", "guest"}
	for _, k := range columns {
		header = append(header, string(k))
	}
	var rows [][]string
	for _, name := range largest(size) {
		rows = append(rows, row(name, func(s site) bool { return s.callback == name }))
	}
	if len(size) > 1 {
		rows = append(rows, row("all of them", func(s site) bool { return size[s.callback] > 0 }))
	}
	writeTable(b, header, rows)
}

// writeOutside writes what is in no callback.
func (r report) writeOutside(b *strings.Builder) {
	var rows [][]string
	for _, k := range outsideKinds {
		n := r.count(func(s site) bool { return s.callback == "" && s.kind == k })
		rows = append(rows, []string{string(k), figure(r.perRequest(n))})
	}
	writeTable(b, []string{"outside of callbacks", "µs per request"}, rows)
}

// writeSites writes the dearest functions at sites that match, those of requests and those of time apart.
func (r report) writeSites(b *strings.Builder, title string, top int, match func(site) bool) {
	byFunction := map[string]int{}
	request := map[string]int{}
	for s, n := range r.at {
		if !match(s) {
			continue
		}
		byFunction[s.function] += n
		if !timed[s.callback] {
			request[s.function] += n
		}
	}
	names := largest(byFunction)
	rows := make([][]string, 0, top)
	for _, name := range names[:min(top, len(names))] {
		n := request[name]
		rows = append(rows, []string{"`" + name + "`", figure(r.perRequest(n)), figure(r.perSecond(byFunction[name] - n))})
	}
	writeTable(b, []string{title, "µs per request", "ticks: ms per second"}, rows)
}

// largest gives the keys by descending value, and equal ones by name.
func largest(counts map[string]int) []string {
	return slices.SortedFunc(maps.Keys(counts), func(a, b string) int {
		return cmp.Or(cmp.Compare(counts[b], counts[a]), cmp.Compare(a, b))
	})
}

// figure shows a time, or a dash for none.
func figure(t float64) string {
	if t == 0 {
		return "–"
	}
	return fmt.Sprintf("%.2f", t)
}

// writeTable writes a Markdown table.
func writeTable(b *strings.Builder, header []string, rows [][]string) {
	fmt.Fprintf(b, "\n| %s |\n|---|%s\n", strings.Join(header, " | "), strings.Repeat("---:|", len(header)-1))
	for _, row := range rows {
		fmt.Fprintf(b, "| %s |\n", strings.Join(row, " | "))
	}
}
