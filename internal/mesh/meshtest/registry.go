package meshtest

import (
	"io"
	"log"
	"net"
	"net/http"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"sentinel-envoy/internal/image/oci"
)

// User and Password are what a private Registry asks for.
const (
	User     = "puller"
	Password = "secret"
)

// Layout is how an image holds the artefact: oci.Compat or oci.Artifact, as make image writes both.
type Layout func(oci.Plugin) (v1.Image, error)

// StartRegistry runs a registry with the artefact as an image of a layout, and gives the image's name, such as
// 127.0.0.1:5000/sentinel:1.0.0. A private one gives it only to User.
func StartRegistry(t testing.TB, private bool, layout Layout) (image string) {
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
	push(t, image, private, layout)
	return image
}

// push writes the artefact as an image of a layout.
func push(t testing.TB, image string, private bool, layout Layout) {
	t.Helper()
	content, err := layout(oci.Plugin{Wasm: []byte(read(t, Wasm(t))), Name: "sentinel.wasm"})
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
