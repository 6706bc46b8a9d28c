package e2e

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"gopkg.in/yaml.v3"

	"sentinel-envoy/internal/envoytest"
	"sentinel-envoy/internal/load"
	"sentinel-envoy/internal/ratelimit"
	"sentinel-envoy/internal/ratelimit/rules"
)

// startConverted runs the service with what `sentinel convert --to ratelimit` makes of a configuration.
func startConverted(t *testing.T, config string) *ratelimit.Service {
	t.Helper()
	text, err := rules.FromPlugin([]byte(config))
	if err != nil {
		t.Fatal(err)
	}
	return startRateLimit(t, text)
}

// eachUser gives each user 40 requests a second over two Envoys.
const eachUser = `{"resource_name": "r", "rate_limit_service": {"cluster": "rls", "timeout_ms": 2000}, "hotspotRules": [{"id": "user",
	"resource": "r", "metricType": "QPS", "threshold": 40, "durationInSec": 1, "paramSource": "Header", "paramKey": "x-user",
	"clusterMode": true, "clusterConfig": {"thresholdType": 1, "clusterSize": 2}}]}`

// TestClusterEachUser puts twice the limit of each of three users on two Envoys of 4 workers: each gets what is its own over both,
// and no more.
func TestClusterEachUser(t *testing.T) {
	const limit = 40
	service := startConverted(t, eachUser)
	var envoys []*envoytest.Envoy
	for range 2 {
		l := httpLimited(t, eachUser)
		l.AccessLog, l.ExactBalance = admittedLine+" %REQ(x-user)%", true
		envoys = append(envoys, clusterEnvoy(t, service, l))
	}
	users := []string{"alice", "bob", "\xe6\x95\xb0"}
	var wg sync.WaitGroup
	for _, user := range users {
		for i, e := range envoys {
			o := load.Options{
				Port: envoytest.PortOf(t, e.Addr("http")), Duration: *clusterFor, Connections: 4, Header: http.Header{"X-User": {user}},
				QPS: limit * []float64{1.5, 0.5}[i],
			}
			wg.Go(func() {
				if _, err := load.Run(t.Context(), o); err != nil {
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()
	for i, user := range users {
		windows, sum := map[int64]*window{}, 0
		for _, e := range envoys {
			for _, m := range e.AccessLog("http").All(`(?m)^(\S+) (\d+) 200 \d+ (\S+)$`) {
				if m[3] == user || i == 2 && m[3] != "alice" && m[3] != "bob" {
					countWindow(t, windows, m[1], m[2])
				}
			}
		}
		for s, w := range windows {
			if sum += w.sure + w.unsure; w.sure > limit {
				t.Errorf("%s: admitted %d of %d in second %d", user, w.sure, limit, s)
			}
		}
		t.Logf("%s: admitted %d in %d seconds of %d each", user, sum, len(windows), limit)
		if sum > limit*len(windows) || sum < limit*len(windows)/2 {
			t.Errorf("%s: admitted %d in %d seconds", user, sum, len(windows))
		}
	}
	calls, asked := 0.0, 0.0
	for _, e := range envoys {
		calls, asked = calls+e.Sum("sentinel_cluster_calls"), asked+e.Sum("sentinel_passed")+e.Sum("sentinel_blocked")
		if state := e.Sum("sentinel_cluster_state"); state != 1 {
			t.Errorf("it is in state %v", state)
		}
	}
	t.Logf("%v calls for %v requests", calls, asked)
}

// converted has what the service's configuration may be made of: both types of thresholds, units, another name of the rule, values
// with limits of their own, and keys of Sentinel's token server that mean nothing here.
const converted = `{"rate_limit_service": {"cluster": "rls", "timeout_ms": 2000}, "flowRules": [
	{"id": "average", "resource": "/average", "threshold": 10, "statIntervalInMs": 3600000, "clusterMode": true,
		"clusterConfig": {"thresholdType": 0, "clusterSize": 3, "sampleCount": 10}},
	{"id": "named", "resource": "/named", "threshold": 20, "clusterMode": true,
		"clusterConfig": {"flowId": 17, "thresholdType": 1, "windowIntervalMs": 3600000}},
	{"id": "minute", "resource": "/minute", "threshold": 20, "clusterMode": true,
		"clusterConfig": {"thresholdType": 1, "windowIntervalMs": 60000}}],
	"hotspotRules": [{"id": "user", "resource": "/user", "metricType": "QPS", "threshold": 6, "durationInSec": 3600,
		"paramSource": "Header", "paramKey": "x-user", "clusterMode": true, "clusterConfig": {"thresholdType": 1},
		"specificItems": [{"valKind": 1, "valStr": "alice", "threshold": 9}]}]%s}`

// TestClusterConverted runs the service with what convert writes: the limits are the rules'.
func TestClusterConverted(t *testing.T) {
	config := fmt.Sprintf(converted, "")
	e := clusterEnvoy(t, startConverted(t, config), httpLimited(t, config))
	waitMetric(t, e, 4, "sentinel_cluster_state")
	for _, c := range []struct {
		path, user string
		want       int
	}{
		{"/average", "", 30}, {"/named", "", 20}, {"/user", "bob", 6}, {"/user", "alice", 9}, {"/user", strings.Repeat("x", 300), 6},
		{"/user", "\xff\xfe", 6},
	} {
		got := map[int]int{}
		for range 40 {
			got[e.Get("http", c.path, "x-user", c.user).Status]++
		}
		if want := map[int]int{200: c.want, 429: 40 - c.want}; !maps.Equal(got, want) {
			t.Errorf("%s of %.10q: %v, want %v", c.path, c.user, got, want)
		}
	}
	minute, passed := time.Now().Unix()/60, 0
	for range 50 {
		if e.Get("http", "/minute").Status == 200 {
			passed++
		}
	}
	if minutes := int(time.Now().Unix()/60-minute) + 1; passed < 20 || passed > 20*minutes {
		t.Errorf("%d in %d minutes", passed, minutes)
	}
	if n := e.Sum("sentinel_cluster_failures"); n != 0 {
		t.Errorf("%v calls have failed", n)
	}
}

// TestClusterConvertedShadow: decisions in shadow mode have limits of their own, and refuse nobody.
func TestClusterConvertedShadow(t *testing.T) {
	config := fmt.Sprintf(converted, `, "mode": "shadow"`)
	e := clusterEnvoy(t, startConverted(t, config), httpLimited(t, config))
	waitMetric(t, e, 4, "sentinel_cluster_state")
	// A request that comes before the service's answer passes, and is not counted: some are sent until one would be refused.
	sent := 0
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end) && e.Sum("sentinel_shadow_blocked") == 0; sent += 20 {
		for range 20 {
			if got := e.Get("http", "/user", "x-user", "bob").Status; got != 200 {
				t.Fatalf("status %d", got)
			}
		}
	}
	if n := e.Sum("sentinel_shadow_blocked"); n == 0 || n > float64(sent-6) {
		t.Errorf("%v of %d would have been refused", n, sent)
	}
	if n := e.Sum("sentinel_cluster_failures"); n != 0 {
		t.Errorf("%v calls have failed", n)
	}
}

// TestClusterTLS runs envoy/examples/cluster.yaml with a service that speaks TLS, and with one whose certificate is another's.
func TestClusterTLS(t *testing.T) {
	dir := t.TempDir()
	ours := certificate(t, dir, "ours", "ratelimit.example.com")
	others := certificate(t, dir, "others", "elsewhere.example.com")
	const limits = "domain: sentinel\ndescriptors:\n" +
		"- {key: rule, value: shop-qps, rate_limit: {unit: hour, requests_per_unit: 30}}\n" +
		"- {key: rule, value: per-user, descriptors: [{key: value, rate_limit: {unit: hour, requests_per_unit: 7}}]}\n"
	web := envoytest.StartHTTPService(t)
	for _, c := range []struct {
		name string
		tls  *ratelimit.TLS
		// state is the sum of both rules'.
		state  float64
		passed int
	}{{"known", ours, 2, 7}, {"unknown", others, 4, 6}} { // on its own each of three Envoys has 20/3 of a second
		t.Run(c.name, func(t *testing.T) {
			if *clusterFor == 0 {
				t.Skip("make cluster runs it")
			}
			service, err := ratelimit.StartTLS(t.Context(), t.TempDir(), limits, c.tls)
			if errors.Is(err, ratelimit.ErrNoRedis) {
				t.Skip(err)
			}
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(service.Stop)
			e := example(t, "cluster.yaml", web.Addr(), func(text []byte) []byte { return withTLS(t, text, service, ours) })
			waitMetric(t, e, c.state, "sentinel_cluster_state")
			passed := 0
			for range 12 {
				if e.Get("http", "/", "x-user", "alice").Status == 200 {
					passed++
				}
			}
			if c.state == 2 && passed != c.passed || passed < c.passed {
				t.Errorf("%d passed, want %d", passed, c.passed)
			}
		})
	}
}

// withTLS gives the example's cluster the address of a service and the file of who has signed its certificate.
func withTLS(t *testing.T, text []byte, service *ratelimit.Service, trusted *ratelimit.TLS) []byte {
	t.Helper()
	if !bytes.Contains(text, []byte("/etc/ssl/certs/ca-certificates.crt")) {
		t.Fatal("the example trusts nobody")
	}
	var doc map[string]any
	if err := yaml.Unmarshal(bytes.ReplaceAll(text, []byte("/etc/ssl/certs/ca-certificates.crt"), []byte(trusted.CA)), &doc); err != nil {
		t.Fatal(err)
	}
	for _, c := range doc["static_resources"].(map[string]any)["clusters"].([]any) {
		if c := c.(map[string]any); c["name"] == "rls" {
			c["type"], c["load_assignment"] = "STATIC", service.Cluster("rls")["load_assignment"]
		}
	}
	out, err := yaml.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// certificate writes a certificate of a name that has signed itself.
func certificate(t *testing.T, dir, file, name string) *ratelimit.TLS {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	c := &ratelimit.TLS{Cert: filepath.Join(dir, file+".crt"), Key: filepath.Join(dir, file+".key"), CA: filepath.Join(dir, file+".crt"), Name: name}
	for path, block := range map[string]*pem.Block{c.Cert: {Type: "CERTIFICATE", Bytes: der}, c.Key: {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return c
}
