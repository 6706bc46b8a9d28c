package oci

import (
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Types of what is attached to an image, as registries list it.
const (
	TypeSBOM     = "application/vnd.cyclonedx+json"
	TypeChecksum = "text/plain" // as sha256sum -c reads it
)

// Attachment is a document about an image.
type Attachment struct {
	Type    string // TypeSBOM or TypeChecksum
	Name    string // of its file
	Content []byte
}

// Attach makes an artifact that carries a document and refers to an image.
func Attach(image v1.Image, a Attachment) (v1.Image, error) {
	subject, err := partial.Descriptor(image)
	if err != nil {
		return nil, err
	}
	// Of the image only what identifies it: its own notes are in its manifest.
	about := v1.Descriptor{MediaType: subject.MediaType, Digest: subject.Digest, Size: subject.Size}
	return recipe{
		artifactType: a.Type,
		config:       blob{mediaType: "application/vnd.oci.empty.v1+json", content: []byte("{}")},
		layers:       []blob{{mediaType: types.MediaType(a.Type), content: a.Content, title: a.Name}},
		subject:      &about,
	}.image()
}
