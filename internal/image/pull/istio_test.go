package pull

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
	"istio.io/istio/pkg/wasm"

	"sentinel-envoy/internal/envoytest"
	"sentinel-envoy/internal/image/oci"
)

const (
	user     = "me"
	password = "secret"
	tag      = "v0.1.0"
)

// credentials are what a pull secret of type kubernetes.io/dockerconfigjson holds.
func credentials(registry, password string) string {
	auth := base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
	return fmt.Sprintf(`{"auths": {%q: {"auth": %q}}}`, registry, auth)
}

// private runs a registry that asks for credentials until the test's end, and stores them as container tools do: Push finds
// them. It gives where the registry is.
func private(t *testing.T) (address string) {
	t.Helper()
	open := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if u, p, _ := r.BasicAuth(); u != user || p != password {
			// Istio 1.31 takes the realm for a URL, of any scheme of authentication, and refuses what is none.
			w.Header().Set("WWW-Authenticate", `Basic realm="https://registry.example.com"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		open.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	address = strings.TrimPrefix(server.URL, "http://")
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(credentials(address, password)), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("DOCKER_CONFIG", dir)
	return address
}

// plugin is the artefact of the project, as make wasm or make tinygo left it.
func plugin(t *testing.T, name string) oci.Plugin {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("../../../dist", name))
	if os.IsNotExist(err) {
		t.Skipf("no dist/%s: make wasm tinygo", name)
	}
	if err != nil {
		t.Fatal(err)
	}
	return oci.Plugin{Wasm: content, Name: name, Version: tag, Created: time.Unix(0, 0)}
}

// pushed has both images of a plugin in a private registry.
func pushed(t *testing.T, p oci.Plugin) (registry, repository string, images []oci.Tagged) {
	t.Helper()
	registry = private(t)
	repository = registry + "/my/sentinel"
	images, err := oci.Bundle(p, tag, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := oci.Push(context.Background(), repository, images); err != nil {
		t.Fatal(err)
	}
	t.Setenv("DOCKER_CONFIG", t.TempDir()) // who pulls has no credentials but those of its pull secret
	return registry, repository, images
}

// fetch has Istio's agent fetch what a WasmPlugin's url names, and gives the file that it would tell Envoy of.
func fetch(t *testing.T, url, sha256, secret string) (path string, err error) {
	t.Helper()
	cache := wasm.NewLocalFileCache(t.TempDir(), wasm.Options{})
	t.Cleanup(cache.Cleanup)
	return cache.Get(url, wasm.GetOptions{Checksum: sha256, ResourceName: "sentinel", ResourceVersion: "1",
		RequestTimeout: 30 * time.Second, PullSecret: []byte(secret)})
}

// TestIstioPullsAndEnvoyRuns fetches each image of both artefacts as Istio's agent does, with a pull secret, and has an
// Envoy limit requests with the file.
func TestIstioPullsAndEnvoyRuns(t *testing.T) {
	service := envoytest.StartHTTPService(t)
	for _, name := range []string{"sentinel.wasm", "sentinel-tiny.wasm"} {
		p := plugin(t, name)
		registry, repository, images := pushed(t, p)
		for _, image := range images {
			t.Run(name+"/"+image.Tag, func(t *testing.T) {
				path, err := fetch(t, "oci://"+repository+":"+image.Tag, "", credentials(registry, password))
				if err != nil {
					t.Fatal(err)
				}
				content, err := os.ReadFile(path)
				if got := (oci.Plugin{Wasm: content}).SHA256(); err != nil || got != p.SHA256() {
					t.Fatalf("the plugin's SHA-256 is %s (%v), want %s", got, err, p.SHA256())
				}
				seeLimit(t, path, service.Addr())
			})
		}
	}
}

// seeLimit runs Envoy with a plugin whose rule admits three requests in ten minutes.
func seeLimit(t *testing.T, path, upstream string) {
	t.Helper()
	filter := envoytest.Wasm{RootID: "sentinel_http", File: path,
		Config: `{"flowRules": [{"id": "few", "resource": "/few", "threshold": 3, "statIntervalInMs": 600000}]}`}
	listener := envoytest.HTTP{Upstream: upstream, Wasm: []envoytest.Wasm{filter}}
	e := envoytest.Start(t, envoytest.Config{Listeners: []envoytest.Listener{listener}})
	admitted := 0
	for range 10 {
		if e.Get("http", "/few").Status == http.StatusOK {
			admitted++
		}
	}
	if admitted != 3 {
		t.Errorf("%d of 10 requests were admitted, want 3", admitted)
	}
}

// For an image, a WasmPlugin's sha256 is that of its manifest, which registries call its digest, and not the plugin's own.
func TestIstioChecksTheDigest(t *testing.T) {
	p := plugin(t, "sentinel.wasm")
	registry, repository, images := pushed(t, p)
	digest, err := images[0].Image.Digest()
	if err != nil {
		t.Fatal(err)
	}
	url, secret := "oci://"+repository, credentials(registry, password)
	for name, c := range map[string]struct{ url, sha256, secret, fails string }{
		"sha256 of the image":  {url + ":" + tag, digest.Hex, secret, ""},
		"sha256 of the plugin": {url + ":" + tag, p.SHA256(), secret, "does not match"},
		"pinned by digest":     {url + "@" + digest.String(), "", secret, ""},
		"no such tag":          {url + ":v9", "", secret, "could not fetch manifest"},
		"wrong password":       {url + ":" + tag, "", credentials(registry, "other"), "401"},
		"other registry":       {url + ":" + tag, "", credentials("registry.example.com", password), "401"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := fetch(t, c.url, c.sha256, c.secret)
			if c.fails == "" && err != nil || c.fails != "" && (err == nil || !strings.Contains(err.Error(), c.fails)) {
				t.Errorf("error %v, want one with %q", err, c.fails)
			}
		})
	}
}
