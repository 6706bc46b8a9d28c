package oci

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

func trial() Plugin {
	return Plugin{Wasm: bytes.Repeat([]byte("\x00asm"), 100_000), Name: "trial.wasm", Version: "v0.1.0",
		Revision: "0123456789ab", Created: time.Date(2026, 1, 2, 3, 4, 5, 6, time.FixedZone("", 3600))}
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// content is what a layer has, as it is stored or unpacked.
func content(t *testing.T, open func() (io.ReadCloser, error)) []byte {
	t.Helper()
	r := must[io.ReadCloser](t)(open())
	defer r.Close()
	return must[[]byte](t)(io.ReadAll(r))
}

func TestCompatIsAnArchiveOfThePluginAlone(t *testing.T) {
	p := trial()
	image := must[v1.Image](t)(Compat(p))
	if err := validate.Image(image); err != nil {
		t.Error(err)
	}
	layers := must[[]v1.Layer](t)(image.Layers())
	if len(layers) != 1 {
		t.Fatalf("%d layers", len(layers))
	}
	archive := tar.NewReader(bytes.NewReader(content(t, layers[0].Uncompressed)))
	header := must[*tar.Header](t)(archive.Next())
	if header.Name != "plugin.wasm" || header.Mode != 0o644 || !header.ModTime.Equal(p.Created.Truncate(time.Second)) {
		t.Errorf("it has %+v", header)
	}
	if got := must[[]byte](t)(io.ReadAll(archive)); !bytes.Equal(got, p.Wasm) {
		t.Errorf("plugin of %d bytes, want %d", len(got), len(p.Wasm))
	}
	if next, err := archive.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("it also has %+v (%v)", next, err)
	}
}

// Envoy Gateway and Istio take an artifact with exactly two layers.
func TestArtifactIsThePluginAndItsConfiguration(t *testing.T) {
	p := trial()
	image := must[v1.Image](t)(Artifact(p))
	if err := validate.Image(image, validate.Fast); err != nil {
		t.Error(err)
	}
	layers := must[[]v1.Layer](t)(image.Layers())
	if len(layers) != 2 {
		t.Fatalf("%d layers, want 2", len(layers))
	}
	for i, want := range []struct {
		mediaType string
		content   []byte
	}{
		{"application/vnd.module.wasm.content.layer.v1+wasm", p.Wasm},
		{"application/vnd.module.wasm.config.v1+json", []byte("{}")},
	} {
		mediaType, err := layers[i].MediaType()
		if err != nil || string(mediaType) != want.mediaType {
			t.Errorf("layer %d is %s (%v), want %s", i, mediaType, err, want.mediaType)
		}
		if got := content(t, layers[i].Compressed); !bytes.Equal(got, want.content) {
			t.Errorf("layer %d has %d bytes, want %d", i, len(got), len(want.content))
		}
	}
}

func TestImagesSayWhatTheyAre(t *testing.T) {
	p := trial()
	for _, l := range layouts {
		m := must[*v1.Manifest](t)(must[v1.Image](t)(l.make(p)).Manifest())
		for key, want := range map[string]string{
			"org.opencontainers.image.title": "trial.wasm", "org.opencontainers.image.version": "v0.1.0",
			"org.opencontainers.image.revision": "0123456789ab", "org.opencontainers.image.created": "2026-01-02T02:04:05Z",
			"org.opencontainers.image.licenses": "Apache-2.0", AnnotationSHA256: p.SHA256(),
		} {
			if got := m.Annotations[key]; got != want {
				t.Errorf("%s%s: %q, want %q", "image", l.suffix, got, want)
			}
		}
		nameless := p
		nameless.Version, nameless.Revision = "", ""
		m = must[*v1.Manifest](t)(must[v1.Image](t)(l.make(nameless)).Manifest())
		always := 5
		if l.suffix == "" {
			always++ // which of the layouts it is
		}
		if len(m.Annotations) != always {
			t.Errorf("image%s of no release says %v", l.suffix, m.Annotations)
		}
	}
}
