package top

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
)

// column is one of a table's, of rows of the type T.
type column[T any] struct {
	title string
	text  func(T) string
	// order is what to sort by, the largest first; nil for words, which are sorted from A on.
	order func(T) float64
}

// rate is a figure with a tenth; empty for 0, so that what happens stands out.
func rate(v float64) string {
	if v == 0 {
		return "·"
	}
	return fmt.Sprintf("%.1f", v)
}

func number[T any](title string, of func(T) float64) column[T] {
	return column[T]{title, func(row T) string { return rate(of(row)) }, of}
}

func word[T any](title string, of func(T) string) column[T] {
	return column[T]{title, of, nil}
}

var resourceColumns = []column[Resource]{
	word("RESOURCE", func(r Resource) string { return r.Name }),
	number("PASSED/s", func(r Resource) float64 { return r.Passed }),
	number("BLOCKED/s", func(r Resource) float64 { return r.Blocked }),
	number("SHADOW/s", func(r Resource) float64 { return r.Shadow }),
	number("FAILED/s", func(r Resource) float64 { return r.Failed }),
	number("IN FLIGHT", func(r Resource) float64 { return r.InFlight }),
	number("RT ms", func(r Resource) float64 { return r.RT }),
}

var ruleColumns = []column[Rule]{
	word("RULE", func(r Rule) string { return r.ID }),
	word("KIND", func(r Rule) string { return r.Kind }),
	word("RESOURCE", func(r Rule) string { return r.Resource }),
	number("BLOCKED/s", func(r Rule) float64 { return r.Blocked }),
	number("SHADOW/s", func(r Rule) float64 { return r.Shadow }),
	number("NEAR/s", func(r Rule) float64 { return r.Near }),
	{"FILL", fill, Rule.Fill},
	number("WAIT ms", func(r Rule) float64 { return r.Wait }),
	word("STATE", func(r Rule) string { return cmp.Or(r.State, "·") }),
}

var workerColumns = []column[Worker]{
	word("WORKER", func(w Worker) string { return w.Name }),
	word("RULES", func(w Worker) string { return cmp.Or(w.Rules, "·") }),
	word("STATE", func(w Worker) string { return cmp.Or(w.State, "·") }),
	number("CONNECTIONS", func(w Worker) float64 { return w.Connections }),
	number("OPENED/s", func(w Worker) float64 { return w.Opened }),
	number("STUCK/s", func(w Worker) float64 { return w.Stuck }),
}

// fill is how full a rule's window is, as a bar and in figures; a dot where the rule tells none.
func fill(r Rule) string {
	if r.Threshold == 0 {
		return "·"
	}
	const width = 10
	full := min(int(r.Fill()*width+0.5), width)
	bar := strings.Repeat("█", full) + strings.Repeat("░", width-full)
	return fmt.Sprintf("%s %.0f/%.0f", bar, r.Threshold-r.Left, r.Threshold)
}

// view says how a table is shown.
type view struct {
	sort    int    // the column
	reverse bool   // the smallest first, or from Z on
	filter  string // what a row's words must contain
}

// lines is a table: its heading, then a line for each row that the filter lets through.
func lines[T any](rows []T, columns []column[T], v view) []string {
	rows = only(rows, columns, v.filter)
	by := columns[v.sort%len(columns)]
	slices.SortStableFunc(rows, func(a, b T) int {
		c := cmp.Compare(by.text(a), by.text(b))
		if by.order != nil {
			c = cmp.Compare(by.order(b), by.order(a))
		}
		if v.reverse {
			return -c
		}
		return c
	})
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for i, c := range columns {
		mark := ""
		if i == v.sort%len(columns) {
			mark = "▾"
		}
		fmt.Fprint(w, c.title+mark+"\t")
	}
	fmt.Fprintln(w)
	for _, row := range rows {
		for _, c := range columns {
			fmt.Fprint(w, c.text(row)+"\t")
		}
		fmt.Fprintln(w)
	}
	w.Flush()
	return strings.Split(strings.TrimRight(b.String(), "\n"), "\n")
}

// only are the rows that a filter lets through.
func only[T any](rows []T, columns []column[T], filter string) []T {
	return slices.DeleteFunc(slices.Clone(rows), func(row T) bool { return !matches(row, columns, filter) })
}

// matches is whether one of a row's words contains the filter, whatever its case.
func matches[T any](row T, columns []column[T], filter string) bool {
	return slices.ContainsFunc(columns, func(c column[T]) bool {
		return c.order == nil && strings.Contains(strings.ToLower(c.text(row)), strings.ToLower(filter))
	})
}

// head is what concerns the whole process, in one line.
func (p Process) head() string {
	room := "·"
	if p.RecordsFree != nil {
		room = fmt.Sprintf("%.0f", *p.RecordsFree)
	}
	return fmt.Sprintf("VMs %.0f  lost %.0f  sets of rules %d  faults/s %s  room for records %s", p.Workers, p.Lost,
		p.RuleSets, rate(p.Faults), room)
}
