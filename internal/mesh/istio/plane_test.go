package istio

import (
	"encoding/json"
	"net"
	"os"
	"strings"
	"testing"

	"istio.io/istio/pilot/pkg/config/kube/crd"
	"istio.io/istio/pilot/pkg/features"
	"istio.io/istio/pilot/test/xds"
	"istio.io/istio/pkg/config/mesh"
	"istio.io/istio/pkg/test"
	"sigs.k8s.io/yaml"

	"sentinel-envoy/internal/envoytest"
	"sentinel-envoy/internal/mesh/meshtest"
)

const threshold = 50 // of the rules in envoy/istio

func TestMain(m *testing.M) { os.Exit(meshtest.Run(m)) }

// side is a kind of proxy.
type side struct {
	name     string
	id       string // of Envoy's node
	metadata map[string]any
}

var (
	sidecar = side{"sidecar inbound", "sidecar~127.0.0.1~go-httpbin.default~default.svc.cluster.local", map[string]any{
		"NAMESPACE": "default", "LABELS": map[string]any{"app": "go-httpbin"}, "INTERCEPTION_MODE": "NONE",
	}}
	// Its address is not that of a workload, whose labels it would have.
	gateway = side{"gateway", "router~127.0.0.2~gateway.istio-system~istio-system.svc.cluster.local", map[string]any{
		"NAMESPACE": "istio-system", "LABELS": map[string]any{"istio": "ingressgateway"},
	}}
)

// plane is Istio's control plane, with the mesh of testdata.
type plane struct {
	*xds.FakeDiscoveryServer
	http, tcp string // ports on which proxies listen
}

// startPlane runs a control plane with further resources until the test's end. Those without a namespace are in default.
func startPlane(t *testing.T, resources ...string) *plane {
	t.Helper()
	test.SetForTest(t, &features.MetadataExchange, false) // by filters that only Istio's Envoy has
	ports := meshtest.FreePorts(t, 2)
	base := meshtest.Data(t, "mesh.yaml", "$HTTP_PORT", ports[0], "$TCP_PORT", ports[1],
		"$HTTP_SERVICE", meshtest.Port(t, envoytest.StartHTTPService(t).Addr()),
		"$TCP_SERVICE", meshtest.Port(t, envoytest.StartTCPService(t, "hello\n").Addr()))
	config, err := mesh.ApplyMeshConfigDefaults(meshtest.Resource(t, "envoy/istio/mesh-config.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return &plane{xds.NewFakeDiscoveryServer(t, xds.FakeOptions{
		ConfigString:    strings.Join(append([]string{base}, resources...), "\n---\n"),
		MeshConfig:      config,
		ListenerBuilder: func() (net.Listener, error) { return net.Listen("tcp", "127.0.0.1:0") },
	}), ports[0], ports[1]}
}

// apply creates or changes resources, like `kubectl apply`.
func (p *plane) apply(t *testing.T, resources string) {
	t.Helper()
	configs, _, err := crd.ParseInputs(resources)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range configs {
		if c.Namespace == "" {
			c.Namespace = "default"
		}
		change := p.Store().Create
		if old := p.Store().Get(c.GroupVersionKind, c.Name, c.Namespace); old != nil {
			change = p.Store().Update
		}
		if _, err := change(c); err != nil {
			t.Fatal(err)
		}
	}
}

// start runs an Envoy as a proxy until the test's end, with the labels of envoy/istio/bootstrap.yaml added as Istio's agent
// adds them.
func (p *plane) start(t *testing.T, s side) *envoytest.Envoy {
	t.Helper()
	s.metadata["ISTIO_VERSION"], s.metadata["CLUSTER_ID"] = "1.31.0", "Kubernetes"
	metadata, err := json.Marshal(s.metadata)
	if err != nil {
		t.Fatal(err)
	}
	var override struct {
		Data map[string]string
	}
	if err := yaml.Unmarshal([]byte(meshtest.Resource(t, "envoy/istio/bootstrap.yaml")), &override); err != nil {
		t.Fatal(err)
	}
	return envoytest.Start(t, envoytest.Config{
		Bootstrap: []byte(meshtest.Data(t, "proxy.yaml", "$ID", s.id, "$METADATA", string(metadata),
			"$XDS", meshtest.Port(t, p.Listener.Addr().String()))),
		Args: []string{"--config-yaml", override.Data["custom_bootstrap.json"]},
	})
}

// load goes to both ports.
func (p *plane) load() meshtest.Offer {
	return meshtest.Offer{HTTP: "127.0.0.1:" + p.http, TCP: "127.0.0.1:" + p.tcp}
}
