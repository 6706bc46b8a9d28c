package dashboard_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sentinel-envoy/internal/dashboard"
	"sentinel-envoy/internal/envoytest"
	"sentinel-envoy/internal/ruleserver"
)

// soon is how long things may take that take a second on an idle machine.
const soon = time.Minute

// reply is an answer to a command.
type reply struct {
	status int
	body   string
}

// get asks; a status of 0 is no answer.
func get(t *testing.T, address string, headers ...string) reply {
	t.Helper()
	req, err := http.NewRequestWithContext(envoytest.Context(t, 10*time.Second), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
		if headers[i] == "Host" {
			req.Host = headers[i+1]
		}
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return reply{}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return reply{}
	}
	return reply{resp.StatusCode, string(body)}
}

// setRules is the address by which a dashboard sets rules.
func setRules(base, typ, data string) string {
	if typ == "paramFlow" {
		return base + "/setParamFlowRules?data=" + url.QueryEscape(data)
	}
	return base + "/setRules?type=" + typ + "&data=" + url.QueryEscape(data)
}

// getRules is the one by which it reads them.
func getRules(base, typ string) string {
	if typ == "paramFlow" {
		return base + "/getParamFlowRules"
	}
	return base + "/getRules?type=" + typ
}

// admin is the admin page of an Envoy with one filter, with 50 entries of the resource "busy" a reading, half of them refused.
type admin struct {
	*httptest.Server
	mu     sync.Mutex
	n      int
	filter string // its configuration
}

func startAdmin(t *testing.T, filter string) *admin {
	t.Helper()
	a := &admin{filter: filter}
	a.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.mu.Lock()
		defer a.mu.Unlock()
		switch r.URL.Path {
		case "/stats/prometheus":
			a.n++
			fmt.Fprintf(w, `sentinel_passed{resource="busy"} %d
sentinel_passed{resource="a|b"} 7
sentinel_completed{resource="busy"} %d
sentinel_rt_ms_sum{resource="busy"} %d
sentinel_blocked{resource="busy",rule="x",kind="flow"} %d
sentinel_blocked{resource="busy",rule="y",kind="flow"} %d
sentinel_in_flight{resource="busy"} 3
sentinel_pass_qps{resource="busy"} 25
sentinel_block_qps{resource="busy"} 25
sentinel_rt_ms{resource="busy"} 12
`, 25*a.n, 25*a.n, 25*a.n*12, 20*a.n, 5*a.n)
		case "/config_dump":
			fmt.Fprintf(w, `{"configs": [{"draining_state": {"root_id": "sentinel_http", "configuration": {"flowRules": [{"resource": "/old", "threshold": 1}]}},
				"active_state": [{"name": "f", "root_id": "sentinel_http", "configuration":
				{"@type": "type.googleapis.com/google.protobuf.Struct", "value": %s}}]}]}`, a.filter)
		case "/server_info":
			fmt.Fprint(w, `{"node": {"id": "edge-1"}}`)
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(a.Close)
	return a
}

func (a *admin) addr() string { return strings.TrimPrefix(a.URL, "http://") }

// registry is a dashboard that writes down who is there.
type registry struct {
	*httptest.Server
	mu    sync.Mutex
	beats []url.Values
}

func startRegistry(t *testing.T) *registry {
	t.Helper()
	d := &registry{}
	d.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d.mu.Lock()
		defer d.mu.Unlock()
		if r.URL.Path != "/registry/machine" || r.ParseForm() != nil {
			http.NotFound(w, r)
			return
		}
		d.beats = append(d.beats, r.PostForm)
		fmt.Fprint(w, `{"code": 0, "msg": "success", "data": null}`)
	}))
	t.Cleanup(d.Close)
	return d
}

// machines are the ports that have been told of.
func (d *registry) machines() (ports []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, b := range d.beats {
		if !slices.Contains(ports, b.Get("port")) {
			ports = append(ports, b.Get("port"))
		}
	}
	return ports
}

// agent runs one for Envoys until the test's end, and gives the URLs of their commands.
func agent(t *testing.T, o dashboard.Options) (urls []string) {
	t.Helper()
	d := startRegistry(t)
	o.Dashboards = append(o.Dashboards, d.URL)
	o.App, o.Listen, o.Log = "shop", "127.0.0.1:0", t.Output()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- dashboard.Run(ctx, o) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	envoytest.Eventually(t, soon, "the dashboard is told", func() bool { return len(d.machines()) == len(o.Admins) })
	for _, port := range d.machines() {
		urls = append(urls, "http://127.0.0.1:"+port)
	}
	return urls
}

