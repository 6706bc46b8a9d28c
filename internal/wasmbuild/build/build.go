// Package build makes a Proxy-Wasm plugin out of a Go main package with nothing but the go command: it compiles for WASI,
// takes out what hosts lack or never call, and checks that the oldest Envoy supported would load the result. The same
// source and the same Go release give the same bytes, wherever they lie.
package build

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"sentinel-envoy/internal/wasmbuild/module"
)

// Options say what to build.
type Options struct {
	Dir     string // where the go command runs; "" is the current directory
	Package string // the main package, as the go command takes it, such as "./plugins"
	Out     string // the file to write, relative to the current directory; <Out>.sha256 is written beside it
	Tags    string // build tags, separated by commas
	Version string // what shared/version.Version says; "" means the tag of the commit, and without one its default

	// Callbacks are the proxy_on_* exports to keep; nil means DefaultCallbacks.
	Callbacks []string
	// Names keeps the symbol names and the custom sections, for profiles and stack traces. No code differs by it.
	Names bool
	// KeepAll keeps every callback besides what Names keeps, for looking into a module.
	KeepAll bool
	// WasmOpt is the path of Binaryen's wasm-opt, to run with -O3; "" means do without.
	WasmOpt string
	// TinyGo is the path of a TinyGo compiler, of release 0.41 or later, to compile with instead of Go; "" means Go.
	TinyGo string
	// TinyGoTarget is the target to name to TinyGo; "" means wasip1. A file can say where its C library is.
	TinyGoTarget string
	// HostPoll leaves poll_oneoff to the host, as a plain Go build does: to show what becomes of a plugin then.
	HostPoll bool
	// Log gets the go command's and wasm-opt's messages; nil means os.Stderr.
	Log io.Writer
}

func (o Options) keepsNames() bool { return o.Names || o.KeepAll }

// Result says what was built.
type Result struct {
	Size     int      // bytes
	SHA256   string   // of the module, in hexadecimal
	Replaced []string // WASI functions in the source that became functions instead of imports
	Dropped  []string // exports taken out
}

// Build builds a plugin and writes it with its checksum. Its errors name the file, declaration, import or export that is
// wrong; then nothing is written.
func Build(ctx context.Context, o Options) (Result, error) {
	tmp, err := os.MkdirTemp("", "wasmbuild")
	if err != nil {
		return Result{}, err
	}
	defer os.RemoveAll(tmp)

	var res Result
	raw := filepath.Join(tmp, "plugin.wasm")
	if o.TinyGo != "" {
		err = compileTiny(ctx, o, tmp, raw)
	} else {
		res.Replaced, err = compile(ctx, o, tmp, raw)
	}
	if err != nil {
		return Result{}, err
	}
	b, err := os.ReadFile(raw)
	if err != nil {
		return Result{}, err
	}
	if b, res.Dropped, err = trim(b, o); err != nil {
		return Result{}, err
	}
	if o.WasmOpt != "" {
		if b, err = optimize(ctx, o, tmp, b); err != nil {
			return Result{}, err
		}
	}
	if err := check(b, o.HostPoll); err != nil {
		return Result{}, err
	}
	sum := sha256.Sum256(b)
	res.Size, res.SHA256 = len(b), hex.EncodeToString(sum[:])
	return res, write(o.Out, b, res.SHA256)
}

// compile runs the go command and returns the names of the imports it replaced.
func compile(ctx context.Context, o Options, tmp, out string) (replaced []string, err error) {
	linking, err := ldflags(ctx, o)
	if err != nil {
		return nil, err
	}
	g := goCommand{dir: o.Dir, log: o.log()}
	goroot, err := g.output(ctx, "env", "GOROOT")
	if err != nil {
		return nil, err
	}
	packages, err := dependencies(ctx, g, o)
	if err != nil {
		return nil, err
	}
	ov, err := makeOverlay(packages, filepath.Clean(strings.TrimSpace(goroot)), tmp, o.HostPoll)
	if err != nil {
		return nil, err
	}
	modFile, err := slimSentinel(ctx, g, packages, ov)
	if err != nil {
		return nil, err
	}
	list, err := ov.list()
	if err != nil {
		return nil, err
	}
	args := append([]string{"build", "-buildmode=c-shared", "-trimpath", "-buildvcs=false", "-overlay", list,
		"-modfile", modFile, "-tags", o.Tags, "-ldflags", linking, "-o", out}, coldFlags()...)
	_, err = g.output(ctx, append(args, o.Package)...)
	return ov.replaced, err
}

