package engine_test

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"sentinel-envoy/shared/config"
	"sentinel-envoy/shared/engine"
	"sentinel-envoy/shared/host"
	"sentinel-envoy/shared/host/memhost"
	"sentinel-envoy/shared/resource"
)

// attackedHTTP and attackedTCP are two filters' configurations whose decisions hang on everything that a client can send.
const attackedHTTP = `{
	"resource_name": "rest",
	"resources": [
		{"name": "odd;rule=x", "match": {"headers": [{"name": "x", "regex": ".*;.*"}]}},
		{"name": "host", "match": {"host": "*.example.com", "path": {"prefix": "/a"}}},
		{"name": "post", "match": {"method": ["POST"], "path": {"regex": "/(x+)+y?"}}}],
	"flowRules": [{"id": "path", "resource": "/login", "threshold": 1}, {"id": "any", "resource": ".*", "regex": true, "threshold": 50}],
	"hotspotRules": [
		{"id": "header", "resource": "rest", "metricType": 1, "threshold": 1, "durationInSec": 1, "paramSource": "Header", "paramKey": "x", "paramsMaxCapacity": 16},
		{"id": "query", "resource": "rest", "metricType": 1, "threshold": 1, "durationInSec": 1, "paramSource": "Query", "paramKey": "q", "paramsMaxCapacity": 16},
		{"id": "last", "resource": "rest", "threshold": 1, "paramSource": "Query", "paramIndex": -1, "paramsMaxCapacity": 16},
		{"id": "cookie", "resource": "rest", "threshold": 1, "paramSource": "Cookie", "paramKey": "c", "paramsMaxCapacity": 16},
		{"id": "segment", "resource": "rest", "threshold": 1, "paramSource": "PathSegment", "paramIndex": 1, "paramsMaxCapacity": 16},
		{"id": "host", "resource": "host", "threshold": 1, "paramSource": "Host", "paramsMaxCapacity": 16},
		{"id": "source", "resource": "rest", "threshold": 1, "paramSource": "SourceAddress", "trustedHops": 2, "paramsMaxCapacity": 16}]}`

const attackedTCP = `{
	"resource_name": "rest",
	"resources": [{"name": "sni", "match": {"sni": "*.example.com"}}],
	"hotspotRules": [
		{"id": "sni", "resource": "rest", "threshold": 1, "paramSource": "SNI", "paramsMaxCapacity": 16},
		{"id": "property", "resource": "sni", "threshold": 1, "paramSource": "Property", "paramKey": "connection.subject_peer_certificate", "paramsMaxCapacity": 16}]}`

// attacker is a client that sends the same everywhere it can.
type attacker struct{ method, path, text string }

// Header implements request.Host.
func (a *attacker) Header(name string) (string, bool) {
	switch name {
	case ":method":
		return a.method, true
	case ":path":
		return a.path, true
	}
	return a.text, true
}

// Lines implements request.Host: each line is another.
func (a *attacker) Lines(dst []string, _ string) []string {
	return append(dst, strings.Split(a.text, ",")...)
}

// Property implements request.Host.
func (a *attacker) Property([]string) (string, bool) { return a.text, true }

// attacked is a worker with both filters, and the names of the metrics that it defines.
type attacked struct {
	*memhost.Worker
	process *memhost.Process
	vm      *engine.VM
	http    *engine.Filter
	tcp     *engine.Filter
	byHTTP  *resource.HTTP
	byTCP   *resource.TCP
	defined map[string]bool
	told    []string
}

// Define implements host.Metrics.
func (a *attacked) Define(kind host.MetricKind, name string) (uint32, error) {
	a.defined[name] = true
	return a.Worker.Define(kind, name)
}

func newAttacked(t testing.TB) *attacked {
	t.Helper()
	process := memhost.NewProcess(start)
	a := &attacked{Worker: process.Worker(nil), process: process, defined: map[string]bool{}}
	a.vm = engine.New(a, "fuzz")
	http, err := config.Parse([]byte(attackedHTTP), config.KindHTTP)
	if err != nil {
		t.Fatal(err)
	}
	tcp, err := config.Parse([]byte(attackedTCP), config.KindTCP)
	if err != nil {
		t.Fatal(err)
	}
	a.http, a.tcp = a.vm.NewFilter("sentinel_http", http, nil), a.vm.NewFilter("sentinel_tcp", tcp, nil)
	if a.byHTTP, err = resource.NewHTTP(http, a.http.Resources(), a.http.Stream); err != nil {
		t.Fatal(err)
	}
	if a.byTCP, err = resource.NewTCP(tcp, a.tcp.Stream); err != nil {
		t.Fatal(err)
	}
	return a
}

var attackedNames = []string{"rest", "odd;rule=x", "host", "post", "/login", "sni"}