// source is the member of a filter's configuration that asks a server for its rules.
const source = `"datasource": [{"type": "http", "cluster": "rules", "path": "/rules.json"}]`

// TestFigures tells what came in each second, and what of resources is now.
func TestFigures(t *testing.T) {
	admins := []string{startAdmin(t, `{}`).addr(), startAdmin(t, `{}`).addr()}
	urls := agent(t, dashboard.Options{Admins: admins})
	if len(urls) != 2 || urls[0] == urls[1] {
		t.Fatalf("two Envoys are at %v", urls)
	}
	base := urls[0]
	var lines []string
	envoytest.Eventually(t, soon, "three seconds have figures", func() bool {
		lines = strings.Split(strings.TrimSpace(get(t, fmt.Sprintf("%s/metric?startTime=0&endTime=%d", base, time.Now().UnixMilli())).body), "\n")
		return len(lines) >= 6
	})
	var passed, blocked, ended int
	for _, line := range lines {
		if f := strings.Split(line, "|"); len(f) != 10 {
			t.Errorf("line %q has %d fields", line, len(f))
		} else if f[1] == "busy" {
			var p, b, e int
			if _, err := fmt.Sscan(f[2]+" "+f[3]+" "+f[4], &p, &b, &e); err != nil || f[6] != "12" || f[8] != "3" {
				t.Errorf("line %q: %v", line, err)
			}
			passed, blocked, ended = passed+p, blocked+b, ended+e
		}
	}
	if passed == 0 || passed%25 != 0 || passed != blocked || passed != ended {
		t.Errorf("%d passed, %d blocked, %d ended in\n%s", passed, blocked, ended, strings.Join(lines, "\n"))
	}
	var nodes []map[string]any
	if err := json.Unmarshal([]byte(get(t, base+"/clusterNode?type=zero").body), &nodes); err != nil || len(nodes) != 2 {
		t.Fatalf("%v %v", nodes, err)
	}
	if n := nodes[1]; n["resource"] != "busy" || n["passQps"] != 25.0 || n["totalQps"] != 50.0 || n["threadNum"] != 3.0 ||
		n["averageRt"] != 12.0 || n["oneMinutePass"].(float64) < 50 {
		t.Errorf("%v", n)
	}
	if busy := get(t, base+"/clusterNode?type=notZero").body; strings.Contains(busy, "a|b") || !strings.Contains(busy, "busy") {
		t.Errorf("with type=notZero %s", busy)
	}
	if r := get(t, base+"/basicInfo"); !strings.Contains(r.body, `"edge-1"`) {
		t.Errorf("basicInfo %v", r)
	}
}

// An Envoy that is gone is not told of any more, and the agent goes on.
func TestEnvoyIsGone(t *testing.T) {
	envoy := startAdmin(t, `{}`)
	base := agent(t, dashboard.Options{Admins: []string{envoy.addr()}})[0]
	envoy.Close()
	if r := get(t, base+"/getRules?type=flow"); r.status != 400 || !strings.Contains(r.body, "refused") {
		t.Errorf("rules of an Envoy that is gone: %v", r)
	}
	if r := get(t, base+"/version"); r.status != 200 {
		t.Errorf("%v", r)
	}
}

// rulesOf are the rules of a type as the dashboard sees them, by resource and count.
func rulesOf(t *testing.T, base, typ string) string {
	t.Helper()
	var rules []map[string]any
	r := get(t, getRules(base, typ))
	if err := json.Unmarshal([]byte(r.body), &rules); err != nil {
		t.Fatalf("%v: %v", r, err)
	}
	var all []string
	for _, one := range rules {
		all = append(all, fmt.Sprint(one["resource"], ":", one["count"]))
	}
	return strings.Join(all, " ")
}

