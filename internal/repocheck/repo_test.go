package repocheck

import (
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const (
	root   = "../.."
	module = "sentinel-envoy/"
	sdk    = "github.com/proxy-wasm/proxy-wasm-go-sdk/"
)

// imports are the imports of each package of the Wasm build, tests left out.
func imports(t *testing.T) map[string][]string {
	t.Helper()
	cmd := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, "./plugins/...", "./shared/...")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]string{}
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		all[fields[0]] = fields[1:]
	}
	if len(all) < 10 {
		t.Fatalf("only %d packages: the test does not see the tree", len(all))
	}
	return all
}

func TestTheCoreKnowsNoProxy(t *testing.T) {
	for pkg, list := range imports(t) {
		if !strings.HasPrefix(pkg, module+"shared/") {
			continue
		}
		for _, i := range list {
			own, isOwn := strings.CutPrefix(i, module)
			if strings.HasPrefix(i, sdk) || isOwn && !strings.HasPrefix(own, "shared/") {
				t.Errorf("%s imports %s", pkg, i)
			}
		}
	}
}

// forTests are packages that only tests use.
var forTests = regexp.MustCompile(`/(memhost|[a-z]+test)$`)

// layers are the packages of the core, the lowest first: a package imports only what lies in a lower layer.
var layers = [][]string{
	{"checksum", "host", "lookup", "percent", "rls", "version", "outcome"},
	{"answer", "pattern"},
	{"rule"},
	{"request", "calendar"},
	{"config", "record", "worker", "stat", "persist"},
	{"machine", "metrics", "source"},
	{"publication", "quota"},
	{"resource", "family"},
	{"family/authority", "family/flow", "family/isolation", "family/hotspot", "family/breaker"},
	{"family/system"}, // concurrency and inboundQPS are an isolation rule's and a flow rule's
	{"engine"},
}

func TestImportsGoDownwards(t *testing.T) {
	layer := map[string]int{}
	for n, packages := range layers {
		for _, pkg := range packages {
			layer[module+"shared/"+pkg] = n + 1
		}
	}
	for pkg, list := range imports(t) {
		if !strings.HasPrefix(pkg, module+"shared/") || forTests.MatchString(pkg) {
			continue
		}
		if layer[pkg] == 0 {
			t.Errorf("%s has no layer", pkg)
		}
		for _, i := range list {
			if strings.HasPrefix(i, module+"shared/") && layer[i] >= layer[pkg] {
				t.Errorf("%s imports %s", pkg, i)
			}
		}
	}
}

// pureFiles are the files of the families that decide: they know of the project only what is pure too, and no clock.
var pureFiles = []string{
	"flow/window.go", "flow/warmup.go", "flow/pace.go", "flow/memory.go", "flow/codec.go", "isolation/state.go",
	"hotspot/limit.go", "hotspot/page.go", "breaker/params.go", "breaker/state.go", "breaker/codec.go", "system/congestion.go",
}

func TestTransitionsArePure(t *testing.T) {
	pure := []string{module + "shared/rule", module + "shared/worker", module + "shared/outcome", module + "shared/checksum"} // of worker, who somebody is
	for _, name := range pureFiles {
		file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, "shared/family", name), nil, parser.ImportsOnly)
		if err != nil {
			t.Error(err)
			continue
		}
		for _, i := range file.Imports {
			path := strings.Trim(i.Path.Value, `"`)
			if strings.HasPrefix(path, module) && !slices.Contains(pure, path) || path == "time" {
				t.Errorf("%s imports %s", name, path)
			}
		}
	}
}

func TestOnlyTheEngineIsAboveTheCore(t *testing.T) {
	for pkg, list := range imports(t) {
		for _, i := range list {
			if i == module+"shared/engine" && !strings.HasPrefix(pkg, module+"plugins/") {
				t.Errorf("%s imports the engine", pkg)
			}
		}
	}
}

