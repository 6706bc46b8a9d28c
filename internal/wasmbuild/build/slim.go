package build

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// What is linked is compiled by every Envoy at every start, so it is worth leaving out what no plugin can use. Nothing here
// changes what the remaining code does, and each thing left out is named with its file, so that a change upstream fails
// the build and not the plugin.

// coldPackages run when a configuration is read, or something has gone wrong, and never for a request. Inlined calls make
// them larger, those of the repository half as large again.
var coldPackages = []string{
	"sentinel-envoy/shared/config", "sentinel-envoy/shared/rule", "sentinel-envoy/shared/source", "sentinel-envoy/shared/publication",
	"regexp/syntax",
}

// sentinelModule is imported for its statistics. Its utilities import a maker of UUIDs, and with it the network and
// cryptography; its logger imports encoding/json.
const sentinelModule = "github.com/alibaba/sentinel-golang"

//go:embed slim/logging/logging.go
var slimLogging []byte

//go:embed slim/clock/clock.go
var slimClock []byte

// slimmed are the files of sentinelModule that are left out, replaced or changed, with the SHA-256 of what has been looked
// at. Package fmt, with reflect and all types that know how to format themselves, would be there for messages of the
// windows that nobody has ever seen.
var slimmed = map[string]struct {
	sum string
	to  func(content []byte) []byte // nil: nothing
}{
	"logging/logging.go": {"19668048f78295e613f6cdffaa81463b8343edc8954c9fd385d96fbc3a7ec649",
		func([]byte) []byte { return slimLogging }},
	"util/uuid.go":                    {"ab37a76c0201f8fbb0f2bb7ace028ed6715e8d7b40d531a787e285b8c6cfb474", nil},
	"util/time.go":                    {"3b4f85fc1e1d0659746126cf8e62b624592f3df3605e742ad7a369594abb43df", func([]byte) []byte { return slimClock }},
	"util/time_ticker.go":             {"e394fb4df6fdc07680dba3b1364b0f013d23c7e565b678bdb0dfdb4e26cb5a8d", nil},
	"core/base/result.go":             {"f2e6809d8ca79064774a9044950d0f7441cb2a4157ced0007beb1ce9b05e8bd5", withoutFmt},
	"core/stat/base/leap_array.go":    {"97a125dc61081566d6a4e94dab0e8f903f189336f6a6991095ba4c6ac540f2e0", withoutFmt},
	"core/stat/base/metric_bucket.go": {"71806e403f0580e7d2651168d18b97102b3fc80e4dac38e880b5257853dd22bc", withoutFmt},
}

// withoutFmt lets a file import the slim logging in place of fmt and of the errors that are made with it.
func withoutFmt(content []byte) []byte {
	for _, imported := range []string{"fmt", "github.com/pkg/errors"} {
		name := imported[strings.LastIndexByte(imported, '/')+1:]
		content = bytes.Replace(content, []byte(`"`+imported+`"`), []byte(name+` "`+sentinelModule+`/logging"`), 1)
	}
	return content
}

// goPackage is what `go list` says of a package.
type goPackage struct {
	ImportPath, Dir string
	GoFiles         []string
	Standard        bool
	Module          *struct{ Path, Version, Dir string }
}

// dependencies lists a main package and everything it imports.
func dependencies(ctx context.Context, g goCommand, o Options) ([]goPackage, error) {
	text, err := g.output(ctx, "list", "-deps", "-tags", o.Tags, "-json=ImportPath,Dir,GoFiles,Standard,Module", o.Package)
	if err != nil {
		return nil, err
	}
	var list []goPackage
	for d := json.NewDecoder(strings.NewReader(text)); ; {
		var p goPackage
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return list, nil
		} else if err != nil {
			return nil, fmt.Errorf("go list: %w", err)
		}
		list = append(list, p)
	}
}

// slimSentinel adds to the overlay a copy of sentinelModule in a directory that does not exist, and returns the path of a
// go.mod that has the copy in the module's place. It returns "" where nothing of the module is imported.
func slimSentinel(ctx context.Context, g goCommand, packages []goPackage, ov *overlay) (modFile string, err error) {
	const here = "internal/wasmbuild/slim" // of the copy, in the main module: the same wherever that lies
	files, err := ov.slimFiles(packages)
	if err != nil || len(files) == 0 {
		return "", err
	}
	mainMod, err := g.output(ctx, "env", "GOMOD")
	if err != nil {
		return "", err
	}
	mainMod = strings.TrimSpace(mainMod)
	for rel, file := range files {
		ov.replace[filepath.Join(filepath.Dir(mainMod), here, rel)] = file
	}
	modFile = filepath.Join(ov.dir, "go.mod")
	return modFile, redirect(mainMod, modFile, sentinelModule, "./"+here)
}

