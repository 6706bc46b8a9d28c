// Package parts says what a module of ours is made of: how much code each part of the program has. Envoy compiles all of
// it before it is ready, and holds the result in memory.
package parts

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"sentinel-envoy/internal/wasmbuild/module"
)

// Part is one line of the table: bytes of code, and of how many functions.
type Part struct {
	Name            string
	Size, Functions int
}

// places say which part a package and those below it belong to: the first that it is in.
var places = []struct{ prefix, part string }{
	{"sentinel-envoy/plugins", "ours: callbacks"},
	{"sentinel-envoy/shared/family", "ours: families of rules"},
	{"sentinel-envoy/shared/config", "ours: reading configurations"},
	{"sentinel-envoy/shared/rule", "ours: reading configurations"},
	{"sentinel-envoy", "ours: engine, records, statistics"},
	{"github.com/alibaba/sentinel-golang", "sentinel-golang: windows"},
	{"github.com/proxy-wasm", "Proxy-Wasm SDK"},
	{"github.com", "other modules"},
	{"regexp", "regular expressions, Unicode"},
	{"unicode", "regular expressions, Unicode"},
	{"fmt", "fmt, reflect"},
	{"reflect", "fmt, reflect"},
	{"internal/reflectlite", "fmt, reflect"},
	{"internal/fmtsort", "fmt, reflect"},
	{"strconv", "strconv, math"},
	{"internal/strconv", "strconv, math"},
	{"math", "strconv, math"},
	{"runtime", "Go's runtime"},
	{"internal/runtime", "Go's runtime"},
	{"os", "os, time, files"},
	{"io", "os, time, files"},
	{"time", "os, time, files"},
	{"syscall", "os, time, files"},
	{"internal/poll", "os, time, files"},
	{"internal/testlog", "os, time, files"},
}

// rest is the part of what is in no other: small packages, and what the compiler makes.
const rest = "the rest of the standard library"

// partOf is the part of a function, by its symbol. In those of a Wasm module, slashes, hyphens and brackets are underlines.
func partOf(symbol string) string {
	for _, p := range places {
		prefix := strings.NewReplacer("/", "_", "-", "_").Replace(p.prefix)
		if after, ok := strings.CutPrefix(symbol, prefix); ok && strings.IndexAny(after, "._") == 0 {
			return p.part
		}
	}
	return rest
}

// Of takes a module with names apart, the largest part first.
func Of(m *module.Module) ([]Part, error) {
	functions, err := m.Functions()
	if err != nil {
		return nil, err
	}
	of := map[string]*Part{}
	for _, f := range functions {
		name := partOf(f.Name)
		if of[name] == nil {
			of[name] = &Part{Name: name}
		}
		of[name].Size += f.Size
		of[name].Functions++
	}
	list := make([]Part, 0, len(of))
	for _, p := range of {
		list = append(list, *p)
	}
	slices.SortFunc(list, func(a, b Part) int { return b.Size - a.Size })
	return list, nil
}

// Write prints the table of a module, in Markdown.
func Write(w io.Writer, m *module.Module) error {
	list, err := Of(m)
	if err != nil {
		return err
	}
	var b strings.Builder
	b.WriteString("| part | MB of code | functions |\n|---|---|---|\n")
	total := Part{}
	for _, p := range list {
		fmt.Fprintf(&b, "| %s | %.3f | %d |\n", p.Name, float64(p.Size)/1e6, p.Functions)
		total.Size, total.Functions = total.Size+p.Size, total.Functions+p.Functions
	}
	fmt.Fprintf(&b, "| all code | %.3f | %d |\n| data, tables of functions and types of Go's among it | %.3f | – |\n",
		float64(total.Size)/1e6, total.Functions, float64(m.DataSize())/1e6)
	_, err = io.WriteString(w, b.String())
	return err
}
