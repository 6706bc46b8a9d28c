package build

import (
	"bufio"
	"bytes"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
	"testing"
	"unicode"
)

// namesAsked is a program that says what the regular expressions of its input are, one a line, and which letters match.
const namesAsked = `package main

import ("bufio"; "fmt"; "os"; "regexp"; "regexp/syntax")

func main() {
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		fmt.Println(syntax.Parse(lines.Text(), syntax.Perl))
		if r, err := regexp.Compile("^(?:" + lines.Text() + ")$"); err == nil {
			fmt.Println(r.FindStringSubmatchIndex("K"), r.FindStringSubmatchIndex("\u212a"), r.FindStringSubmatchIndex("\u03c2"))
		}
	}
}
`

// TestListsFindWhatMapsHave: every name of a table of Unicode's, of an alias and of a group means in a program of the
// changed files what it does in one of Go's own, and so does what is no name.
func TestListsFindWhatMapsHave(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a program")
	}
	goroot := installedGo(t)
	var packages []goPackage
	for path, files := range map[string][]string{
		"unicode": {"tables.go"}, "regexp/syntax": {"parse.go", "perl_groups.go"},
		"regexp": {"onepass.go"},
	} {
		dir := filepath.Join(goroot, "src", path)
		packages = append(packages, goPackage{ImportPath: path, Dir: dir, GoFiles: files, Standard: true})
	}
	dir := t.TempDir()
	ov := &overlay{dir: dir, replace: map[string]string{}}
	for _, p := range packages {
		for _, name := range p.GoFiles {
			if _, err := ov.change(filepath.Join(p.Dir, name), p.ImportPath+"/"+name, nil, true); err != nil {
				t.Fatal(err)
			}
		}
	}
	list, err := ov.list()
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "main.go")
	if err := os.WriteFile(program, []byte(namesAsked), 0o666); err != nil {
		t.Fatal(err)
	}
	asked := expressionsByName()
	cmd := exec.CommandContext(t.Context(), "go", "run", "-overlay", list, program)
	cmd.Stdin, cmd.Stderr = strings.NewReader(strings.Join(asked, "\n")), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	answers := bufio.NewScanner(bytes.NewReader(out))
	answers.Buffer(nil, len(out)+1)
	for _, expression := range asked {
		want := []string{fmt.Sprint(syntax.Parse(expression, syntax.Perl))}
		if r, err := regexp.Compile("^(?:" + expression + ")$"); err == nil {
			want = append(want, fmt.Sprint(r.FindStringSubmatchIndex("K"), r.FindStringSubmatchIndex("\u212a"),
				r.FindStringSubmatchIndex("\u03c2")))
		}
		for _, line := range want {
			if !answers.Scan() || answers.Text() != line {
				t.Fatalf("%s is %q with lists, %q with maps", expression, answers.Text(), line)
			}
		}
	}
}

// expressionsByName are expressions with each name that there is, in its case and in others, and with some that are not.
func expressionsByName() (list []string) {
	names := []string{"Any", "Assigned", "ASCII", "LC", "lc", "Klingon", "", "foldL"}
	for _, tables := range []map[string]*unicode.RangeTable{unicode.Categories, unicode.Scripts, unicode.Properties} {
		names = slices.AppendSeq(names, maps.Keys(tables))
	}
	names = slices.AppendSeq(names, maps.Keys(unicode.CategoryAliases))
	for _, name := range names {
		for _, spelled := range []string{name, strings.ToLower(name), strings.ReplaceAll(name, "_", " ")} {
			list = append(list, `\p{`+spelled+`}`, `(?i)[^\P{`+spelled+`}]`)
		}
	}
	for _, c := range "kKsSσßaZ1" { // of three, of three others, of none
		list = append(list, "(?i)"+string(c), "(?i)("+string(c)+")|b(x)", "(?i)"+string(c)+"b|"+string(c))
	}
	for _, c := range "dDsSwWbBxX" {
		list = append(list, `\`+string(c), `(?i)[\`+string(c)+`]`)
	}
	for _, name := range strings.Fields("alnum alpha ascii blank cntrl digit graph lower print punct space upper word xdigit none") {
		list = append(list, "[[:"+name+":]]", "(?i)[[:^"+name+":]]")
	}
	return list
}

func TestListsNameWhatTheyDoNotFind(t *testing.T) {
	l := listing{edits: []edit{{"a := m[x]", "a := m.of(x)", 1}}}
	for _, src := range []string{"a := n[x]", "a := m[x]; a := m[x]"} {
		if _, err := l.change("dir/x.go", []byte(src)); err == nil || !strings.Contains(err.Error(), "dir/x.go") {
			t.Errorf("%s: error %v, want one that names dir/x.go", src, err)
		}
	}
}
