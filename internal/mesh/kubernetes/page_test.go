package kubernetes

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

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
		c.edit("remote.yaml", "http://wasm.example.com", "http://"+files.Addr) // with another file's sum
		c.run("kubectl apply -f remote.yaml")
		c.passes(t, s, false)
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
	t.Run("gateway and waypoint", func(t *testing.T) { // run by other tests; here they are taken
		for _, file := range []string{"gateway.yaml", "waypoint.yaml"} {
			c.edit(file)
			c.page("kubectl apply -f " + file)
			c.isClean(t, file)
			c.run("kubectl delete -f " + file)
		}
		c.page("kubectl apply -n istio-system -f bootstrap.yaml")
		c.page("kubectl label service go-httpbin istio.io/use-waypoint=waypoint")
	})
	t.Run("kustomize", func(t *testing.T) {
		c.edit("kustomization.yaml")
		c.write("envoy/kustomize/kustomization.yaml", meshtest.Resource(t, "envoy/kustomize/kustomization.yaml"))
		c.edit("sidecar.yaml") // its file is one of the values
		c.write("envoy/kustomize/values.yaml", meshtest.Resource(t, "envoy/kustomize/values.yaml", meshtest.MountedWasm, meshtest.Wasm(t)))
		root := c.inCheckout()
		root.pageOf("docs/image.md", "kubectl apply -k envoy/kustomize")
		root.pageOf("docs/image.md", "kubectl patch deployment go-httpbin --patch-file envoy/istio/deployment-patch.yaml")
		s := c.startSidecar(t)
		c.isOneBudget(t, s, "EnvoyFilter, file, by kubectl apply -k")
		root.run("kubectl delete -k envoy/kustomize")
		c.page("kubectl apply -f bootstrap.yaml")
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
	if out := c.inCheckout().fails(strings.ReplaceAll(command, "-tiny", "")); !strings.Contains(out, "too large") {
		t.Errorf("a ConfigMap with the artefact of Go: %s", out)
	}
	c.inCheckout().page(command)
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

// page runs a command that docs/istio.md has, with texts in it replaced: old and new ones in turn.
func (c *cluster) page(command string, oldnew ...string) {
	c.t.Helper()
	c.pageOf("docs/istio.md", command, oldnew...)
}

// pageOf does so for another page.
func (c *cluster) pageOf(page, command string, oldnew ...string) {
	c.t.Helper()
	if !strings.Contains(meshtest.Resource(c.t, page), "\n"+command+"\n") {
		c.t.Fatalf("%s does not say: %s", page, command)
	}
	c.run(strings.NewReplacer(append(oldnew, "\\\n", "", `"`, "")...).Replace(command))
}

// isClean fails the test where istioctl finds anything to say of a file, but for IST0133, which it says of all EnvoyFilters.
func (c *cluster) isClean(t *testing.T, file string) {
	t.Helper()
	path := c.path("envoy/istio/" + file)
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

// While there is no Wasm, the agent lets nothing pass, unless the plugin says FAIL_OPEN. With a pull secret there is: of the
// workload's namespace, or of Istio's for all.
func TestPullSecretAndFailingDownload(t *testing.T) {
	c := start(t)
	image := meshtest.StartRegistry(t, true, oci.Compat)
	registry := strings.Split(image, "/")[0]
	c.sample()
	s := c.startSidecar(t, "WASM_INSECURE_REGISTRIES="+registry)
	edits := []string{noImage, image}
	c.passes(t, s, true)
	c.edit("wasmplugin.yaml", edits...)
	c.run("kubectl apply -f wasmplugin.yaml")
	c.passes(t, s, false)
	c.edit("wasmplugin.yaml", append(edits, "failStrategy: FAIL_RELOAD", "failStrategy: FAIL_OPEN")...)
	c.run("kubectl apply -f wasmplugin.yaml")
	c.passes(t, s, true)

	c.page("kubectl create secret docker-registry registry --docker-server=registry.example.com --docker-username=… --docker-password=…",
		"registry.example.com", registry, "username=…", "username="+meshtest.User, "password=…", "password="+meshtest.Password)
	c.edit("wasmplugin.yaml", append(edits, "# imagePullSecret: registry", "imagePullSecret: registry")...)
	c.run("kubectl apply -f wasmplugin.yaml")
	c.isOneBudget(t, s, "WasmPlugin, oci:// with imagePullSecret")
	c.run("kubectl delete -f wasmplugin.yaml")
	c.isUnlimited(t, s)

	c.pageOf("docs/image.md", `kubectl create secret docker-registry sentinel-pull -n istio-system \
  --docker-server=registry.example.com --docker-username=me --docker-password="$TOKEN"`,
		"registry.example.com", registry, "=me ", "="+meshtest.User+" ", "$TOKEN", meshtest.Password)
	c.edit("wasmplugin.yaml", append(edits, "# imagePullSecret: registry", "imagePullSecret: sentinel-pull")...)
	c.run("kubectl apply -n istio-system -f wasmplugin.yaml")
	c.isOneBudget(t, s, "WasmPlugin of istio-system")
}

// passes waits until requests and connections pass, or are refused for want of the Wasm: a connection then with what the client
// sends, and no earlier. A service that speaks first is heard (envoyproxy/envoy#9023).
func (c *cluster) passes(t *testing.T, s *sidecar, want bool) {
	t.Helper()
	status := map[bool]int{true: http.StatusOK, false: http.StatusForbidden}[want]
	s.Wait(fmt.Sprintf("the status is %d", status), func() bool { return c.status(t) == status })
	const ping = "ping\n"
	s.Wait(fmt.Sprintf("a connection passes: %t", want), func() bool {
		got, err := envoytest.Raw(t.Context(), c.tcp, []byte(ping), 2*time.Second)
		return err == nil && want == strings.Contains(string(got), ping)
	})
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
