// Package oci makes OCI images of a Wasm plugin, and what is attached to them, out of bytes alone: the same plugin and the
// same notes give the same digest, wherever and whenever they are made.
package oci

import (
	"bytes"
	"encoding/json"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// blob is content under a media type.
type blob struct {
	mediaType types.MediaType
	content   []byte
	title     string // the name of the file that it is, as tools write it; "" for none
}

// descriptor is what a manifest says of a blob.
func (b blob) descriptor() (v1.Descriptor, error) {
	digest, size, err := v1.SHA256(bytes.NewReader(b.content))
	if err != nil {
		return v1.Descriptor{}, err
	}
	d := v1.Descriptor{MediaType: b.mediaType, Digest: digest, Size: size}
	if b.title != "" {
		d.Annotations = map[string]string{annotationTitle: b.title}
	}
	return d, nil
}

// recipe is what a manifest consists of.
type recipe struct {
	artifactType string // "" where the configuration's media type tells
	config       blob
	layers       []blob
	annotations  map[string]string
	subject      *v1.Descriptor // of the image that it is attached to; nil for none
}

// image writes the manifest.
func (r recipe) image() (v1.Image, error) {
	made := &fixed{config: r.config.content, layers: make(map[v1.Hash]partial.CompressedLayer)}
	m := v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1, ArtifactType: r.artifactType,
		Annotations: r.annotations, Subject: r.subject}
	var err error
	if m.Config, err = r.config.descriptor(); err != nil {
		return nil, err
	}
	for _, l := range r.layers {
		d, err := l.descriptor()
		if err != nil {
			return nil, err
		}
		m.Layers = append(m.Layers, d)
		made.layers[d.Digest] = stored{static.NewLayer(l.content, l.mediaType)}
	}
	if made.manifest, err = json.Marshal(m); err != nil {
		return nil, err
	}
	return partial.CompressedToImage(made)
}

// stored is a layer of which is known only what is stored: what it is unpacked, others find out.
type stored struct{ partial.CompressedLayer }

// fixed is an image whose every byte is given.
type fixed struct {
	manifest, config []byte
	layers           map[v1.Hash]partial.CompressedLayer
}

func (f *fixed) MediaType() (types.MediaType, error) { return types.OCIManifestSchema1, nil }
func (f *fixed) RawManifest() ([]byte, error)        { return f.manifest, nil }
func (f *fixed) RawConfigFile() ([]byte, error)      { return f.config, nil }
func (f *fixed) LayerByDigest(h v1.Hash) (partial.CompressedLayer, error) {
	return f.layers[h], nil
}
