package kubernetes

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"sentinel-envoy/internal/envoybin"
	"sentinel-envoy/internal/envoytest"
	"sentinel-envoy/internal/mesh/meshtest"
)

const (
	// podIP is the pod's address: of the loopback interface, but none that Kubernetes takes for loopback.
	podIP = "10.99.0.1"
	// soon is how long things may take that take seconds on an idle machine.
	soon = 2 * time.Minute
	// threshold is that of the rules in envoy/istio.
	threshold = 50
	plane     = "Istio 1.31 on Kubernetes"
)

func TestMain(m *testing.M) {
	os.Exit(meshtest.Isolated(m, meshtest.Needs{
		Programs: []string{"kube-apiserver", "kubectl", "controllers", "pilot-discovery", "pilot-agent", "istioctl"},
	}))
}

// cluster is a Kubernetes with Istio.
type cluster struct {
	t       *testing.T
	dir     string
	where   string // folder in which commands are run, below dir
	kubectl string
	http    string // host:port of the workload behind the sidecar: what is sent there is redirected to port 15006
	tcp     string
}

// start runs the control planes until the test's end.
func start(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{
		t: t, dir: t.TempDir(), where: "envoy/istio", kubectl: meshtest.Program(t, "kubectl"),
		http: envoytest.StartHTTPService(t).Addr(), tcp: envoytest.StartTCPService(t, "hello\n").Addr(),
	}
	if err := os.MkdirAll(c.path(c.where), 0o755); err != nil {
		t.Fatal(err)
	}
	c.startKubernetes()
	c.apply(meshtest.Data(t, "objects.yaml"))
	crds := filepath.Join(c.module("istio.io/istio"), "manifests/charts/base/files/crd-all.gen.yaml")
	c.run("kubectl apply --server-side -f " + crds)
	c.run("kubectl wait --for=condition=established --timeout=60s crd --all")
	meshtest.Launch(t, c.dir, nil, meshtest.Program(t, "controllers"), "-kubeconfig", c.path("kubeconfig"), "-pod-ip", podIP)
	c.apply(meshtest.Data(t, "mesh.yaml"))
	c.startIstiod()
	c.redirect()
	return c
}

// sample installs the sample as docs/istio.md says, with the test's services in place of its containers.
func (c *cluster) sample() {
	c.t.Helper()
	c.edit("bootstrap.yaml")
	c.edit("go-httpbin.yaml", "containerPort: 8080", "containerPort: "+meshtest.Port(c.t, c.http),
		"containerPort: 9000", "containerPort: "+meshtest.Port(c.t, c.tcp))
	c.page("kubectl label namespace default istio-injection=enabled")
	c.page("kubectl apply -f bootstrap.yaml")
	c.page("kubectl apply -f go-httpbin.yaml")
	c.page("kubectl rollout status deployment go-httpbin")
}

// redirect sends what is for the workload to its sidecar, as Istio's rules for iptables do. 127.0.0.6 is where the sidecar
// speaks to the workload from.
func (c *cluster) redirect() {
	c.t.Helper()
	rule := "-p tcp ! -s 127.0.0.6/32 -m multiport --dports " + meshtest.Port(c.t, c.http) + "," + meshtest.Port(c.t, c.tcp) +
		" -j REDIRECT --to-ports 15006"
	meshtest.Output(c.t, ".", nil, "iptables", append([]string{"-t", "nat", "-A", "OUTPUT"}, strings.Fields(rule)...)...)
}

// startKubernetes runs etcd and the API server, and writes what kubectl needs.
func (c *cluster) startKubernetes() {
	c.t.Helper()
	etcd, err := exec.LookPath("etcd")
	if err != nil {
		c.t.Fatalf("%v; Debian's package is etcd-server", err)
	}
	if out, err := exec.Command("ip", "address", "add", podIP+"/32", "dev", "lo").CombinedOutput(); err != nil &&
		!strings.Contains(string(out), "exists") && !strings.Contains(string(out), "assigned") {
		c.t.Fatalf("%v: %s", err, out)
	}
	const peers = "http://127.0.0.1:2380"
	meshtest.Launch(c.t, c.dir, nil, etcd, "--data-dir", c.path("etcd"), "--listen-client-urls", "http://127.0.0.1:2379",
		"--advertise-client-urls", "http://127.0.0.1:2379", "--listen-peer-urls", peers,
		"--initial-advertise-peer-urls", peers, "--initial-cluster", "default="+peers, "--unsafe-no-fsync")
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		c.t.Fatal(err)
	}
	block := &pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}
	c.write("accounts.key", string(pem.EncodeToMemory(block)))
	c.write("tokens.csv", "test,admin,1,system:masters\n")
	c.write("kubeconfig", `apiVersion: v1
kind: Config
clusters: [{name: test, cluster: {server: "https://127.0.0.1:6443", insecure-skip-tls-verify: true}}]
users: [{name: admin, user: {token: test}}]
contexts: [{name: test, context: {cluster: test, user: admin}}]
current-context: test
`)
	server := meshtest.Launch(c.t, c.dir, nil, meshtest.Program(c.t, "kube-apiserver"),
		"--etcd-servers=http://127.0.0.1:2379", "--bind-address=127.0.0.1", "--advertise-address="+podIP, "--secure-port=6443",
		"--cert-dir="+c.path("certificates"), "--token-auth-file="+c.path("tokens.csv"), "--authorization-mode=RBAC",
		"--service-account-key-file="+c.path("accounts.key"), "--service-account-signing-key-file="+c.path("accounts.key"),
		"--service-account-issuer=https://kubernetes.default.svc", "--service-cluster-ip-range=10.96.0.0/16",
		"--disable-admission-plugins=ServiceAccount,StorageObjectInUseProtection", "--endpoint-reconciler-type=none")
	server.Wait("the API server is ready", func() bool {
		return exec.Command(c.kubectl, "--kubeconfig", c.path("kubeconfig"), "get", "--raw", "/readyz").Run() == nil
	})
}

