package oci

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// start runs a registry for the test, and returns where a repository of it is. The keychain has what config says alone.
func start(t *testing.T, config string, wrap func(http.Handler) http.Handler, o ...registry.Option) string {
	t.Helper()
	server := httptest.NewServer(wrap(registry.New(append(o, registry.Logger(log.New(io.Discard, "", 0)))...)))
	t.Cleanup(server.Close)
	address := strings.TrimPrefix(server.URL, "http://")
	dir := t.TempDir()
	config = strings.ReplaceAll(config, "REGISTRY", address)
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("DOCKER_CONFIG", dir)
	return address + "/my/sentinel"
}

func open(h http.Handler) http.Handler { return h }

func documents() []Attachment {
	return []Attachment{{Type: TypeSBOM, Name: "trial.cdx.json", Content: []byte(`{"bomFormat":"CycloneDX"}`)},
		{Type: TypeChecksum, Name: "trial.wasm.sha256", Content: []byte("00  trial.wasm\n")}}
}

// TestWhatIsPulledIsWhatWasPushed looks up by tag both images in a registry, and by their digests what is attached: in one
// that lists what refers to an image, and in an older one, where a tag does.
func TestWhatIsPulledIsWhatWasPushed(t *testing.T) {
	p := trial()
	for _, lists := range []bool{true, false} {
		t.Run(fmt.Sprintf("lists=%t", lists), func(t *testing.T) {
			repository := start(t, "{}", open, registry.WithReferrersSupport(lists))
			bundle := must[[]Tagged](t)(Bundle(p, "v0.1.0", documents()))
			for range 2 { // what is there already is no mistake
				if err := Push(t.Context(), repository, bundle); err != nil {
					t.Fatal(err)
				}
			}
			for i, tag := range []string{"v0.1.0", "v0.1.0-artifact"} {
				pulled := must[v1.Image](t)(remote.Image(must[name.Tag](t)(name.NewTag(repository + ":" + tag))))
				got, want := must[v1.Hash](t)(pulled.Digest()), must[v1.Hash](t)(bundle[i].Image.Digest())
				if got != want {
					t.Errorf("%s is %s, want %s", tag, got, want)
				}
				layer := must[[]v1.Layer](t)(pulled.Layers())[0]
				if !bytes.Contains(content(t, layer.Uncompressed), p.Wasm) {
					t.Errorf("%s has another plugin", tag)
				}
				seeAttached(t, must[name.Digest](t)(name.NewDigest(repository+"@"+want.String())))
			}
		})
	}
}

// seeAttached pulls what refers to an image.
func seeAttached(t *testing.T, image name.Digest) {
	t.Helper()
	index := must[*v1.IndexManifest](t)(must[v1.ImageIndex](t)(remote.Referrers(image)).IndexManifest())
	found := map[string]Attachment{}
	for _, d := range index.Manifests {
		pulled := must[v1.Image](t)(remote.Image(image.Context().Digest(d.Digest.String())))
		m := must[*v1.Manifest](t)(pulled.Manifest())
		layer := must[[]v1.Layer](t)(pulled.Layers())[0]
		found[m.ArtifactType] = Attachment{Type: m.ArtifactType, Name: m.Layers[0].Annotations[annotationTitle],
			Content: content(t, layer.Uncompressed)}
	}
	for _, want := range documents() {
		if got := found[want.Type]; !reflect.DeepEqual(got, want) {
			t.Errorf("attached is %+v, want %+v", got, want)
		}
	}
	if len(index.Manifests) != len(documents()) {
		t.Errorf("%d documents are attached: %+v", len(index.Manifests), found)
	}
}

// A registry that asks for credentials gets those that the user's container tools have stored, and no others.
func TestPushGivesTheStoredCredentials(t *testing.T) {
	guard := func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if user, password, _ := r.BasicAuth(); user != "me" || password != "secret" {
				w.Header().Set("WWW-Authenticate", `Basic realm="registry"`)
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			h.ServeHTTP(w, r)
		})
	}
	bundle := must[[]Tagged](t)(Bundle(trial(), "v0.1.0", nil))
	repository := start(t, `{"auths": {"REGISTRY": {"username": "me", "password": "secret"}}}`, guard)
	if err := Push(t.Context(), repository, bundle); err != nil {
		t.Error(err)
	}
	repository = start(t, `{"auths": {"other.example.com": {"username": "me", "password": "secret"}}}`, guard)
	if err := Push(t.Context(), repository, bundle); err == nil || !strings.Contains(err.Error(), repository) {
		t.Errorf("without credentials: %v, want an error that names %s", err, repository)
	}
}
