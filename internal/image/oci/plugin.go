package oci

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// FileName is the plugin's name in an image of layout Compat: hosts look for it.
const FileName = "plugin.wasm"

const (
	contentLayer = types.MediaType("application/vnd.module.wasm.content.layer.v1+wasm")
	configLayer  = types.MediaType("application/vnd.module.wasm.config.v1+json")
)

// Keys of annotations, of the OCI image specification but for the last two.
const (
	annotationTitle    = "org.opencontainers.image.title"
	annotationText     = "org.opencontainers.image.description"
	annotationVersion  = "org.opencontainers.image.version"
	annotationRevision = "org.opencontainers.image.revision"
	annotationCreated  = "org.opencontainers.image.created"
	annotationLicenses = "org.opencontainers.image.licenses"
	// annotationVariant tells the compatible layout from the other, as the specification of Wasm images has it.
	annotationVariant = "module.wasm.image/variant"
	// AnnotationSHA256 has the SHA-256 of the plugin itself, in hexadecimal; an image's digest is another.
	AnnotationSHA256 = "sentinel.plugin.sha256"
)

// Plugin is a Wasm plugin and what its images say of it.
type Plugin struct {
	Wasm     []byte
	Name     string // of the file that it was built as
	Version  string // of the release, "" for none
	Revision string // the commit; "" for none
	Created  time.Time
}

// SHA256 is the plugin's checksum, in hexadecimal.
func (p Plugin) SHA256() string {
	sum := sha256.Sum256(p.Wasm)
	return hex.EncodeToString(sum[:])
}

// annotations are the notes of an image.
func (p Plugin) annotations() map[string]string {
	notes := map[string]string{
		annotationTitle:    p.Name,
		annotationText:     "Sentinel flow control for Envoy, as a Proxy-Wasm plugin",
		annotationLicenses: "Apache-2.0",
		annotationCreated:  p.Created.UTC().Format(time.RFC3339),
		AnnotationSHA256:   p.SHA256(),
	}
	if p.Version != "" {
		notes[annotationVersion] = p.Version
	}
	if p.Revision != "" {
		notes[annotationRevision] = p.Revision
	}
	return notes
}

// Compat is an image like one that "FROM scratch" and "COPY plugin.wasm ./" make: hosts and container runtimes take it, and
// Kubernetes mounts it as a volume.
func Compat(p Plugin) (v1.Image, error) {
	archive, packed, err := pack(p)
	if err != nil {
		return nil, err
	}
	diff, _, err := v1.SHA256(bytes.NewReader(archive))
	if err != nil {
		return nil, err
	}
	// A Wasm file is of no platform. This is the one that hosts ask for when nobody names one.
	config, err := json.Marshal(v1.ConfigFile{Architecture: "amd64", OS: "linux", Created: v1.Time{Time: p.Created.UTC()},
		RootFS: v1.RootFS{Type: "layers", DiffIDs: []v1.Hash{diff}}})
	if err != nil {
		return nil, err
	}
	notes := p.annotations()
	notes[annotationVariant] = "compat"
	return recipe{config: blob{mediaType: types.OCIConfigJSON, content: config},
		layers: []blob{{mediaType: types.OCILayer, content: packed}}, annotations: notes}.image()
}

// pack makes an archive of the plugin alone, and its compressed form.
func pack(p Plugin) (archive, packed []byte, err error) {
	var plain, small bytes.Buffer
	t := tar.NewWriter(&plain)
	err = t.WriteHeader(&tar.Header{Name: FileName, Mode: 0o644, Size: int64(len(p.Wasm)),
		ModTime: p.Created.Truncate(time.Second), Format: tar.FormatUSTAR})
	if err != nil {
		return nil, nil, err
	}
	if _, err = t.Write(p.Wasm); err != nil {
		return nil, nil, err
	}
	if err = t.Close(); err != nil {
		return nil, nil, err
	}
	z, err := gzip.NewWriterLevel(&small, gzip.BestCompression) // without a name and a time
	if err != nil {
		return nil, nil, err
	}
	if _, err = z.Write(plain.Bytes()); err != nil {
		return nil, nil, err
	}
	err = z.Close()
	return plain.Bytes(), small.Bytes(), err
}

// Artifact is an image with the plugin as it is for a layer, and an empty configuration of it for the other.
func Artifact(p Plugin) (v1.Image, error) {
	empty := blob{mediaType: configLayer, content: []byte("{}")}
	return recipe{config: empty, layers: []blob{{mediaType: contentLayer, content: p.Wasm, title: FileName}, empty},
		annotations: p.annotations()}.image()
}