// send lets a client try both filters, with what it sends changed a little each time, and stay for a while.
func (a *attacked) send(t testing.TB, from attacker) {
	t.Helper()
	entries := make([]engine.Entry, 40)
	for i := range entries {
		c := from
		if i > 1 {
			c.text += strconv.Itoa(i)
			c.path += "&q=" + strconv.Itoa(i)
		}
		a.http.Stream.Of(&c)
		a.tcp.Stream.Of(&c)
		f, name := a.http, a.byHTTP.Resolve().Name
		if i%2 == 1 {
			f, name = a.tcp, a.byTCP.Resolve().Name
		}
		if !slices.Contains(attackedNames, name) {
			t.Fatalf("%q is the resource of %+v", name, c)
		}
		if b := f.Enter(name, a.process.Now(), &entries[i]); b != nil {
			a.told = append(a.told, string(f.Explain(b, a.process.Now()).AppendText(nil)))
		}
		if i%8 == 0 {
			a.process.Advance(tick)
			a.vm.Tick(a.process.Now())
		}
	}
	a.process.Advance(second)
	a.vm.Tick(a.process.Now())
	for i := range entries {
		entries[i].Finish(a.process.Now(), i%3 == 0)
	}
	a.process.Advance(second)
	a.vm.Tick(a.process.Now())
}

// harmless is how many keys a client makes that sends nothing odd, and matches everything in turn.
func harmless(tb testing.TB) int {
	a := newAttacked(tb)
	for _, c := range []attacker{
		{"GET", "/login", ""}, {"GET", "/b/c?q=1", "v"}, {"GET", "/a", "www.example.com"}, {"POST", "/x", "c=1"}, {"GET", "/", ";"},
		{"GET", "/b/c", "1.2.3.4, 5.6.7.8"},
	} {
		a.send(tb, c)
		a.process.Advance(5 * second)
	}
	keys, _ := a.process.Keys()
	return keys
}

var (
	attackedMetric = regexp.MustCompile(`^sentinel_[a-z_]+(;resource=(rest|odd%3Brule%3Dx|host|post|/login|sni|\.\*|__total_inbound_traffic__))?` +
		`(;rule=(path|any|header|query|last|cookie|segment|host|source|sni|property))?(;kind=(flow|hotspot))?(;worker=0)?$`)
	explanation = regexp.MustCompile(`^blocked by (flow|hotspot) rule (path|any|header|query|last|cookie|segment|host|source|sni|property): ` +
		`[0-9]+ of [0-9]+ (in [0-9]+ ms|in flight)( for one (header x|query parameter q?|cookie c|path segment|host|source address|SNI|` +
		`property connection\.subject_peer_certificate))?(, and no room to count another)?(; last second [0-9]+ passed, [0-9]+ blocked)?\n$`)
)

// FuzzClient sends requests and connections with whatever in path, host, headers, cookies, SNI and properties. They belong
// to resources that are configured, make no key and no metric that a harmless client does not make, and a refusal tells
// nothing of what was sent.
func FuzzClient(f *testing.F) {
	long := strings.Repeat("a;rule=x,", 1000)
	for _, text := range []string{
		"", "v", ";rule=x", "a;resource=b;worker=7", "\n\r\x00\x7f", "%3B%0a%00%zz%", "\xff\xfe\xc0\x80", "a.b..c.", "www.example.com:443",
		"[::1]:80", "[", "c=1; c=2", "1.2.3.4, 5.6.7.8, unknown", `"quoted\"`, "\u2028\u202e", long,
	} {
		f.Add("GET", "/"+text, text)
		f.Add("POST", "/xxxx?q="+text+"&"+text+"#"+text, text)
	}
	f.Add("GET", "/login", "x")
	f.Add("PO;ST", "*", "")
	f.Add("", "", "")
	usual := harmless(f)
	f.Fuzz(func(t *testing.T, method, path, text string) {
		a := newAttacked(t)
		a.send(t, attacker{method, path, text})
		if keys, bytes := a.process.Keys(); keys > usual || bytes > 64<<10 {
			t.Errorf("%d keys of %d bytes; a harmless client makes %d", keys, bytes, usual)
		}
		for name := range a.defined {
			if !attackedMetric.MatchString(name) {
				t.Errorf("a metric has the name %q", name)
			}
		}
		for _, text := range a.told {
			if !explanation.MatchString(text) {
				t.Errorf("a refusal says %q", text)
			}
		}
		if faults := a.vm.Faults(); faults != 0 {
			t.Errorf("%d faults: %q", faults, a.Lines())
		}
		if n := a.process.QueueLength(engine.QueueName); n > 10 {
			t.Errorf("%d messages wait", n)
		}
	})
}