// slimFiles lists a slim copy of sentinelModule: what the packages need of the module, but for the files that are slimmed,
// by their paths in it.
func (ov *overlay) slimFiles(packages []goPackage) (map[string]string, error) {
	files := make(map[string]string)
	for _, p := range packages {
		if p.Module == nil || p.Module.Path != sentinelModule {
			continue
		}
		files["go.mod"] = filepath.Join(p.Module.Dir, "go.mod")
		for _, name := range p.GoFiles {
			file := filepath.Join(p.Dir, name)
			rel, err := filepath.Rel(p.Module.Dir, file)
			if err != nil {
				return nil, err
			}
			if file, err = ov.slim(file, filepath.ToSlash(rel)); err != nil {
				return nil, err
			}
			if file != "" {
				files[rel] = file
			}
		}
	}
	return files, nil
}

// slim returns the file to take for a file of sentinelModule, or "" for none.
func (ov *overlay) slim(file, rel string) (string, error) {
	s, found := slimmed[rel]
	if !found {
		return file, nil
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	if sum := sha256.Sum256(b); hex.EncodeToString(sum[:]) != s.sum {
		return "", fmt.Errorf("%s is not the file that the build replaces: see to it that what takes its place still does, "+
			"then correct its SHA-256 to %x", file, sum)
	}
	if s.to == nil {
		return "", nil
	}
	return ov.write(filepath.Base(file), s.to(b))
}

// redirect writes a copy of a main module's go.mod, and of the go.sum beside it, that has a module replaced by a directory.
func redirect(from, to, mod, dir string) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	sum, err := os.ReadFile(strings.TrimSuffix(from, ".mod") + ".sum")
	if err != nil {
		return err
	}
	text = fmt.Appendf(text, "\nreplace %s => %s\n", mod, dir)
	return errors.Join(os.WriteFile(to, text, 0o666), os.WriteFile(strings.TrimSuffix(to, ".mod")+".sum", sum, 0o666))
}

// coldFlags are the flags of `go build` that keep coldPackages small, and the runtime: what a profile of other programs' work
// finds hot in it is the collector, which no request waits for.
func coldFlags() []string {
	var flags []string
	for _, p := range coldPackages {
		flags = append(flags, "-gcflags="+p+"=-l")
	}
	return append(flags, "-gcflags=runtime=-d=pgoinline=0")
}

// idleFunctions returns other bodies for functions of the standard library, by file and name: those by which the runtime
// would learn that its execution is traced, which only runtime/trace can begin; that which keeps counters of GODEBUG
// settings, which only runtime/metrics can read; what profiles are made of, which only runtime/pprof can write; what the
// runtime prints of itself, or looks at again, where GODEBUG says so; and what is there for programs of several modules. A
// program that imports one of these packages keeps them all.
func idleFunctions(packages []goPackage) map[string]map[string]string {
	readers := []string{"runtime/trace", "runtime/metrics", "runtime/pprof"}
	if slices.ContainsFunc(packages, func(p goPackage) bool { return slices.Contains(readers, p.ImportPath) }) {
		return nil
	}
	idle := map[string]map[string]string{
		"runtime/traceruntime.go": {
			"traceEnabled":          "{ return false }",
			"traceAllocFreeEnabled": "{ return false }",
			"traceShuttingDown":     "{ return false }",
		},
		"runtime/metrics.go":    {"godebug_registerMetric": "{}"},
		"runtime/mprof.go":      {"mProf_Malloc": "{}", "saveblockevent": "{}"},
		"runtime/proc.go":       {"schedtrace": "{}"},
		"runtime/mcheckmark.go": {"checkFinalizersAndCleanups": "{}"},
		"runtime/type.go":       {"typelinksinit": "{}"},
		"runtime/symtab.go":     {"moduledataverify": "{}"},
	}
	if slices.ContainsFunc(packages, func(p goPackage) bool { return p.ImportPath == "internal/bisect" }) {
		idle["internal/bisect/bisect.go"] = map[string]string{"New": "{ return nil, nil }", "Matcher.Stack": "{ return true }"}
	}
	return idle
}
