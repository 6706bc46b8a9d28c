package build

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// linked are the packages of the plugin.
func linked(t *testing.T) []goPackage {
	t.Helper()
	list, err := dependencies(t.Context(), goCommand{log: io.Discard}, Options{Package: "sentinel-envoy/plugins"})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// TestStatisticsAreTheModulesOwn looks at what a slim build compiles of sentinel-golang: its own files, but for the two that
// are listed.
func TestStatisticsAreTheModulesOwn(t *testing.T) {
	packages := linked(t)
	ov := &overlay{dir: t.TempDir(), replace: map[string]string{}}
	modFile, err := slimSentinel(t.Context(), goCommand{log: io.Discard}, packages, ov)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(modFile); err != nil || !strings.Contains(string(text), "replace "+sentinelModule+" => ./") {
		t.Errorf("go.mod with %q, %v", text, err)
	}
	var own, changed []string
	for place, file := range ov.replace {
		_, rel, _ := strings.Cut(filepath.ToSlash(place), "internal/wasmbuild/slim/")
		if filepath.Dir(file) == ov.dir {
			changed = append(changed, rel)
		} else if p := filepath.ToSlash(file); !strings.Contains(p, "/alibaba/sentinel-golang@v") || !strings.HasSuffix(p, "/"+rel) {
			t.Errorf("%s is %s", rel, file)
		} else {
			own = append(own, rel)
		}
	}
	slices.Sort(changed)
	if want := []string{
		"core/base/result.go", "core/stat/base/leap_array.go", "core/stat/base/metric_bucket.go", "logging/logging.go",
		"util/time.go",
	}; !slices.Equal(changed, want) {
		t.Errorf("changed %v, want %v", changed, want)
	}
	for _, rel := range []string{"core/base/stat.go", "core/stat/base/bucket_leap_array.go", "go.mod"} {
		if !slices.Contains(own, rel) {
			t.Errorf("%s is not of the module", rel)
		}
	}
	if slices.Contains(own, "util/uuid.go") {
		t.Error("util/uuid.go is still there")
	}
}

func TestSlimFailsWhereAFileHasChanged(t *testing.T) {
	for rel := range maps.Keys(slimmed) {
		file := filepath.Join(t.TempDir(), filepath.Base(rel))
		if err := os.WriteFile(file, []byte("package x\n"), 0o666); err != nil {
			t.Fatal(err)
		}
		ov := &overlay{dir: t.TempDir(), replace: map[string]string{}}
		if _, err := ov.slim(file, rel); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: error %v, want one that names %s", rel, err, file)
		}
	}
}

func TestNothingToSlimWithoutSentinel(t *testing.T) {
	ov := &overlay{dir: t.TempDir(), replace: map[string]string{}}
	modFile, err := slimSentinel(t.Context(), goCommand{log: io.Discard}, []goPackage{{ImportPath: "os", Standard: true}}, ov)
	if modFile != "" || err != nil || len(ov.replace) != 0 {
		t.Errorf("go.mod %q, %v, replaced %v", modFile, err, ov.replace)
	}
}

// TestSlimLoggerIsALogger compares the interface Logger with the original's: the plugin compiles against both.
func TestSlimLoggerIsALogger(t *testing.T) {
	var original string
	for _, p := range linked(t) {
		if p.ImportPath == sentinelModule+"/logging" {
			original = filepath.Join(p.Dir, "logging.go")
		}
	}
	text, err := os.ReadFile(original)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := loggerMethods(t, slimLogging), loggerMethods(t, text); !slices.Equal(got, want) {
		t.Errorf("methods %v, want %v", got, want)
	}
}

func loggerMethods(t *testing.T, src []byte) (names []string) {
	t.Helper()
	tree, err := parser.ParseFile(token.NewFileSet(), "logging.go", src, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(tree, func(n ast.Node) bool {
		if s, ok := n.(*ast.TypeSpec); ok && s.Name.Name == "Logger" {
			for _, m := range s.Type.(*ast.InterfaceType).Methods.List {
				names = append(names, m.Names[0].Name)
			}
		}
		return true
	})
	if len(names) == 0 {
		t.Error("no interface Logger")
	}
	slices.Sort(names)
	return names
}
