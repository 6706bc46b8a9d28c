package repocheck

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// linked are the directories of the modules that the Wasm binary may contain packages of, by the modules' paths.
func linked(t *testing.T) map[string]string {
	t.Helper()
	cmd := exec.Command("go", "list", "-deps", "-json=Module", "./plugins")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	dirs := map[string]string{}
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p struct {
			Module *struct {
				Path, Dir string
				Main      bool
			}
		}
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if p.Module != nil && !p.Module.Main {
			dirs[p.Module.Path] = p.Module.Dir
		}
	}
	if len(dirs) < 3 {
		t.Fatalf("only %d modules: the test does not see what is linked", len(dirs))
	}
	return dirs
}

// TestNoticeIsComplete compares NOTICE with what is linked: each module's section has the whole of its licence, but for
// Apache's, which is in LICENSE, and the whole of its own NOTICE; and no section is of anything else.
func TestNoticeIsComplete(t *testing.T) {
	shared, _, _ := strings.Cut(read(t, "NOTICE"), strings.Repeat("=", 80)) // then follows what only TinyGo links
	modules := linked(t)
	for path, dir := range modules {
		_, section, found := strings.Cut(shared, "\n"+path+" (")
		if !found {
			t.Errorf("NOTICE has no section of %s, which is linked", path)
			continue
		}
		section, _, _ = strings.Cut(section, strings.Repeat("-", 80))
		for _, text := range legalTexts(t, path, dir) {
			if !strings.Contains(section, text) {
				t.Errorf("NOTICE's section of %s (%s lacks:\n%s", path, section[:strings.Index(section, "\n")], text)
			}
		}
	}
	for _, m := range regexp.MustCompile(`(?m)^([a-z0-9.]+\.[a-z]+/\S+) \(`).FindAllStringSubmatch(shared, -1) {
		if _, found := modules[m[1]]; !found {
			t.Errorf("NOTICE has a section of %s, which is not linked", m[1])
		}
	}
}

// legalTexts are what a module wants to be passed on with it.
func legalTexts(t *testing.T, path, dir string) []string {
	t.Helper()
	licence, err := os.ReadFile(filepath.Join(dir, "LICENSE"))
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	texts := []string{strings.Trim(string(licence), "\n")}
	if strings.Contains(texts[0], "Apache License") {
		texts = []string{"Apache-2.0", "See LICENSE"}
	}
	notice, err := os.ReadFile(filepath.Join(dir, "NOTICE"))
	if err == nil {
		texts = append(texts, strings.Trim(string(notice), "\n"))
	} else if !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return texts
}

// TestWorkflowRunsWhatCIRuns compares the targets of the workflow with those of .ci/run.
func TestWorkflowRunsWhatCIRuns(t *testing.T) {
	var want []string
	for _, m := range regexp.MustCompile(`(?m)^make (\w+)$`).FindAllStringSubmatch(read(t, ".ci/run"), -1) {
		want = append(want, m[1])
	}
	m := regexp.MustCompile(`target: \[(.+)\]`).FindStringSubmatch(read(t, ".github/workflows/ci.yml"))
	if m == nil || !slices.Equal(strings.Split(m[1], ", "), want) {
		t.Errorf("the workflow runs %v, .ci/run %v", m, want)
	}
}