func ldflags(ctx context.Context, o Options) (string, error) {
	flags := []string{"-buildid="}
	if !o.keepsNames() {
		flags = append(flags, "-s", "-w")
	}
	version, err := versionFlags(ctx, o)
	return strings.Join(append(flags, version...), " "), err
}

// trim takes out of a module what no host needs, and what would make a host take it for one of an older ABI.
func trim(b []byte, o Options) (out []byte, dropped []string, err error) {
	m, err := module.Parse(b)
	if err != nil {
		return nil, nil, err
	}
	if err := m.OverrideExports(overridePrefix); err != nil {
		return nil, nil, err
	}
	newer, err := speaksNewerABI(m)
	if err != nil {
		return nil, nil, err
	}
	callbacks := o.Callbacks
	if callbacks == nil {
		callbacks = DefaultCallbacks
	}
	wanted := keepCallback(callbacks)
	dropped, err = m.KeepExports(func(e module.Export) bool {
		if e.Name == sdkABI {
			return !newer
		}
		if o.TinyGo != "" && !hostLooksFor(e) {
			return false
		}
		return o.KeepAll || wanted(e)
	})
	if err != nil {
		return nil, nil, err
	}
	if !o.keepsNames() {
		m.DropCustom()
	}
	return m.Bytes(), dropped, nil
}

func check(b []byte, hostPoll bool) error {
	m, err := module.Parse(b)
	if err != nil {
		return err
	}
	if err := checkExports(m); err != nil {
		return err
	}
	return checkImports(m, hostPoll)
}

// optimize runs wasm-opt. It may use the features that Go's compiler uses, and no others.
func optimize(ctx context.Context, o Options, tmp string, b []byte) ([]byte, error) {
	in, out := filepath.Join(tmp, "in.wasm"), filepath.Join(tmp, "out.wasm")
	if err := os.WriteFile(in, b, 0o666); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, o.WasmOpt, "-O3", "--enable-bulk-memory", "--enable-nontrapping-float-to-int",
		"--enable-sign-ext", "--enable-mutable-globals", in, "-o", out)
	cmd.Stdout, cmd.Stderr = o.log(), o.log()
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s: %w", o.WasmOpt, err)
	}
	return os.ReadFile(out)
}

// write writes the module and its checksum, each at once: a reader never sees half a file, and of two builds at the same
// time each finds its own.
func write(path string, b []byte, sum string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return err
	}
	line := fmt.Sprintf("%s  %s\n", sum, filepath.Base(path))
	return errors.Join(replaceFile(path, b), replaceFile(path+".sha256", []byte(line)))
}

// replaceFile puts a file of this content in path's place.
func replaceFile(path string, content []byte) error {
	part, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.part")
	if err != nil {
		return err
	}
	_, err = part.Write(content)
	err = errors.Join(err, part.Chmod(0o644), part.Close())
	if err == nil {
		err = os.Rename(part.Name(), path)
	}
	if err != nil {
		os.Remove(part.Name())
	}
	return err
}

func (o Options) log() io.Writer {
	if o.Log != nil {
		return o.Log
	}
	return os.Stderr
}

// goCommand runs the go command for the target.
type goCommand struct {
	dir string
	log io.Writer
}

// output returns what a go command prints.
func (g goCommand) output(ctx context.Context, args ...string) (string, error) {
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = g.dir, &out, g.log
	// What a user has set for native builds must neither change the module nor break the build. Go's collector from before
	// 1.26 is 0.03 MB smaller, and what the new one is better at needs several processors and a large heap.
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0", "GOFLAGS=", "GOWASM=",
		"GOEXPERIMENT=nogreenteagc", "GOWORK=off")
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("go %s: %w", args[0], err)
	}
	return out.String(), nil
}
