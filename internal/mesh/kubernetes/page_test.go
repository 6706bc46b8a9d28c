package kubernetes

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sentinel-envoy/internal/envoytest"
	"sentinel-envoy/internal/image/oci"
	"sentinel-envoy/internal/load"
	"sentinel-envoy/internal/mesh/meshtest"
	"sentinel-envoy/internal/plugintest"
)

const (
	rule    = "some-test-qps"
	noSum   = "0000000000000000000000000000000000000000000000000000000000000000"
	noImage = "registry.example.com/sentinel:1.0.0"
)

// TestPage does what docs/istio.md says, from the first command to the last: each way of delivery from `kubectl apply` to
// `kubectl delete`.
func TestPage(t *testing.T) {
	c := start(t)
	image, files := meshtest.StartRegistry(t, false, oci.Compat), meshtest.ServeWasm(t)
	c.sample()
	t.Run("image", func(t *testing.T) {
		s := c.startSidecar(t, "WASM_INSECURE_REGISTRIES="+strings.Split(image, "/")[0])
		c.edit("wasmplugin.yaml", noImage, image)
		c.page("kubectl apply -f wasmplugin.yaml")
		c.isClean(t, "wasmplugin.yaml")
		c.isOneBudget(t, s, "WasmPlugin, oci://")
		c.seeLimit(t)
		seeLabels(t)
		c.changes(t, s, "wasmplugin.yaml", noImage, image)
		c.page("kubectl delete -f wasmplugin.yaml")
		c.isUnlimited(t, s)
	})
	t.Run("http_uri", func(t *testing.T) {
		s := c.startSidecar(t)
		c.edit("remote.yaml", noSum, meshtest.Sum(t), "http://wasm.example.com", "http://"+files.Addr)
		c.page("kubectl apply -f remote.yaml")
		c.isClean(t, "remote.yaml")
		c.isOneBudget(t, s, "EnvoyFilter, http_uri + sha256")
		c.changes(t, s, "remote.yaml", noSum, meshtest.Sum(t), "http://wasm.example.com", "http://"+files.Addr)
		c.run("kubectl delete -f remote.yaml")
		c.isUnlimited(t, s)
	})
	t.Run("volume", func(t *testing.T) {
		c.edit("wasm-volume.yaml")
		c.edit("deployment-patch.yaml")
		c.page("kubectl apply -f wasm-volume.yaml")
		c.page("kubectl wait --for=condition=complete job/sentinel-wasm")
		before := c.pod().Metadata.Name
		c.page("kubectl patch deployment go-httpbin --patch-file deployment-patch.yaml")
		c.page("kubectl rollout status deployment go-httpbin")
		if c.pod().Metadata.Name == before {
			t.Error("the patch makes no new pod")
		}
		s := c.startSidecar(t)
		c.edit("sidecar.yaml", meshtest.MountedWasm, meshtest.Wasm(t))
		c.page("kubectl apply -f sidecar.yaml")
		c.isClean(t, "sidecar.yaml")
		c.isOneBudget(t, s, "EnvoyFilter, file")
		c.newVersion(t, s)
		c.page("kubectl delete -f sidecar.yaml")
		c.isUnlimited(t, s)
		c.page("kubectl delete -f wasm-volume.yaml")
	})
	t.Run("ConfigMap", func(t *testing.T) {
		file := c.configMap(t)
		s := c.startSidecar(t)
		c.edit("sidecar.yaml", meshtest.MountedWasm, file)
		c.run("kubectl apply -f sidecar.yaml")
		c.isOneBudget(t, s, "EnvoyFilter, ConfigMap with TinyGo's artefact")
		c.run("kubectl delete -f sidecar.yaml")
		c.isUnlimited(t, s)
		c.page("kubectl delete configmap sentinel-wasm")
	})
	c.page("kubectl delete -f go-httpbin.yaml")
	c.page("kubectl delete -f bootstrap.yaml")
	c.page("kubectl label namespace default istio-injection-")
	envoytest.Eventually(t, soon, "nothing of it is left", func() bool {
		left := c.run("kubectl get all,endpointslices,serviceaccounts,configmaps,secrets,pvc,envoyfilters,wasmplugins -o name")
		return !strings.Contains(left, "httpbin") && !strings.Contains(left, "sentinel")
	})
}

