package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"sentinel-envoy/internal/wasmbuild/build"
)

// options say what to release.
type options struct {
	root         string // of the source
	pkg          string // the plugin's main package, as the go command takes it in root
	out          string // the directory to write
	version      string // "" means the tag of the commit
	tinyGo       string // "" means do without its artefact
	tinyGoTarget string
}

var (
	versionForm   = regexp.MustCompile(`^v\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?$`)
	toolchainLine = regexp.MustCompile(`(?m)^toolchain (\S+)$`)
)

// release writes the directory, or nothing: it appears when everything in it is made. What would come out differently
// elsewhere is refused: a changed tree, and another Go release than go.mod's.
func release(ctx context.Context, out io.Writer, o options) error {
	version, err := versionOf(ctx, o)
	if err != nil {
		return err
	}
	o.version = version
	if err := reproducible(ctx, o.root); err != nil {
		return err
	}
	section, err := changes(o.root, version)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(o.out), 0o777); err != nil {
		return err
	}
	// Beside the target, so on its file system: then the rename is atomic.
	dir, err := os.MkdirTemp(filepath.Dir(o.out), ".release-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := fill(ctx, out, o, dir, section); err != nil {
		return err
	}
	if err := os.RemoveAll(o.out); err != nil {
		return err
	}
	if err := errors.Join(os.Chmod(dir, 0o755), os.Rename(dir, o.out)); err != nil {
		return err
	}
	fmt.Fprintf(out, "%s: %s\n", o.out, version)
	return nil
}

// versionOf returns the name of the release.
func versionOf(ctx context.Context, o options) (string, error) {
	version := o.version
	if version == "" {
		version = build.Tag(ctx, o.root)
	}
	switch {
	case version == "":
		return "", errors.New("the commit has no tag that names a release; tag it, or say make release VERSION=v0.1.0")
	case !versionForm.MatchString(version):
		return "", fmt.Errorf("version %s: must be of the form v0.1.0 or v0.1.0-rc.1", version)
	}
	return version, nil
}

// reproducible returns an error where somebody else would not get the same bytes from the same commit.
func reproducible(ctx context.Context, root string) error {
	if commit := build.Commit(ctx, root); strings.HasSuffix(commit, "-dirty") {
		return fmt.Errorf("files differ from the commit (%s); commit them first", commit)
	}
	mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		return err
	}
	want := toolchainLine.FindSubmatch(mod)
	if want == nil {
		return errors.New("go.mod has no toolchain line: which Go release is to build it?")
	}
	cmd := exec.CommandContext(ctx, "go", "env", "GOVERSION")
	cmd.Dir = root
	got, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("go env GOVERSION: %w", err)
	}
	if got, want := strings.TrimSpace(string(got)), string(want[1]); got != want {
		return fmt.Errorf("the go command is %s and go.mod's toolchain %s; say GOTOOLCHAIN=%s make release", got, want, want)
	}
	return nil
}

// fill makes the files of a release in an empty directory.
func fill(ctx context.Context, log io.Writer, o options, dir string, section []byte) error {
	if err := os.WriteFile(filepath.Join(dir, "CHANGELOG.md"), section, 0o644); err != nil {
		return err
	}
	for _, name := range []string{"LICENSE", "NOTICE"} {
		text, err := os.ReadFile(filepath.Join(o.root, name))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
			return err
		}
	}
	if err := compile(ctx, log, o, filepath.Join(dir, "sentinel.wasm"), ""); err != nil {
		return err
	}
	if o.tinyGo != "" {
		if err := compile(ctx, log, o, filepath.Join(dir, "sentinel-tiny.wasm"), o.tinyGo); err != nil {
			return err
		}
	}
	return writeSums(dir)
}

// compile builds one artefact, without a checksum of its own: SHA256SUMS has it.
func compile(ctx context.Context, log io.Writer, o options, path, tinyGo string) error {
	res, err := build.Build(ctx, build.Options{Dir: o.root, Package: o.pkg, Out: path, Version: o.version,
		TinyGo: tinyGo, TinyGoTarget: o.tinyGoTarget})
	if err != nil {
		return err
	}
	fmt.Fprintf(log, "%s: %.2f MB, sha256 %s\n", filepath.Base(path), float64(res.Size)/1e6, res.SHA256)
	return os.Remove(path + ".sha256")
}

// writeSums writes SHA256SUMS of all files of a directory, as sha256sum -c reads it.
func writeSums(dir string) error {
	files, err := os.ReadDir(dir) // sorted
	if err != nil {
		return err
	}
	var sums bytes.Buffer
	for _, f := range files {
		content, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			return err
		}
		fmt.Fprintf(&sums, "%x  %s\n", sha256.Sum256(content), f.Name())
	}
	return os.WriteFile(filepath.Join(dir, "SHA256SUMS"), sums.Bytes(), 0o644)
}
