package oci

import (
	"context"
	"fmt"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// annotationRef is a tag's name in an OCI layout's index.
const annotationRef = "org.opencontainers.image.ref.name"

// WriteLayout writes an OCI image layout of the images into an empty directory, or one that is not there yet.
func WriteLayout(dir string, images []Tagged) error {
	to, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	for _, t := range images {
		named := layout.WithAnnotations(map[string]string{annotationRef: t.Tag})
		if err := to.AppendImage(t.Image, named); err != nil {
			return fmt.Errorf("%s: %w", t.Tag, err)
		}
		for _, a := range t.Attached {
			if err := to.AppendImage(a); err != nil {
				return fmt.Errorf("attached to %s: %w", t.Tag, err)
			}
		}
	}
	return nil
}

// Push writes the images with what is attached into a repository such as registry.example.com/sentinel, by the credentials
// that the user's container tools have stored for its registry. What is attached goes first: who sees a tag sees all.
func Push(ctx context.Context, repository string, images []Tagged) error {
	to, err := name.NewRepository(repository)
	if err != nil {
		return err
	}
	by := []remote.Option{remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain)}
	for _, t := range images {
		for _, image := range append([]v1.Image{t.Image}, t.Attached...) {
			digest, err := image.Digest()
			if err != nil {
				return err
			}
			if err := remote.Write(to.Digest(digest.String()), image, by...); err != nil {
				return fmt.Errorf("%s@%s: %w", repository, digest, err)
			}
		}
		if err := remote.Tag(to.Tag(t.Tag), t.Image, by...); err != nil {
			return fmt.Errorf("%s:%s: %w", repository, t.Tag, err)
		}
	}
	return nil
}
