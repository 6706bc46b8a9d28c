package meshtest

import (
	"archive/tar"
	"bytes"
	"io"
	"log"
	"net"
	"net/http"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// User and Password are what a private Registry asks for.
const (
	User     = "puller"
	Password = "secret"
)

// StartRegistry runs a registry with the artefact as an image of the compat layout, and gives the image's name, such as
// 127.0.0.1:5000/sentinel:1.0.0. A private one gives it only to User.
func StartRegistry(t testing.TB, private bool) (image string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	open := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		if private && r.Method == http.MethodGet && (user != User || password != Password) {
			w.Header().Set("WWW-Authenticate", `Basic realm="https://registry.example.com"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		open.ServeHTTP(w, r)
	})}
	go server.Serve(listener)
	t.Cleanup(func() { server.Close() })
	image = listener.Addr().String() + "/sentinel:1.0.0"
	push(t, image, private)
	return image
}

// push writes an image of one layer with plugin.wasm in it.
func push(t testing.TB, image string, private bool) {
	t.Helper()
	open := func() (io.ReadCloser, error) { return archive(t), nil }
	layer, err := tarball.LayerFromOpener(open, tarball.WithMediaType(types.OCILayer))
	if err != nil {
		t.Fatal(err)
	}
	content, err := mutate.AppendLayers(mutate.MediaType(empty.Image, types.OCIManifestSchema1), layer)
	if err != nil {
		t.Fatal(err)
	}
	ref, err := name.ParseReference(image, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	options := []remote.Option{remote.WithContext(t.Context())}
	if private {
		options = append(options, remote.WithAuth(&authn.Basic{Username: User, Password: Password}))
	}
	if err := remote.Write(ref, content, options...); err != nil {
		t.Fatal(err)
	}
}

func archive(t testing.TB) io.ReadCloser {
	t.Helper()
	wasm := read(t, Wasm(t))
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: "plugin.wasm", Mode: 0o644, Size: int64(len(wasm))}); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, wasm); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return io.NopCloser(&b)
}
