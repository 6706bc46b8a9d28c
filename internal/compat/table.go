package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
)

// table is all that the run saw.
type table struct {
	module   described
	releases []string // the columns
	results  []result
}

func (t *table) failed() bool {
	return slices.ContainsFunc(t.results, func(r result) bool { return r.Outcome == failed })
}

// write writes the table to a file, or to standard output where path is "-".
func (t *table) write(path string) error {
	if path == "-" {
		_, err := fmt.Print(t.markdown())
		return err
	}
	return os.WriteFile(path, []byte(t.markdown()), 0o666)
}

const heading = `<!-- Written by make compat. Do not edit. -->

# Which Envoys

Every end-to-end test of ` + "`internal/e2e`" + `, each in a process of its own, on every Envoy release in use, with one artefact:
the default build ` + "`%s`" + ` (%.1f MB, SHA-256 ` + "`%.16s…`" + `). ` + "`make compat`" + ` runs them and writes this file.

`

// markdown is the whole file.
func (t *table) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, heading, plugin, float64(t.module.size)/1e6, t.module.sha256)
	t.grid(&b)
	t.reasons(&b)
	t.facts(&b)
	fmt.Fprintf(&b, "\n## What it asks of Envoy\n\nProxy-Wasm ABI %s, and %d functions of the host, which all these releases have.",
		t.module.abi, len(t.module.asks))
	if len(t.module.inside) > 0 {
		fmt.Fprintf(&b, "\nA plain `go build` of the same source also asks for `%s`; this build has its own instead, or no need of them.",
			strings.Join(t.module.inside, "`, `"))
	}
	b.WriteString("\n")
	return b.String()
}

// grid has a row for each test and a column for each release.
func (t *table) grid(b *strings.Builder) {
	fmt.Fprintf(b, "| | %s |\n|---|%s\n", strings.Join(t.releases, " | "), strings.Repeat("---|", len(t.releases)))
	type cell struct{ release, test string }
	cells := map[cell]outcome{}
	var tests []string
	for _, r := range t.results {
		cells[cell{r.Release, r.Test}] = r.Outcome
		if !slices.Contains(tests, r.Test) {
			tests = append(tests, r.Test)
		}
	}
	for _, test := range tests {
		fmt.Fprintf(b, "| %s |", test)
		for _, release := range t.releases {
			fmt.Fprintf(b, " %s |", cells[cell{release, test}])
		}
		b.WriteString("\n")
	}
	b.WriteString("| **in all** |")
	for _, release := range t.releases {
		fmt.Fprintf(b, " %s |", t.total(release))
	}
	b.WriteString("\n")
}

// total says how many tests passed on a release, and of the others if there are any.
func (t *table) total(release string) string {
	n := map[outcome]int{}
	for _, r := range t.results {
		if r.Release == release {
			n[r.Outcome]++
		}
	}
	said := fmt.Sprintf("%d pass", n[passed])
	for _, o := range []outcome{failed, skipped} {
		if n[o] > 0 {
			said += fmt.Sprintf(", %d %s", n[o], o)
		}
	}
	return said
}

// reasons are those of what failed or was skipped.
func (t *table) reasons(b *strings.Builder) {
	var told tellings
	for _, r := range t.results {
		for _, reason := range r.Reasons {
			test, why, _ := strings.Cut(reason, ": ")
			told.add(test, why, r.Release)
		}
	}
	told.write(b, "What failed or was skipped")
}

// facts are what the tests want known, each with the releases that it is about.
func (t *table) facts(b *strings.Builder) {
	var told tellings
	for _, r := range t.results {
		for _, f := range r.Facts {
			told.add(f.Test+", "+f.Key, f.Value, r.Release)
		}
	}
	told.write(b, "What the tests saw")
}

// tellings are what is told about subjects, in the order in which it was first told, each with the releases that it is
// about.
type tellings []*telling

type telling struct {
	subject, text string
	releases      []string
}

func (t *tellings) add(subject, text, release string) {
	for _, old := range *t {
		if old.subject == subject && old.text == text {
			old.releases = append(old.releases, release)
			return
		}
	}
	*t = append(*t, &telling{subject, text, []string{release}})
}

func (t tellings) write(b *strings.Builder, title string) {
	if len(t) == 0 {
		return
	}
	fmt.Fprintf(b, "\n## %s\n\n| | Envoy | |\n|---|---|---|\n", title)
	slices.SortStableFunc(t, func(x, y *telling) int { return strings.Compare(x.subject, y.subject) })
	for _, one := range t {
		fmt.Fprintf(b, "| %s | %s | %s |\n", one.subject, strings.Join(one.releases, ", "), inCell(one.text))
	}
}

// inCell is a text as a cell of a table may have it.
func inCell(text string) string {
	return strings.NewReplacer("|", `\|`, "\n", " ", "<", "&lt;").Replace(text)
}