func (c *cluster) startIstiod() {
	c.t.Helper()
	config := c.path("mesh.yaml")
	c.write("mesh.yaml", meshtest.Resource(c.t, "envoy/istio/mesh-config.yaml")+
		"defaultConfig: {discoveryAddress: \"127.0.0.1:15012\"}\n")
	istiod := meshtest.Launch(c.t, c.dir, []string{
		"POD_NAMESPACE=istio-system", "CLUSTER_ID=Kubernetes", "INJECTION_WEBHOOK_CONFIG_NAME=", "VALIDATION_WEBHOOK_CONFIG_NAME=",
		"ISTIOD_CUSTOM_HOST=istiod.local", "PILOT_ENABLE_METADATA_EXCHANGE=false",
	}, meshtest.Program(c.t, "pilot-discovery"), "discovery", "--kubeconfig", c.path("kubeconfig"), "--meshConfig", config,
		"--httpAddr", "127.0.0.1:8081", "--grpcAddr", "127.0.0.1:15010", "--secureGRPCAddr", "127.0.0.1:15012",
		"--monitoringAddr", "127.0.0.1:15014", "--ctrlz_port", "0")
	istiod.Wait("istiod is ready", func() bool {
		r, err := http.Get("http://127.0.0.1:8081/ready")
		if err != nil {
			return false
		}
		r.Body.Close()
		return r.StatusCode == http.StatusOK
	})
}

// thread is what the agent adds to a line of Envoy's log.
var thread = regexp.MustCompile(`(?m)\tthread=\d+$`)

// sidecar is a running pilot-agent with its Envoy.
type sidecar struct {
	*meshtest.Running
	proxy meshtest.Proxy
}

// pod is the sample's pod that is not about to go.
func (c *cluster) pod() (p struct {
	Metadata struct {
		Name              string
		Annotations       map[string]string
		DeletionTimestamp string
	}
}) {
	c.t.Helper()
	list := struct{ Items []json.RawMessage }{}
	c.decode(&list, "kubectl get pods -l app=go-httpbin -o json")
	for _, item := range list.Items {
		if err := json.Unmarshal(item, &p); err != nil {
			c.t.Fatal(err)
		}
		if p.Metadata.DeletionTimestamp == "" {
			return p
		}
	}
	c.t.Fatalf("none of %d pods of the sample is to stay", len(list.Items))
	return p
}

