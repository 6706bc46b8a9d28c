package kubernetes

import (
	"net/http"
	"os/exec"
	"strings"
	"testing"

	"sentinel-envoy/internal/envoytest"
	"sentinel-envoy/internal/mesh/meshtest"
	"sentinel-envoy/internal/ruleserver"
	"sentinel-envoy/internal/rulestore"
	"sentinel-envoy/shared/config"
)

// TestConfigMap keeps rules in a ConfigMap. A filter reads them over the API, by TLS, as a service account that may get that one and
// nothing else, whose token Envoy adds from a file; they are written through `kubectl proxy`, as `sentinel convert` and `sentinel
// dashboard` do.
func TestConfigMap(t *testing.T) {
	c := &cluster{t: t, dir: t.TempDir(), kubectl: meshtest.Program(t, "kubectl")}
	c.startKubernetes()
	c.apply(meshtest.Data(t, "rules.yaml"))
	store := c.ruleStore()
	c.put(store, ruleserver.Gate(false))
	e := c.startEnvoy(strings.TrimSpace(c.run("kubectl create token sentinel --namespace shop --duration 1h")))
	for _, open := range []bool{false, true, false} {
		c.put(store, ruleserver.Gate(open))
		c.gateIs(e, open)
	}
	if n := e.Sum("sentinel_datasource_errors"); n != 0 {
		t.Errorf("%v errors", n)
	}
	// Who may not read any more keeps the last rules.
	c.run("kubectl delete rolebinding sentinel --namespace shop")
	e.WaitLog(soon, "datasource api/.*: error 1 on end: status 403")
	c.put(store, ruleserver.Gate(true))
	c.gateIs(e, false)
	c.apply(meshtest.Data(t, "rules.yaml"))
	c.gateIs(e, true)
	if n := e.Sum("sentinel_faults"); n != 0 {
		t.Errorf("%v faults", n)
	}
}

func (c *cluster) gateIs(e *envoytest.Envoy, open bool) {
	c.t.Helper()
	envoytest.Eventually(c.t, soon, "the gate's rule holds", func() bool {
		return e.Get("http", "/orders").Status == map[bool]int{true: http.StatusOK, false: http.StatusTooManyRequests}[open]
	})
}

// ruleStore is the ConfigMap through `kubectl proxy`.
func (c *cluster) ruleStore() *rulestore.Store {
	c.t.Helper()
	proxy := exec.Command(c.kubectl, "--kubeconfig", c.path("kubeconfig"), "proxy", "--port", "8002")
	if err := proxy.Start(); err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() {
		_ = proxy.Process.Kill()
		_ = proxy.Wait()
	})
	store, err := rulestore.New(config.Origin{Type: config.SourceKubernetes, Namespace: "shop", Name: "sentinel", Key: "rules.json"},
		"http://127.0.0.1:8002", nil)
	if err != nil {
		c.t.Fatal(err)
	}
	return store
}

// put writes the document; the first time that makes the ConfigMap.
func (c *cluster) put(store *rulestore.Store, text string) {
	c.t.Helper()
	envoytest.Eventually(c.t, soon, "the ConfigMap is written", func() bool {
		_, version, _ := store.Read(c.t.Context())
		return store.Write(c.t.Context(), []byte(text), version) == nil
	})
}

// startEnvoy runs a filter that asks the API.
func (c *cluster) startEnvoy(token string) *envoytest.Envoy {
	c.t.Helper()
	c.write("token.yaml", `resources:
- "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret
  name: token
  generic_secret: {secret: {inline_string: "Bearer `+token+`"}}
`)
	web := envoytest.StartHTTPService(c.t)
	return envoytest.Start(c.t, envoytest.Config{Concurrency: 4, Clusters: []map[string]any{c.api()}, Listeners: []envoytest.Listener{
		envoytest.HTTP{Upstream: web.Addr(), Wasm: []envoytest.Wasm{{File: meshtest.Wasm(c.t), RootID: "sentinel_http", Config: `{"datasource": [
			{"type": "kubernetes", "cluster": "api", "authority": "127.0.0.1:6443", "namespace": "shop", "name": "sentinel", "key": "rules.json",
			"interval_ms": 500}]}`}}},
	}})
}

// api is the cluster of the API server, as docs/live-changes.md says it should be.
func (c *cluster) api() map[string]any {
	type object = map[string]any
	return object{
		"name": "api", "type": "STATIC", "connect_timeout": "1s",
		"load_assignment": object{"cluster_name": "api", "endpoints": []object{{"lb_endpoints": []object{{
			"endpoint": object{"address": object{"socket_address": object{"address": "127.0.0.1", "port_value": 6443}}},
		}}}}},
		"transport_socket": object{"name": "tls", "typed_config": object{
			"@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
			"common_tls_context": object{"validation_context": object{
				"trusted_ca":                    object{"filename": c.path("certificates/apiserver.crt")},
				"match_typed_subject_alt_names": []object{{"san_type": "IP_ADDRESS", "matcher": object{"exact": "127.0.0.1"}}},
			}},
		}},
		"typed_extension_protocol_options": object{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": object{
			"@type":                "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
			"explicit_http_config": object{"http_protocol_options": object{}},
			"http_filters": []object{
				{"name": "token", "typed_config": object{
					"@type":     "type.googleapis.com/envoy.extensions.filters.http.credential_injector.v3.CredentialInjector",
					"overwrite": true,
					"credential": object{"name": "envoy.http.injected_credentials.generic", "typed_config": object{
						"@type": "type.googleapis.com/envoy.extensions.http.injected_credentials.generic.v3.Generic",
						"credential": object{"name": "token", "sds_config": object{
							"path_config_source": object{"path": c.path("token.yaml")}, "resource_api_version": "V3"}},
					}},
				}},
				{"name": "codec", "typed_config": object{
					"@type": "type.googleapis.com/envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec"}},
			},
		}},
	}
}
