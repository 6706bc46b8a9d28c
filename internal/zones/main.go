// Command zones writes shared/calendar/zones.go: what the newest rule of each time zone is, by the time zone database that
// comes with Go. `go generate ./shared/calendar` runs it.
package main

import (
	"archive/zip"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "zones:", err)
		os.Exit(1)
	}
}

func run() error {
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return err
	}
	zones, err := zip.OpenReader(filepath.Join(strings.TrimSpace(string(root)), "lib/time/zoneinfo.zip"))
	if err != nil {
		return err
	}
	defer zones.Close()
	named := map[string][]string{}
	for _, f := range zones.File {
		if strings.HasSuffix(f.Name, "/") || f.Name == "Factory" {
			continue
		}
		rule, err := ruleOf(f)
		if err != nil {
			return fmt.Errorf("%s: %w", f.Name, err)
		}
		named[rule] = append(named[rule], f.Name)
	}
	var b bytes.Buffer
	b.WriteString("package calendar\n\n// Written by internal/zones.\n\n// zones has in each line a rule in the form of POSIX's TZ, " +
		"and the names in the time zone database of zones that have it.\nconst zones = `\n")
	for _, rule := range slices.Sorted(keys(named)) {
		slices.Sort(named[rule])
		fmt.Fprintf(&b, "%s %s \n", rule, strings.Join(named[rule], " "))
	}
	b.WriteString("`\n")
	return os.WriteFile("zones.go", b.Bytes(), 0o644)
}

func keys(m map[string][]string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// ruleOf is the last line of a zone's file, which is the rule for all times behind those that it lists.
func ruleOf(f *zip.File) (string, error) {
	r, err := f.Open()
	if err != nil {
		return "", err
	}
	defer r.Close()
	text, err := io.ReadAll(r)
	if err != nil {
		return "", err
	}
	lines := bytes.Split(bytes.TrimSuffix(text, []byte("\n")), []byte("\n"))
	return string(lines[len(lines)-1]), nil
}