// startSidecar runs what istiod would inject into the sample's pod, as its annotations say, until the test's end: the agent,
// with further environment variables.
func (c *cluster) startSidecar(t *testing.T, env ...string) *sidecar {
	c.t.Helper()
	pod := c.pod()
	envoy, err := envoybin.Find(c.t.Context(), envoybin.Options{})
	if err != nil {
		c.t.Fatal(err)
	}
	c.write("agent/var/run/secrets/tokens/istio-token", c.run("kubectl create token go-httpbin --audience istio-ca"))
	var root string
	envoytest.Eventually(c.t, soon, "istiod has published its root certificate", func() bool {
		out, err := exec.Command(c.kubectl, "--kubeconfig", c.path("kubeconfig"), "get", "configmap", "istio-ca-root-cert",
			"-o", `jsonpath={.data.root-cert\.pem}`).Output()
		root = string(out)
		return err == nil && root != ""
	})
	c.write("agent/var/run/secrets/istio/root-cert.pem", root)
	var bootstrap struct{ Data map[string]string }
	c.decode(&bootstrap, "kubectl get configmap "+pod.Metadata.Annotations["sidecar.istio.io/bootstrapOverride"]+" -o json")
	c.write("agent/custom_bootstrap.json", bootstrap.Data["custom_bootstrap.json"])
	config, err := json.Marshal(map[string]any{
		"discoveryAddress": "127.0.0.1:15012", "binaryPath": envoy, "configPath": c.path("agent/etc/istio/proxy"),
		"concurrency": 2, "proxyAdminPort": 15000, "statusPort": 15020,
	})
	if err != nil {
		c.t.Fatal(err)
	}
	env = append([]string{
		"POD_NAME=" + pod.Metadata.Name, "POD_NAMESPACE=default", "INSTANCE_IP=" + podIP, "SERVICE_ACCOUNT=go-httpbin",
		"CA_ADDR=127.0.0.1:15012", "ISTIOD_SAN=istiod.local", "PILOT_CERT_PROVIDER=istiod", "TRUST_DOMAIN=cluster.local",
		"ISTIO_META_CLUSTER_ID=Kubernetes", `ISTIO_METAJSON_LABELS={"app":"go-httpbin"}`, "PROXY_CONFIG=" + string(config),
		"ISTIO_BOOTSTRAP=" + filepath.Join(c.module("istio.io/istio"), "tools/packaging/common/envoy_bootstrap.json"),
		"ISTIO_BOOTSTRAP_OVERRIDE=" + c.path("agent/custom_bootstrap.json"),
	}, env...)
	// The agent keeps what it downloads in /var/lib/istio/data.
	agent := meshtest.Launch(t, c.path("agent"), env, "unshare", "--mount", "sh", "-c",
		`mount -t tmpfs tmpfs /var/lib && mkdir -p /var/lib/istio/data && exec "$@"`, "sh",
		meshtest.Program(c.t, "pilot-agent"), "proxy", "sidecar", "--domain", "default.svc.cluster.local",
		"--proxyLogLevel=warning", "--log_output_level=default:info")
	s := &sidecar{agent, meshtest.Proxy{Admin: envoytest.NewAdmin("127.0.0.1:15000"), Log: func() string {
		return thread.ReplaceAllString(agent.Log(), "") // as Envoy writes it
	}}}
	s.Wait("Envoy is live", func() bool {
		state, err := s.proxy.Admin.Get(c.t.Context(), "/ready")
		return err == nil && strings.TrimSpace(state) == "LIVE"
	})
	return s
}

func (c *cluster) path(name string) string { return filepath.Join(c.dir, name) }

// write writes a file below the cluster's folder.
func (c *cluster) write(name, text string) {
	c.t.Helper()
	path := c.path(name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		c.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		c.t.Fatal(err)
	}
}

// inCheckout runs commands in a folder like the checkout's, where others are run in its envoy/istio.
func (c *cluster) inCheckout() *cluster {
	other := *c
	other.where = "."
	return &other
}

// run runs a command of kubectl's as it is written on a page, and gives its output.
func (c *cluster) run(command string) string {
	c.t.Helper()
	out, err := c.try(command)
	if err != nil {
		c.t.Fatalf("%s: %v\n%s", command, err, out)
	}
	return out
}

// fails is run for a command that must fail. It gives what it says of that.
func (c *cluster) fails(command string) string {
	c.t.Helper()
	out, err := c.try(command)
	if err == nil {
		c.t.Fatalf("%s does not fail: %s", command, out)
	}
	return err.Error()
}

// try gives what a command writes to its standard output; the error has what it writes to the other.
func (c *cluster) try(command string) (out string, err error) {
	c.t.Helper()
	args := strings.Fields(command)
	if args[0] != "kubectl" {
		c.t.Fatalf("%q is no command of kubectl's", command)
	}
	var errs strings.Builder
	cmd := exec.CommandContext(c.t.Context(), c.kubectl, args[1:]...)
	cmd.Dir, cmd.Env, cmd.Stderr = c.path(c.where), append(os.Environ(), "KUBECONFIG="+c.path("kubeconfig")), &errs
	text, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, errs.String())
	}
	return string(text), err
}

// link puts a file into the folder that is like the checkout's.
func (c *cluster) link(name, file string) {
	c.t.Helper()
	path := c.path(name)
	err := os.MkdirAll(filepath.Dir(path), 0o755)
	if err == nil {
		err = os.Symlink(file, path)
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

// apply applies resources of the test's.
func (c *cluster) apply(resources string) {
	c.t.Helper()
	c.write("resources.yaml", resources)
	c.run("kubectl apply -f " + c.path("resources.yaml"))
}

// edit puts a file of envoy/istio where the commands are run, with texts replaced: old and new ones in turn.
func (c *cluster) edit(name string, oldnew ...string) {
	c.t.Helper()
	c.write("envoy/istio/"+name, meshtest.Resource(c.t, "envoy/istio/"+name, oldnew...))
}

// decode reads the JSON that a command prints.
func (c *cluster) decode(into any, command string) {
	c.t.Helper()
	if err := json.Unmarshal([]byte(c.run(command)), into); err != nil {
		c.t.Fatal(err)
	}
}

// module is the folder of a module.
func (c *cluster) module(path string) string {
	c.t.Helper()
	return strings.TrimSpace(meshtest.Output(c.t, ".", nil, "go", "list", "-m", "-f", "{{.Dir}}", path))
}