// seeLimit runs the command by which the page has one see the limit, but for the pod that curl would be in.
func (c *cluster) seeLimit(t *testing.T) {
	t.Helper()
	_, rest, found := strings.Cut(meshtest.Resource(t, "docs/istio.md"), "\nkubectl run curl --image=curlimages/curl -it --rm -- sh -c '")
	script, _, ended := strings.Cut(rest, "'\n")
	if !found || !ended {
		t.Fatal("docs/istio.md runs no curl")
	}
	c.write("curl/.curlrc", fmt.Sprintf("connect-to = \"go-httpbin:8000:%s\"\n", c.http)) // as the name and the Service do
	out := meshtest.Output(t, c.dir, []string{"CURL_HOME=" + c.path("curl")}, "sh", "-c", script)
	if !regexp.MustCompile(`^ *\d+ 200\n *\d+ 429\n$`).MatchString(out) {
		t.Errorf("curl sees %q", out)
	}
}

// configMap makes the ConfigMap with TinyGo's artefact, and gives the path of the file that a pod would see by it. That of Go
// is refused.
func (c *cluster) configMap(t *testing.T) (file string) {
	t.Helper()
	const command = "kubectl create configmap sentinel-wasm --from-file=sentinel.wasm=dist/sentinel-tiny.wasm"
	c.link("dist/sentinel-tiny.wasm", meshtest.TinyWasm(t))
	c.link("dist/sentinel.wasm", meshtest.Wasm(t))
	if out := c.fails(strings.ReplaceAll(command, "-tiny", "")); !strings.Contains(out, "too large") {
		t.Errorf("a ConfigMap with the artefact of Go: %s", out)
	}
	c.page(command)
	var made struct{ BinaryData map[string][]byte }
	c.decode(&made, "kubectl get configmap sentinel-wasm -o json")
	c.write("mounted/sentinel.wasm", string(made.BinaryData["sentinel.wasm"]))
	return c.path("mounted/sentinel.wasm")
}

// newVersion replaces the plugin by another build of it, under another file name, while load is on: at no time is there more
// than one budget, or none.
func (c *cluster) newVersion(t *testing.T, s *sidecar) {
	t.Helper()
	compiled := func() float64 { return s.proxy.Sum(t, "envoy_wasm_envoy_wasm_runtime_v8_created") }
	before, from := compiled(), meshtest.Newest(t, s.proxy, rule)
	l := plugintest.Offer(t, c.http, load.Options{QPS: 300, Connections: 8})
	meshtest.Admits(t, s.proxy, rule, threshold)
	c.edit("sidecar.yaml", meshtest.MountedWasm, meshtest.TinyWasm(t))
	c.run("kubectl apply -f sidecar.yaml")
	s.Wait("Envoy has the other file", func() bool { return compiled() > before })
	meshtest.Admits(t, s.proxy, rule, threshold)
	sum := l.Stop(t)
	if rate := float64(sum.Passed) / sum.Elapsed.Seconds(); rate > 1.6*threshold {
		t.Errorf("%.0f/s passed of %d: something was not guarded", rate, threshold)
	}
	meshtest.Within(t, s.proxy, rule, from, threshold)
}

// page runs a command that docs/istio.md has.
func (c *cluster) page(command string) {
	c.t.Helper()
	if !strings.Contains(meshtest.Resource(c.t, "docs/istio.md"), "\n"+command+"\n") {
		c.t.Fatalf("docs/istio.md does not say: %s", command)
	}
	c.run(command)
}

// isClean fails the test where istioctl finds anything to say of a file, but for IST0133, which it says of all EnvoyFilters.
func (c *cluster) isClean(t *testing.T, file string) {
	t.Helper()
	path := c.path("istio/" + file)
	const ofAll = "EnvoyFilter exposes internal implementation details"
	if out := c.istioctl(t, "validate", "-f", path); !strings.Contains(out, "is valid") && !strings.Contains(out, ofAll) {
		t.Errorf("istioctl validate: %s", out)
	}
	out := c.istioctl(t, "analyze", "--use-kube=false", path)
	for _, code := range regexp.MustCompile(`IST\d+`).FindAllString(out, -1) {
		if code != "IST0133" {
			t.Errorf("istioctl analyze: %s", out)
		}
	}
	if !strings.Contains(out, "IST0133") && !strings.Contains(out, "No validation issues found") {
		t.Errorf("istioctl analyze says nothing that is known: %s", out)
	}
}

// istioctl gives all that it writes.
func (c *cluster) istioctl(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), meshtest.Program(t, "istioctl"), args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+c.path("kubeconfig"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("istioctl %s: %v: %s", args[0], err, out)
	}
	return string(out)
}

