package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// changes returns the section of CHANGELOG.md about a version, without its heading: "## [0.1.0] - 2026-01-31" for v0.1.0.
// A pre-release, such as v0.1.0-rc.1, may do with what is "## [Unreleased]".
func changes(root, version string) ([]byte, error) {
	text, err := os.ReadFile(filepath.Join(root, "CHANGELOG.md"))
	if err != nil {
		return nil, err
	}
	name := strings.TrimPrefix(version, "v")
	section := sectionOf(string(text), name)
	if section == "" && strings.Contains(version, "-") {
		section = sectionOf(string(text), "Unreleased")
	}
	if section == "" {
		return nil, fmt.Errorf("CHANGELOG.md says nothing under ## [%s]; move there what is under ## [Unreleased]", name)
	}
	return []byte(section), nil
}

// sectionOf returns what is under the heading of a name, up to the next one or the links at the end; "" where there is
// nothing.
func sectionOf(changelog, name string) string {
	var section bytes.Buffer
	inside := false
	for line := range strings.Lines(changelog) {
		switch {
		case strings.HasPrefix(line, "## "):
			inside = strings.HasPrefix(line, "## ["+name+"]")
		case strings.HasPrefix(line, "["):
			inside = false
		case inside:
			section.WriteString(line)
		}
	}
	text := strings.TrimSpace(section.String())
	if text == "" {
		return ""
	}
	return text + "\n"
}
