package build

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"sentinel-envoy/internal/wasmbuild/module"
)

// compileTiny compiles the same source with TinyGo: a fifth of the size and of the time to start. What it gives up is
// recover, which TinyGo does not have for Wasm: where a plugin built by Go answers a fault of its own by failure_mode, one
// built by TinyGo traps, and the filter's failure_policy decides.
//
// Without goroutines there is no scheduler to link, which nothing here needs and which would run every function through
// Binaryen's asyncify. Optimized for size it is a quarter smaller than for speed, which start and memory follow; V8 optimizes
// again, and no request was slower in one interleaved run.
func compileTiny(ctx context.Context, o Options, tmp, out string) error {
	flags, err := versionFlags(ctx, o)
	if err != nil {
		return err
	}
	g := goCommand{dir: o.Dir, log: o.log()}
	packages, err := dependencies(ctx, g, o)
	if err != nil {
		return err
	}
	modFile, err := slimCopy(ctx, g, packages, tmp)
	if err != nil {
		return err
	}
	target := o.TinyGoTarget
	if target == "" {
		target = "wasip1"
	}
	args := []string{"build", "-target=" + target, "-buildmode=c-shared", "-scheduler=none", "-opt=s", "-no-debug",
		"-tags=" + o.Tags, "-o", out}
	if flags != nil {
		args = append(args, "-ldflags="+strings.Join(flags, " "))
	}
	cmd := exec.CommandContext(ctx, o.TinyGo, append(args, o.Package)...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = o.Dir, o.log(), o.log()
	// The target says what it is built for. A flag for the go command, which TinyGo asks for the packages, comes this way only.
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "GOOS=") || strings.HasPrefix(v, "GOARCH=")
	})
	cmd.Env = append(cmd.Env, "GOFLAGS=", "GOWORK=off")
	if modFile != "" {
		cmd.Env = append(cmd.Env, "GOFLAGS=-modfile="+modFile)
	}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w", o.TinyGo, err)
	}
	return nil
}

// slimCopy is slimSentinel for a compiler that takes no overlay: it writes the copy into tmp.
func slimCopy(ctx context.Context, g goCommand, packages []goPackage, tmp string) (modFile string, err error) {
	ov := &overlay{dir: tmp, replace: make(map[string]string)}
	files, err := ov.slimFiles(packages)
	if err != nil || len(files) == 0 {
		return "", err
	}
	dir := filepath.Join(tmp, "sentinel-golang")
	for rel, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return "", err
		}
		path := filepath.Join(dir, rel)
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			return "", err
		}
		if err := os.WriteFile(path, text, 0o666); err != nil {
			return "", err
		}
	}
	mainMod, err := g.output(ctx, "env", "GOMOD")
	if err != nil {
		return "", err
	}
	modFile = filepath.Join(tmp, "go.mod")
	return modFile, redirect(strings.TrimSpace(mainMod), modFile, sentinelModule, dir)
}

// hostLooksFor tells for an export of a module made by TinyGo whether it is the plugin's. TinyGo also exports what its C
// library offers, malloc among it, and a host prefers that to the SDK's: nobody would ever free what it returns.
func hostLooksFor(e module.Export) bool {
	return e.Kind != module.Func || e.Name == "_initialize" || strings.HasPrefix(e.Name, "proxy_")
}