// isOneBudget puts load on the port 15006 of the sidecar.
func (c *cluster) isOneBudget(t *testing.T, s *sidecar, way string) {
	t.Helper()
	b := meshtest.Measure(t, s.proxy, meshtest.Offer{HTTP: c.http, TCP: c.tcp}, rule, threshold)
	b.IsOne(t, threshold)
	meshtest.Row(plane, way, "sidecar inbound, 15006", b, threshold)
}

// changes applies the file with another threshold under load, and then the one before: at no time may a window admit more
// than the larger threshold, and no connection be closed.
func (c *cluster) changes(t *testing.T, s *sidecar, file string, oldnew ...string) {
	t.Helper()
	const connections = 8
	from := meshtest.Newest(t, s.proxy, rule)
	l := plugintest.Offer(t, c.http, load.Options{QPS: 300, Connections: connections})
	meshtest.Admits(t, s.proxy, rule, threshold)
	c.edit(file, append(oldnew, "threshold: 50", "threshold: 100")...)
	c.run("kubectl apply -f " + file)
	meshtest.Admits(t, s.proxy, rule, 100)
	c.edit(file, oldnew...)
	c.run("kubectl apply -f " + file)
	meshtest.Admits(t, s.proxy, rule, threshold)
	sum := l.Stop(t)
	if n := sum.Failed - sum.Errors["interrupted"]; n != 0 || sum.Connections != connections {
		t.Errorf("%d requests failed (%v, %v), %d connections were opened, want 0 and %d",
			n, sum.Status, sum.Errors, sum.Connections, connections)
	}
	meshtest.Within(t, s.proxy, rule, from, 100)
}

// isUnlimited waits until the filters are gone.
func (c *cluster) isUnlimited(t *testing.T, s *sidecar) {
	t.Helper()
	s.Wait("nothing limits", func() bool {
		sum := plugintest.Offer(t, c.http, load.Options{QPS: 400, Connections: 4, Requests: 200}).Wait(t)
		return sum.Passed == 200
	})
}

// seeLabels fails the test where a metric of ours is on the port for Prometheus without its labels.
func seeLabels(t *testing.T) {
	t.Helper()
	r, err := http.Get("http://127.0.0.1:15090/stats/prometheus")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	const want = `sentinel_blocked{resource="some-test",rule="some-test-qps",kind="flow"}`
	if !strings.Contains(string(text), want) {
		t.Errorf("no metric %s on :15090", want)
	}
}

// While there is no Wasm, the agent lets nothing pass, unless the plugin says FAIL_OPEN.
func TestPullSecretAndFailingDownload(t *testing.T) {
	c := start(t)
	image := meshtest.StartRegistry(t, true, oci.Compat)
	c.sample()
	s := c.startSidecar(t, "WASM_INSECURE_REGISTRIES="+strings.Split(image, "/")[0])
	status := func(want int) {
		t.Helper()
		s.Wait(fmt.Sprintf("the status is %d", want), func() bool { return c.status(t) == want })
	}
	edits := []string{noImage, image}
	status(http.StatusOK)
	c.edit("wasmplugin.yaml", edits...)
	c.run("kubectl apply -f wasmplugin.yaml")
	status(http.StatusForbidden)
	c.edit("wasmplugin.yaml", append(edits, "failStrategy: FAIL_RELOAD", "failStrategy: FAIL_OPEN")...)
	c.run("kubectl apply -f wasmplugin.yaml")
	status(http.StatusOK)

	credentials := base64.StdEncoding.EncodeToString([]byte(meshtest.User + ":" + meshtest.Password))
	c.write("config.json", fmt.Sprintf(`{"auths": {%q: {"auth": %q}}}`, strings.Split(image, "/")[0], credentials))
	c.run("kubectl create secret generic registry --type=kubernetes.io/dockerconfigjson --from-file=.dockerconfigjson=" +
		filepath.ToSlash(c.path("config.json")))
	c.edit("wasmplugin.yaml", append(edits, "# imagePullSecret: registry", "imagePullSecret: registry")...)
	c.run("kubectl apply -f wasmplugin.yaml")
	c.isOneBudget(t, s, "WasmPlugin, oci:// with imagePullSecret")
}

// status is that of one request on a connection of its own.
func (c *cluster) status(t *testing.T) int {
	t.Helper()
	client := envoytest.NewHTTPClient(false)
	defer client.CloseIdleConnections()
	r, err := envoytest.Do(t.Context(), client, http.MethodGet, "http://"+c.http+"/")
	if err != nil {
		return 0
	}
	return r.Status
}