// Every call of Envoy goes through one package.
func TestOnlyOnePackageCallsEnvoy(t *testing.T) {
	for pkg, list := range imports(t) {
		if pkg != module+"plugins/envoyhost" && slices.Contains(list, sdk+"proxywasm") {
			t.Errorf("%s calls the SDK", pkg)
		}
	}
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestDocumentsNameWhatExists(t *testing.T) {
	makefile, tests := read(t, "Makefile"), source(t, "_test.go")
	for doc, text := range documents(t) {
		for _, m := range regexp.MustCompile("(?m)(?:`|^)make ([a-z]+)").FindAllStringSubmatch(text, -1) {
			if !strings.Contains(makefile, "\n"+m[1]+":") {
				t.Errorf("%s names `make %s`, which there is not", doc, m[1])
			}
		}
		for _, m := range regexp.MustCompile("`(Test[A-Za-z0-9]+)").FindAllStringSubmatch(text, -1) {
			if !strings.Contains(tests, "func "+m[1]) {
				t.Errorf("%s names %s, which there is not", doc, m[1])
			}
		}
		seeLinks(t, doc, text)
	}
}

// seeLinks checks that every file and every heading that a document links to is there.
func seeLinks(t *testing.T, doc, text string) {
	t.Helper()
	for _, m := range regexp.MustCompile(`\]\(([^)#:]*)(?:#([^)]+))?\)`).FindAllStringSubmatch(text, -1) {
		to := filepath.Join(filepath.Dir(doc), m[1])
		if m[1] == "" {
			to = doc
		}
		if _, err := os.Stat(filepath.Join(root, to)); err != nil {
			t.Errorf("%s links to %s: %v", doc, m[1], err)
		} else if m[2] != "" && !anchors(read(t, to))[m[2]] {
			t.Errorf("%s links to #%s of %s, which has no such heading", doc, m[2], to)
		}
	}
}

// anchors are the names by which a document's headings can be linked to.
func anchors(text string) map[string]bool {
	all := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(text, -1) {
		name := regexp.MustCompile(`[^\pL\pN _-]`).ReplaceAllString(strings.ToLower(m[1]), "")
		all[strings.ReplaceAll(name, " ", "-")] = true
	}
	return all
}

func TestReadmeIsShort(t *testing.T) {
	if n := strings.Count(read(t, "README.md"), "\n"); n > 130 {
		t.Errorf("README.md has %d lines, want at most 130: docs/ has room", n)
	}
}

// source is all files of the project whose names end so.
func source(t *testing.T, suffix string) string {
	t.Helper()
	var all strings.Builder
	for _, dir := range []string{"shared", "plugins", "internal/e2e"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, _ os.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, suffix) {
				return err
			}
			text, err := os.ReadFile(path)
			all.Write(text)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all.String()
}

func TestDeviationsAreAllListed(t *testing.T) {
	list := read(t, "DEVIATIONS.md")
	files, err := filepath.Glob(filepath.Join(root, "shared/engine/differential*_test.go"))
	if err != nil || len(files) < 5 {
		t.Fatalf("%d files: %v", len(files), err)
	}
	entry := regexp.MustCompile(`name:\s+"([^"]+)",\s+reason:`)
	names := map[string]bool{}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range entry.FindAllStringSubmatch(string(text), -1) {
			names[m[1]] = true
			if !strings.Contains(list, "- **"+m[1]+"** — ") {
				t.Errorf("DEVIATIONS.md lacks %q of %s", m[1], filepath.Base(f))
			}
		}
	}
	for _, m := range regexp.MustCompile(`(?m)^- \*\*(.+?)\*\* — `).FindAllStringSubmatch(list, -1) {
		if !names[m[1]] {
			t.Errorf("DEVIATIONS.md has %q, which no test has", m[1])
		}
	}
}

func TestRationaleAsksWhy(t *testing.T) {
	for line := range strings.Lines(read(t, "RATIONALE.md")) {
		if strings.HasPrefix(line, "## ") && (!strings.HasPrefix(line, "## Why ") || !strings.HasSuffix(strings.TrimSpace(line), "?")) {
			t.Errorf("not a question: %s", line)
		}
	}
}

// A tool that is named with its version is looked up on the network each time; one of internal/tools is not.
func TestToolsArePinnedInTheirModule(t *testing.T) {
	for _, name := range []string{"Makefile", ".ci/run", ".github/workflows/ci.yml"} {
		if m := regexp.MustCompile(`(?m)^.*(?:run|install) \S+@(?:v\d|latest).*$`).FindString(read(t, name)); m != "" {
			t.Errorf("%s: %s", name, m)
		}
	}
	tools := read(t, "internal/tools/go.mod")
	used := regexp.MustCompile(`tool -modfile=internal/tools/go.mod (\w+)`)
	for _, m := range used.FindAllStringSubmatch(read(t, "Makefile"), -1) {
		if !strings.Contains(tools, "/"+m[1]+"\n") {
			t.Errorf("the Makefile runs %s, which is no tool of internal/tools", m[1])
		}
	}
}
