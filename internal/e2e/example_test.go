package e2e

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"sentinel-envoy/internal/envoytest"
	"sentinel-envoy/internal/plugintest"
	"sentinel-envoy/internal/quickstart"
)

// example runs a file below envoy/examples as it is, but for its ports: those of the listeners and of the admin interface
// are free ones, that of web_service is upstream's, a host:port. edit, where given, changes the rendered file.
func example(t *testing.T, name, upstream string, edit ...func([]byte) []byte) *envoytest.Envoy {
	t.Helper()
	bootstrap, err := os.ReadFile(filepath.Join(root, "envoy/examples", name))
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(upstream)
	if err != nil {
		t.Fatal(err)
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	rendered, err := quickstart.Render(bootstrap, quickstart.Ports{Upstream: number}, plugintest.File(t, release))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range edit {
		rendered = f(rendered)
	}
	return start(t, envoytest.Config{Bootstrap: rendered})
}
