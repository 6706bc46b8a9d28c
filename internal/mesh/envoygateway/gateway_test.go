package envoygateway

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sentinel-envoy/internal/envoybin"
	"sentinel-envoy/internal/envoytest"
	"sentinel-envoy/internal/mesh/meshtest"
)

const (
	// version is the Envoy that Envoy Gateway 1.7 is made for, but for the last digit.
	version = "1.37.0"
	// workers is the EnvoyProxy's concurrency.
	workers = 2
	// threshold is that of the rules in envoy/gateway.
	threshold = 50
	plane     = "Envoy Gateway 1.7.1"
)

func TestMain(m *testing.M) {
	os.Exit(meshtest.Isolated(m, meshtest.Needs{Programs: []string{"envoy-gateway"}, Envoy: version}))
}

// gateway is a running Envoy Gateway with its Envoy.
type gateway struct {
	*meshtest.Running
	dir   string
	proxy meshtest.Proxy
}

// start runs Envoy Gateway with the Gateway of envoy/gateway and further resources until the test's end. They are in the
// namespace default where they do not say.
func start(t *testing.T, resources ...string) *gateway {
	t.Helper()
	g := prepare(t, resources...)
	g.launch(t)
	g.proxy = meshtest.Proxy{Admin: g.admin(), Log: g.Log}
	return g
}

// prepare writes what Envoy Gateway reads.
func prepare(t *testing.T, resources ...string) *gateway {
	t.Helper()
	g := &gateway{dir: t.TempDir()}
	g.placeEnvoy(t)
	program := meshtest.Program(t, "envoy-gateway")
	meshtest.Output(t, g.dir, nil, program, "certgen", "--local", "--config-home", filepath.Join(g.dir, "config"))
	if err := os.MkdirAll(filepath.Join(g.dir, "resources"), 0o755); err != nil {
		t.Fatal(err)
	}
	g.apply(t, "class.yaml", meshtest.Data(t, "class.yaml", "$DIR", g.dir, "$VERSION", version,
		"$HTTP_SERVICE", meshtest.Port(t, envoytest.StartHTTPService(t).Addr()),
		"$TCP_SERVICE", meshtest.Port(t, envoytest.StartTCPService(t, "hello\n").Addr()),
		"$CA", g.secret(t, "envoy/ca.crt"), "$CERT", g.secret(t, "envoy/tls.crt"), "$KEY", g.secret(t, "envoy/tls.key"),
		"$HMAC", g.secret(t, "envoy-oidc-hmac/hmac-secret")))
	g.apply(t, "go-httpbin.yaml", meshtest.Resource(t, "envoy/gateway/go-httpbin.yaml",
		"name: go-httpbin\n          port: 8000", "{group: gateway.envoyproxy.io, kind: Backend, name: go-httpbin-http}",
		"name: go-httpbin\n          port: 9000", "{group: gateway.envoyproxy.io, kind: Backend, name: go-httpbin-tcp}"))
	for _, r := range resources {
		g.apply(t, "", r)
	}
	return g
}

func (g *gateway) launch(t *testing.T) {
	t.Helper()
	config := filepath.Join(g.dir, "config.yaml")
	if err := os.WriteFile(config, []byte(meshtest.Data(t, "config.yaml", "$DIR", g.dir)), 0o644); err != nil {
		t.Fatal(err)
	}
	g.Running = meshtest.Launch(t, g.dir, nil, meshtest.Program(t, "envoy-gateway"), "server", "--config-path", config)
}

// placeEnvoy puts Envoy where Envoy Gateway looks for the one that it would download.
func (g *gateway) placeEnvoy(t *testing.T) {
	t.Helper()
	envoy, err := envoybin.Find(t.Context(), envoybin.Options{Version: version})
	if err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(g.dir, "data/envoy-versions", version, "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(envoy, filepath.Join(bin, "envoy")); err != nil {
		t.Fatal(err)
	}
}

// secret is a file that certgen has written, as a Secret has it.
func (g *gateway) secret(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(g.dir, "config/certs", name))
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(text)
}

// apply writes resources into a file that Envoy Gateway reads, by a rename: it would read half a file. Without a name the
// file has that of the first resource.
func (g *gateway) apply(t *testing.T, name, text string) {
	t.Helper()
	if name == "" {
		_, after, _ := strings.Cut(text, "\nkind: ")
		kind, _, _ := strings.Cut(after, "\n")
		name = kind + ".yaml"
	}
	text = strings.ReplaceAll(text, "metadata:\n  name:", "metadata:\n  namespace: default\n  name:")
	part := filepath.Join(g.dir, name)
	if err := os.WriteFile(part, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(part, filepath.Join(g.dir, "resources", name)); err != nil {
		t.Fatal(err)
	}
}

// admin is the admin interface of the Envoy that Envoy Gateway starts.
func (g *gateway) admin() (admin *envoytest.Admin) {
	g.Wait("Envoy is live", func() bool {
		files, _ := filepath.Glob(filepath.Join(g.dir, "run/*/admin-address.txt"))
		if len(files) != 1 {
			return false
		}
		addr, err := os.ReadFile(files[0])
		if err != nil {
			return false
		}
		admin = envoytest.NewAdmin(strings.TrimSpace(string(addr)))
		listeners, err := admin.Listeners(g.Context())
		return err == nil && listeners["default/go-httpbin/http"] != "" && listeners["default/go-httpbin/tcp"] != ""
	})
	return admin
}
