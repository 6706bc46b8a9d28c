package repocheck

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"sentinel-envoy/shared/config"
)

// snippet is a block of YAML in a document.
type snippet struct {
	doc, text string
	file      string // below envoy/examples, where the section names one before the snippet
}

// snippets are all of the documents.
func snippets(t *testing.T) (all []snippet) {
	t.Helper()
	link := regexp.MustCompile(`\]\((?:\.\./)?envoy/examples/([a-z-]+\.yaml)\)`)
	for doc, text := range documents(t) {
		s, inside := snippet{doc: doc}, false
		for line := range strings.Lines(text) {
			switch {
			case inside && strings.HasPrefix(line, "```"):
				all = append(all, s)
				s.text, inside = "", false
			case inside:
				s.text += line
			case strings.HasPrefix(line, "```yaml"):
				inside = true
			case strings.HasPrefix(line, "## "):
				s.file = ""
			default:
				if m := link.FindAllStringSubmatch(line, -1); m != nil {
					s.file = m[len(m)-1][1]
				}
			}
		}
	}
	return all
}

// What a section shows of a file that it names stands in the file.
func TestSnippetsAreInTheirFiles(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range snippets(t) {
		if s.file == "" {
			continue
		}
		seen[s.file] = true
		if file := read(t, "envoy/examples/"+s.file); !holds(file, s.text) {
			t.Errorf("%s shows of %s what is not in it:\n%s", s.doc, s.file, s.text)
		}
	}
	if len(seen) < 8 {
		t.Errorf("only %d files: the test does not see the recipes", len(seen))
	}
}

// holds is whether a text has these lines, at any indentation.
func holds(text, lines string) bool {
	for indent := 0; indent <= 40; indent += 2 {
		if strings.Contains("\n"+text, "\n"+indented(lines, strings.Repeat(" ", indent))) {
			return true
		}
	}
	return false
}

func indented(lines, by string) string {
	var b strings.Builder
	for line := range strings.Lines(lines) {
		if strings.TrimSpace(line) != "" {
			b.WriteString(by)
		}
		b.WriteString(line)
	}
	return b.String()
}

// What a document shows as a configuration of a filter is one.
func TestSnippetsAreConfigurations(t *testing.T) {
	seen := 0
	for _, s := range snippets(t) {
		var keys map[string]any
		if yaml.Unmarshal([]byte(s.text), &keys) != nil || len(keys) == 0 || !areKeys(keys) || strings.Contains(s.text, "@type") {
			continue // something of Envoy's
		}
		seen++
		doc, err := json.Marshal(keys)
		if err != nil {
			t.Fatal(err)
		}
		var found []string
		for _, kind := range kinds {
			cfg, err := config.Parse(doc, kind)
			if err == nil && len(cfg.Warnings) == 0 {
				found = nil
				break
			}
			found = append(found, mistakesOf(kind, string(doc))...)
		}
		if len(found) > 0 {
			t.Errorf("%s shows a configuration with mistakes, %q:\n%s", s.doc, found, s.text)
		}
	}
	if seen < 8 {
		t.Errorf("only %d configurations: the test does not see them", seen)
	}
}

// areKeys is whether a configuration may have all these keys.
func areKeys(keys map[string]any) bool {
	for key := range keys {
		if isUnknown(key) {
			return false
		}
	}
	return true
}

// TestExamplesReloadAVMThatDied looks for the failure policy that the documents recommend in every filter below envoy.
func TestExamplesReloadAVMThatDied(t *testing.T) {
	filters := 0
	err := filepath.WalkDir(filepath.Join(root, "envoy"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".yaml" {
			return err
		}
		text, err := os.ReadFile(path)
		filter := regexp.MustCompile(`\n( +)root_id: sentinel_.*\n(.*)`)
		for _, m := range filter.FindAllStringSubmatch(string(text), -1) {
			filters++
			if want := m[1] + "failure_policy: FAIL_RELOAD"; m[2] != want {
				t.Errorf("%s: after a filter's root_id comes %q, want %q", path, m[2], want)
			}
		}
		return err
	})
	if err != nil || filters < 20 {
		t.Errorf("%d filters looked at, %v", filters, err)
	}
}
