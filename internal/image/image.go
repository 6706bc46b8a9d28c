package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"

	"sentinel-envoy/internal/image/oci"
	"sentinel-envoy/internal/image/sbom"
	"sentinel-envoy/internal/wasmbuild/build"
)

// options say what to make images of.
type options struct {
	root    string   // of the source
	out     string   // the directory to write, in root
	version string   // of the release; "" means the tag of the commit, and without one none
	push    string   // a reference with a tag; "" means push nothing
	plugins []string // the files, in root
}

// untagged is the tag of images that are of no release.
const untagged = "dev"

// run writes the images' directory, whole or not at all, and pushes the images where that is asked.
func run(ctx context.Context, log io.Writer, o options) error {
	if len(o.plugins) == 0 {
		return errors.New("which plugins? Name their files")
	}
	if o.version == "" {
		o.version = build.Tag(ctx, o.root)
	}
	repository, tag, err := target(o)
	if err != nil {
		return err
	}
	out := filepath.Join(o.root, o.out)
	if err := os.MkdirAll(filepath.Dir(out), 0o777); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(filepath.Dir(out), ".image-") // beside the target, so that it can be renamed
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	images, err := fill(ctx, o, dir, tag)
	if err != nil {
		return err
	}
	if err := errors.Join(os.RemoveAll(out), os.Chmod(dir, 0o755), os.Rename(dir, out)); err != nil {
		return err
	}
	if err := report(log, filepath.Join(o.out, "oci"), images); err != nil || repository == "" {
		return err
	}
	if err := oci.Push(ctx, repository, images); err != nil {
		return err
	}
	return report(log, repository, images)
}

// target is where to push to, "" for nowhere, and the tag of the images.
func target(o options) (repository, tag string, err error) {
	if o.push == "" {
		if o.version == "" {
			return "", untagged, nil
		}
		return "", o.version, nil
	}
	ref, err := name.NewTag(o.push, name.StrictValidation)
	if err != nil {
		return "", "", fmt.Errorf("%w; say host/repository:tag", err)
	}
	return ref.Repository.Name(), ref.TagStr(), nil
}

// fill writes the images of all plugins as one layout, and beside it what is attached to them.
func fill(ctx context.Context, o options, dir, tag string) (all []oci.Tagged, err error) {
	for _, file := range o.plugins {
		p, err := plugin(ctx, o, file)
		if err != nil {
			return nil, err
		}
		documents, err := about(ctx, o, p)
		if err != nil {
			return nil, err
		}
		for _, d := range documents {
			if err := os.WriteFile(filepath.Join(dir, d.Name), d.Content, 0o644); err != nil {
				return nil, err
			}
		}
		images, err := oci.Bundle(p, tag+suffix(p.Name), documents)
		if err != nil {
			return nil, err
		}
		all = append(all, images...)
	}
	return all, oci.WriteLayout(filepath.Join(dir, "oci"), all)
}

// suffix is what the tag of a plugin's images has after the version: -tiny for sentinel-tiny.wasm.
func suffix(file string) string {
	base := strings.TrimSuffix(file, ".wasm")
	if i := strings.IndexByte(base, '-'); i >= 0 {
		return base[i:]
	}
	return ""
}

// plugin reads a plugin, with what the repository knows of its commit.
func plugin(ctx context.Context, o options, file string) (oci.Plugin, error) {
	wasm, err := os.ReadFile(filepath.Join(o.root, file))
	if err != nil {
		return oci.Plugin{}, err
	}
	return oci.Plugin{Wasm: wasm, Name: filepath.Base(file), Version: o.version, Revision: build.Commit(ctx, o.root),
		Created: committed(ctx, o.root)}, nil
}

// committed is when the commit was made, the only time that is the same for all who make its images; the beginning of
// time where there is no commit.
func committed(ctx context.Context, root string) time.Time {
	cmd := exec.CommandContext(ctx, "git", "log", "-1", "--format=%cI")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		return time.Unix(0, 0)
	}
	at, err := time.Parse(time.RFC3339, strings.TrimSpace(string(out)))
	if err != nil {
		return time.Unix(0, 0)
	}
	return at
}

// about are the documents that go with a plugin.
func about(ctx context.Context, o options, p oci.Plugin) ([]oci.Attachment, error) {
	list, err := sbom.JSON(ctx, sbom.Subject{Root: o.root, Package: "./plugins", File: p.Name, SHA256: p.SHA256(),
		Version: p.Version, Tiny: suffix(p.Name) != ""})
	if err != nil {
		return nil, err
	}
	line := fmt.Sprintf("%s  %s\n", p.SHA256(), p.Name)
	return []oci.Attachment{
		{Type: oci.TypeSBOM, Name: strings.TrimSuffix(p.Name, ".wasm") + ".cdx.json", Content: list},
		{Type: oci.TypeChecksum, Name: p.Name + ".sha256", Content: []byte(line)},
	}, nil
}

// report prints a line for each image: where it is, and its digest.
func report(log io.Writer, place string, images []oci.Tagged) error {
	for _, t := range images {
		digest, err := t.Image.Digest()
		if err != nil {
			return err
		}
		fmt.Fprintf(log, "%s:%s %s\n", place, t.Tag, digest)
	}
	return nil
}