// TestSetRules has rules of the filter's own and of its source, in words of both kinds, that a dashboard changes.
func TestSetRules(t *testing.T) {
	const before = `{"flowRules": [
		{"id": "kept", "resource": "/kept", "threshold": 1},
		{"id": "changed", "resource": "/changed", "threshold": 2},
		{"id": "hour", "resource": "/hour", "threshold": 3, "statIntervalInMs": 3600000},
		{"resource": "/java", "count": 4.0, "gmtCreate": 5}],
	"isolationRules": [{"id": "threads", "resource": "/threads", "threshold": 6}],
	"circuitBreakerRules": [{"resource": "/b", "grade": 2, "count": 7, "timeWindow": 8}]}`
	server := ruleserver.Start(t, before)
	envoy := startAdmin(t, `{"flowRules": [{"resource": "/own", "threshold": 9}, {"id": "own2", "resource": "/own2", "threshold": 10}], `+source+`}`)
	o := dashboard.Options{Admins: []string{envoy.addr()}, Servers: map[string]string{"rules": "http://" + server.Addr}}
	base := agent(t, o)[0]
	const shown = "/kept:1 /changed:2 /java:4 /threads:6 /own:9 /own2:10"
	if got := rulesOf(t, base, "flow"); got != shown {
		t.Fatalf("the dashboard sees %s, want %s", got, shown)
	}
	list := get(t, getRules(base, "flow")).body
	if r := get(t, setRules(base, "flow", list)); r.body != "success" {
		t.Fatal(r)
	}
	if server.Text() != before {
		t.Errorf("what stays is written anew:\n%s", server.Text())
	}
	// The dashboard's own keys come with its rules. It changes two, removes one and adds one.
	list = strings.Replace(list, `"count":2`, `"count":22`, 1)
	list = strings.Replace(list, `"count":10,`, `"count":11,`, 1)
	var rules []map[string]any
	if err := json.Unmarshal([]byte(list), &rules); err != nil {
		t.Fatal(err)
	}
	rules = slices.DeleteFunc(rules, func(r map[string]any) bool { return r["resource"] == "/java" })
	rules = append(rules, map[string]any{"resource": "/new", "count": 12, "grade": 1, "id": 17, "app": "shop", "ip": "127.0.0.1", "gmtCreate": nil})
	text, err := json.Marshal(rules)
	if err != nil {
		t.Fatal(err)
	}
	if r := get(t, setRules(base, "flow", string(text))); r.body != "success" {
		t.Fatal(r)
	}
	if got, want := rulesOf(t, base, "flow"), "/kept:1 /changed:22 /own2:11 /new:12 /threads:6 /own:9"; got != want {
		t.Errorf("the dashboard sees %s, want %s", got, want)
	}
	for _, want := range []string{
		`{"id":"kept","resource":"/kept","threshold":1}`, `"id":"changed"`, `"statIntervalInMs":3600000`,
		`{"id":"threads","resource":"/threads","threshold":6}`, `"timeWindow":8`, `"id":"own2"`,
	} {
		if !strings.Contains(server.Text(), want) {
			t.Errorf("the document lacks %s:\n%s", want, server.Text())
		}
	}
	if strings.Contains(server.Text(), "/java") || strings.Contains(server.Text(), `"/own"`) || strings.Contains(server.Text(), "127.0.0.1") {
		t.Errorf("the document has more than was wanted:\n%s", server.Text())
	}
	// What cannot be is said, and nothing is written.
	after := server.Text()
	for _, c := range []struct{ typ, data, want string }{
		{"flow", `[]`, `rule "flow-1000ms-/own" is in the filter`},
		{"flow", strings.Replace(string(text), `"count":12`, `"count":-1`, 1), `rule of resource "/new": count: must be ≥ 0, got -1`},
		{"degrade", `[{"resource": "/b", "grade": 1, "count": 3, "timeWindow": 8}]`, `rule of resource "/b": count: must be from 0 to 1`},
		{"paramFlow", `[{"resource": "/b", "paramIdx": 0, "count": 3}]`, "which parameter of a request is argument 0?"},
		{"flow", `{"resource": "/b"}`, "must be a list"},
		{"flow", `null`, "must be a list"},
		{"flow", ``, "Bad data"},
		{"gateway", `[]`, "invalid type"},
	} {
		if r := get(t, setRules(base, c.typ, c.data)); r.status != 400 || !strings.Contains(r.body, c.want) {
			t.Errorf("%s %s: %v, want %q", c.typ, c.data, r, c.want)
		}
	}
	if server.Text() != after {
		t.Errorf("what was refused was written:\n%s", server.Text())
	}
	// A document that is none, or a server that fails, is said, and not written over.
	server.Put("<html>")
	if r := get(t, setRules(base, "flow", string(text))); r.status != 400 || !strings.Contains(r.body, "no document of rules") {
		t.Error(r)
	}
	server.Behave(ruleserver.Failing)
	if r := get(t, setRules(base, "flow", string(text))); r.status != 400 || !strings.Contains(r.body, "status 503") {
		t.Error(r)
	}
}

