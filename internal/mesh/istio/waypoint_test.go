package istio

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"istio.io/istio/pilot/pkg/features"
	"istio.io/istio/pilot/pkg/model"
	"istio.io/istio/pilot/test/xds"
	"istio.io/istio/pkg/config/constants"
	"istio.io/istio/pkg/test"

	"sentinel-envoy/internal/envoytest"
	"sentinel-envoy/internal/mesh/meshtest"
)

// pluginName is what istiod calls the filter of envoy/istio/waypoint.yaml.
const pluginName = "extensions.istio.io/trafficextension/default.sentinel~istio-translated-wasmplugin"

type object = map[string]any

// waypointPlane is a control plane whose mesh has a Service with a waypoint, and that waypoint.
func waypointPlane(t *testing.T) (*xds.FakeDiscoveryServer, *model.Proxy) {
	t.Helper()
	test.SetForTest(t, &features.MetadataExchange, false) // by filters that only Istio's Envoy has
	test.SetForTest(t, &features.EnableAmbient, true)
	test.SetForTest(t, &features.EnableAmbientWaypoints, true)
	service := envoytest.StartHTTPService(t).Addr()
	objects := meshtest.Data(t, "ambient.yaml", "$HTTP_SERVICE", meshtest.Port(t, service))
	plugin := meshtest.Resource(t, "envoy/istio/waypoint.yaml", noImage, "file://"+meshtest.Wasm(t))
	p := xds.NewFakeDiscoveryServer(t, xds.FakeOptions{
		ConfigString: objects + "\n---\n" + plugin, KubernetesObjectString: objects,
	})
	return p, p.SetupProxy(&model.Proxy{
		Type: model.Waypoint, ConfigNamespace: "default", IPAddresses: []string{"10.0.1.2"},
		Labels: map[string]string{
			"gateway.networking.k8s.io/gateway-name": "waypoint",
			"gateway.istio.io/managed":               constants.ManagedGatewayMeshControllerLabel,
		},
	})
}

// istiod puts the plugin into the chain of the Service alone.
func TestWaypointGuardsItsService(t *testing.T) {
	p, proxy := waypointPlane(t)
	var guarded []string
	for _, l := range p.Listeners(proxy) {
		for _, c := range l.FilterChains {
			for _, f := range c.Filters {
				if strings.Contains(protojson.Format(f), pluginName) {
					guarded = append(guarded, c.Name)
				}
			}
		}
	}
	const want = "inbound-vip|8000|http|go-httpbin.default.svc.cluster.local"
	if !slices.Equal(guarded, []string{want}) {
		t.Errorf("the filter is in the chains %q, want %q", guarded, want)
	}
}

// A stock Envoy runs what istiod makes for a waypoint, but for what only Istio's Envoy has. Its certificates come from files,
// where an agent would bring them. Clients and the pod are those of ztunnels: HBONE with mTLS on either side.
func TestWaypointLimits(t *testing.T) {
	p, proxy := waypointPlane(t)
	trust := meshtest.NewTrust(t)
	z := meshtest.StartZtunnel(t, trust, "default")
	w := &waypoint{
		t: t, port: meshtest.FreePorts(t, 1)[0], ztunnel: meshtest.Port(t, z.Addr),
		rules: filepath.Join(t.TempDir(), "rules.json"), secrets: trust.Secrets("waypoint"),
	}
	for _, l := range p.Listeners(proxy) {
		w.addListener(asObject(t, l))
	}
	endpoints := map[string]object{}
	for _, e := range p.Endpoints(proxy) {
		endpoints[e.ClusterName] = asObject(t, e)
	}
	for _, c := range p.Clusters(proxy) {
		w.addCluster(asObject(t, c), endpoints)
	}
	extensions := p.ConfigGen.BuildExtensionConfiguration(proxy, p.PushContext(), []string{pluginName}, nil)
	if len(extensions) != 1 {
		t.Fatalf("istiod makes %d extensions, want 1", len(extensions))
	}
	w.writeRules(asObject(t, extensions[0]))

	e := envoytest.Start(t, envoytest.Config{Bootstrap: w.bootstrap()})
	addr := "127.0.0.1:" + w.port
	if err := meshtest.Refused(envoytest.Context(t, soon), addr); err == nil || !strings.Contains(err.Error(), "certificate required") {
		t.Errorf("a client without a certificate: %v", err)
	}
	tunnel := z.Tunnel(t, addr, "10.0.0.1:8000", "client")
	b := meshtest.Measure(t, meshtest.Of(e), meshtest.Offer{HTTP: tunnel}, "some-test-qps", threshold)
	b.IsOne(t, threshold)
	meshtest.Row("Istio, in process", "WasmPlugin with targetRefs", "waypoint, HBONE with mTLS", b, threshold)
	if z.Taken.Load() == 0 {
		t.Error("nothing came to the pod by HBONE")
	}
}

