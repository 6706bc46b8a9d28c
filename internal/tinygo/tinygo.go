// Package tinygo obtains the TinyGo compiler that the second artefact is made with: it builds it from its module, which is
// pinned in the folder compiler, against Debian's LLVM.
package tinygo

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

const (
	module = "github.com/tinygo-org/tinygo"
	target = "wasip1-debian"
)

// targetFile is TinyGo's target wasip1 with Debian's C library and compiler runtime: the module has neither's source.
//
//go:embed wasip1-debian.json
var targetFile []byte

// Compiler is a TinyGo that is ready to use.
type Compiler struct {
	Path   string // of the executable
	Target string // the target to name to it
}

// Options says where to build a compiler.
type Options struct {
	// Dir is a directory of the project's module; "" is the current one.
	Dir string
	// CacheDir keeps compilers. Empty means sentinel-envoy in the user's cache directory.
	CacheDir string
	// Log receives a line before packages are installed and before the compiler is built. Nil means silence.
	Log io.Writer
}

// Find gives the compiler, and builds it on first use, in about a minute. It needs packages of Debian's, which it installs
// where it runs as root; elsewhere the error names them and the command. Concurrent calls, also from several processes, are
// safe: a compiler appears in the cache whole or not at all.
func Find(ctx context.Context, o Options) (Compiler, error) {
	if o.Log == nil {
		o.Log = io.Discard
	}
	if err := needPackages(ctx, o.Log); err != nil {
		return Compiler{}, err
	}
	pinned, err := pinnedIn(ctx, o.Dir)
	if err != nil {
		return Compiler{}, err
	}
	root, err := cachedRoot(o.CacheDir, pinned)
	if err != nil {
		return Compiler{}, err
	}
	c := Compiler{Path: filepath.Join(root, "bin", "tinygo"), Target: target}
	if _, err := os.Stat(c.Path); err == nil {
		return c, nil
	}
	fmt.Fprintln(o.Log, "building TinyGo in", root)
	if err := install(ctx, pinned, root); err != nil {
		return Compiler{}, fmt.Errorf("building TinyGo: %w", err)
	}
	return c, nil
}

// pinnedIn is the folder of the module that pins TinyGo.
func pinnedIn(ctx context.Context, dir string) (string, error) {
	mod, err := output(ctx, dir, "env", "GOMOD")
	return filepath.Join(filepath.Dir(mod), "internal", "tinygo", "compiler"), err
}

// cachedRoot is the folder of the compiler that these files and this release of Go make.
func cachedRoot(cache, pinned string) (string, error) {
	if cache == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("no place to keep TinyGo: %w", err)
		}
		cache = filepath.Join(user, "sentinel-envoy")
	}
	h := sha256.New()
	fmt.Fprintln(h, runtime.Version(), string(targetFile))
	for _, name := range []string{"go.mod", "go.sum"} {
		text, err := os.ReadFile(filepath.Join(pinned, name))
		if err != nil {
			return "", err
		}
		h.Write(text)
	}
	return filepath.Join(cache, "tinygo-"+hex.EncodeToString(h.Sum(nil))[:12]), nil
}

// install makes root: a copy of the module's folder with what it lacks, and the compiler in its bin, where it finds the rest.
func install(ctx context.Context, pinned, root string) error {
	if err := os.MkdirAll(filepath.Dir(root), 0o755); err != nil {
		return err
	}
	part, err := os.MkdirTemp(filepath.Dir(root), ".tinygo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(part)
	// go build gets the module, whose folder is only then there.
	if _, err := output(ctx, pinned, "build", "-tags=llvm19", "-o", filepath.Join(part, "bin", "tinygo"), module); err != nil {
		return err
	}
	source, err := output(ctx, pinned, "list", "-m", "-f={{.Dir}}", module)
	if err != nil {
		return err
	}
	if err := os.CopyFS(part, os.DirFS(source)); err != nil {
		return err
	}
	// Of Git's submodules, which the module lacks, TinyGo looks for this one whatever it compiles.
	if err := os.MkdirAll(filepath.Join(part, "src", "net", "http"), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(part, "targets", target+".json"), targetFile, 0o644); err != nil {
		return err
	}
	if err := os.Rename(part, root); err != nil {
		if _, exists := os.Stat(filepath.Join(root, "bin", "tinygo")); exists == nil {
			return nil // another process was first
		}
		return err
	}
	return os.Chmod(root, 0o755)
}

// output runs the go command for this machine, whatever the user has set for other builds, and gives what it prints.
func output(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir, cmd.Stderr = dir, os.Stderr
	cmd.Env = append(os.Environ(), "GOOS="+runtime.GOOS, "GOARCH="+runtime.GOARCH, "CGO_ENABLED=1", "GOFLAGS=", "GOWORK=off")
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("go %s: %w", args[0], err)
	}
	return strings.TrimSpace(string(out)), nil
}