// TestListsOfFamilies has a source for each of two families, as Nacos' users do.
func TestListsOfFamilies(t *testing.T) {
	flow, breakers := ruleserver.Start(t, "[]"), ruleserver.Start(t, `[{"resource": "/b", "grade": 2, "count": 7, "timeWindow": 8}]`)
	envoy := startAdmin(t, `{"datasource": [{"type": "consul", "cluster": "flow", "key": "k", "rules": "flowRules"},
		{"type": "http", "cluster": "breakers", "path": "/rules.json", "rules": "degradeRules", "format": "java"}]}`)
	base := agent(t, dashboard.Options{Admins: []string{envoy.addr()}, Servers: map[string]string{
		"flow": "http://" + flow.Addr, "breakers": "http://" + breakers.Addr}})[0]
	for _, c := range []struct{ typ, data string }{
		{"flow", `[{"resource": "/a", "count": 1}]`}, {"degrade", `[{"resource": "/b", "grade": 2, "count": 9, "timeWindow": 8}]`},
	} {
		if r := get(t, setRules(base, c.typ, c.data)); r.body != "success" {
			t.Error(r)
		}
	}
	if r := get(t, setRules(base, "system", `[{"qps": 1}]`)); r.status != 400 || !strings.Contains(r.body, "read only") {
		t.Errorf("rules without a source: %v", r)
	}
	if got := rulesOf(t, base, "flow") + " " + rulesOf(t, base, "degrade"); got != "/a:1 /b:9" {
		t.Errorf("the dashboard sees %s", got)
	}
	if !strings.HasPrefix(flow.Text(), "[") || !strings.HasPrefix(breakers.Text(), "[") {
		t.Errorf("not lists: %s %s", flow.Text(), breakers.Text())
	}
}

// Without a server that it may write to, rules can be read only. Nobody but the dashboard sets rules, and no browser asks.
func TestWhoMaySetRules(t *testing.T) {
	server := ruleserver.Start(t, "{}")
	envoy := startAdmin(t, `{"flowRules": [{"resource": "/own", "threshold": 9}], `+source+`}`)
	readOnly := agent(t, dashboard.Options{Admins: []string{envoy.addr()}})[0]
	if got := rulesOf(t, readOnly, "flow"); got != "/own:9" {
		t.Errorf("it reads %s", got)
	}
	const data = `[{"resource": "/own", "count": 1}]`
	if r := get(t, setRules(readOnly, "flow", data)); r.status != 400 || !strings.Contains(r.body, "read only") {
		t.Error(r)
	}
	o := dashboard.Options{Admins: []string{envoy.addr()}, Servers: map[string]string{"rules": "http://" + server.Addr}}
	base := agent(t, o)[0]
	for _, header := range [][]string{{"Origin", "http://evil.example.com"}, {"Sec-Fetch-Site", "cross-site"}, {"Host", "evil.example.com"}} {
		if r := get(t, setRules(base, "flow", data), header...); r.status != 403 || server.Text() != "{}" {
			t.Errorf("with %v: %v", header, r)
		}
	}
	resp, err := http.Post(base+"/setRules", "text/plain", strings.NewReader("type=flow&data="+url.QueryEscape(data)))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusUnsupportedMediaType || server.Text() != "{}" {
		t.Errorf("a form that any page may post: %s", resp.Status)
	}
	if resp, err = http.PostForm(base+"/setRules", url.Values{"type": {"flow"}, "data": {data}}); err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK || !strings.Contains(server.Text(), "/own") {
		t.Errorf("as dashboards from 1.6 on do: %s, %s", resp.Status, server.Text())
	}
	if dashboard.MayWrite([]netip.Prefix{netip.MustParsePrefix("192.0.2.7/32")}, "192.0.2.8:1234") ||
		!dashboard.MayWrite([]netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}, "[::ffff:192.0.2.8]:1234") {
		t.Error("an address is taken for another")
	}
}