// waypoint is what a stock Envoy takes of what istiod makes.
type waypoint struct {
	t                   *testing.T
	port                string // on which it takes HBONE
	ztunnel             string // port of the pod's
	rules               string // file, in place of extension discovery
	secrets             string // folder, in place of an agent
	listeners, clusters []object
}

// addListener makes the outer listener listen on the loopback interface.
func (w *waypoint) addListener(l object) {
	if l["name"] == "connect_terminate" {
		l["address"] = object{"socketAddress": object{"address": "127.0.0.1", "portValue": json.Number(w.port)}}
	}
	w.adapt(l)
	w.listeners = append(w.listeners, l)
}

// addCluster puts the endpoints into a cluster that would discover them. The pod is where the service listens.
func (w *waypoint) addCluster(c object, endpoints map[string]object) {
	if c["name"] == "connect_originate" {
		c["originalDstLbConfig"].(object)["upstreamPortOverride"] = json.Number(w.ztunnel)
	}
	w.adapt(c)
	if c["type"] == "EDS" {
		assignment, err := json.Marshal(endpoints[c["name"].(string)])
		if err != nil {
			w.t.Fatal(err)
		}
		delete(c, "edsClusterConfig")
		c["type"], c["loadAssignment"] = "STATIC", json.RawMessage(strings.ReplaceAll(string(assignment), "10.0.1.1", "127.0.0.1"))
	}
	w.clusters = append(w.clusters, c)
}

// adapt removes filters that only Istio's Envoy has, and has it find plugin and secrets in files.
func (w *waypoint) adapt(value any) {
	switch value := value.(type) {
	case object:
		if filters, ok := value["httpFilters"].([]any); ok {
			value["httpFilters"] = slices.DeleteFunc(filters, func(f any) bool {
				return strings.HasSuffix(f.(object)["name"].(string), "_peer_metadata")
			})
		}
		if discovery, ok := value["configDiscovery"].(object); ok {
			discovery["configSource"] = object{"pathConfigSource": object{"path": w.rules}, "resourceApiVersion": "V3"}
		}
		if _, ok := value["sdsConfig"].(object); ok {
			file := filepath.Join(w.secrets, value["name"].(string)+".json")
			value["sdsConfig"] = object{"pathConfigSource": object{"path": file}, "resourceApiVersion": "V3"}
		}
		for _, v := range value {
			w.adapt(v)
		}
	case []any:
		for _, v := range value {
			w.adapt(v)
		}
	}
}

// writeRules writes the plugin as the file that stands for extension discovery.
func (w *waypoint) writeRules(extension object) {
	extension["@type"] = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig"
	text, err := json.Marshal(object{"resources": []any{extension}})
	if err == nil {
		err = os.WriteFile(w.rules, text, 0o644)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *waypoint) bootstrap() []byte {
	text, err := json.Marshal(object{
		"node":  object{"id": "waypoint", "cluster": "test"},
		"admin": object{"address": object{"socketAddress": object{"address": "127.0.0.1", "portValue": 0}}},
		"bootstrapExtensions": []any{object{"name": "envoy.bootstrap.internal_listener", "typedConfig": object{
			"@type": "type.googleapis.com/envoy.extensions.bootstrap.internal_listener.v3.InternalListener",
		}}},
		"staticResources": object{"listeners": w.listeners, "clusters": w.clusters},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return text
}

// asObject is a message as JSON has it.
func asObject(t *testing.T, m proto.Message) (o object) {
	t.Helper()
	text, err := protojson.Marshal(m)
	if err == nil {
		err = json.Unmarshal(text, &o)
	}
	if err != nil {
		t.Fatal(err)
	}
	return o
}
