package source_test

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"sentinel-envoy/shared/config"
	"sentinel-envoy/shared/source"
)

var (
	http   = config.Origin{Type: config.SourceHTTP, Path: "/rules.json"}
	nacos  = config.Origin{Type: config.SourceNacos, Path: "/nacos", DataID: "orders flow", Group: "SENTINEL_GROUP"}
	etcd   = config.Origin{Type: config.SourceEtcd, Key: "/sentinel/orders"}
	consul = config.Origin{Type: config.SourceConsul, Key: "/sentinel/orders flow"}
	kube   = config.Origin{Type: config.SourceKubernetes, Namespace: "shop", Name: "sentinel", Key: "rules.json"}
)

func TestAsk(t *testing.T) {
	tenant := nacos
	tenant.Namespace = "a/b"
	key := base64.StdEncoding.EncodeToString([]byte("/sentinel/orders"))
	for _, c := range []struct {
		origin     *config.Origin
		mark, want string
	}{
		{&http, "", "GET /rules.json "},
		{&http, `E"1"`, `GET /rules.json  if-none-match: "1"`},
		{&http, "TSat, 28 Nov", "GET /rules.json  if-modified-since: Sat, 28 Nov"},
		{&nacos, "", "GET /nacos/v1/cs/configs?dataId=orders%20flow&group=SENTINEL_GROUP "},
		{&tenant, "", "GET /nacos/v1/cs/configs?dataId=orders%20flow&group=SENTINEL_GROUP&tenant=a%2Fb "},
		{&tenant, "abc", "POST /nacos/v1/cs/configs/listener Listening-Configs=orders%20flow%02SENTINEL_GROUP%02abc%02a%2Fb%01 " +
			"content-type: application/x-www-form-urlencoded long-pulling-timeout: 30000 patience 32000"},
		{&etcd, "", `POST /v3/kv/range {"key":"` + key + `"} content-type: application/json`},
		{&etcd, "41", `POST /v3/kv/range {"key":"` + key + `","min_mod_revision":"42"} content-type: application/json`},
		{&consul, "", "GET /v1/kv/sentinel/orders%20flow?raw "},
		{&consul, "7", "GET /v1/kv/sentinel/orders%20flow?raw&index=7&wait=30s  patience 32000"},
		{&kube, "", "GET /api/v1/namespaces/shop/configmaps/sentinel  accept: application/json"},
	} {
		r := source.Ask(c.origin, c.mark)
		got := r.Method + " " + r.Path + " " + r.Body
		for _, h := range r.Headers {
			if h[0] != "accept" || c.origin != &http {
				got += " " + h[0] + ": " + h[1]
			}
		}
		if r.PatienceMs > 0 {
			got += fmt.Sprint(" patience ", r.PatienceMs)
		}
		if got != c.want {
			t.Errorf("%v %q asks\n%s\nwant\n%s", c.origin.Type, c.mark, got, c.want)
		}
	}
}

func TestRead(t *testing.T) {
	value := base64.StdEncoding.EncodeToString([]byte("[]"))
	for _, c := range []struct {
		name     string
		origin   *config.Origin
		mark     string
		response source.Response
		want     string
	}{
		{"a file", &http, "", ok("{}"), `text "{}" mark ""`},
		{"an ETag", &http, "", ok("{}", "etag", `W/"1"`, "last-modified", "now"), `text "{}" mark "EW/\"1\""`},
		{"a time", &http, "", ok("{}", "last-modified", "now"), `text "{}" mark "Tnow"`},
		{"an endless ETag", &http, "", ok("{}", "etag", strings.Repeat("1", 200)), `text "{}" mark ""`},
		{"not modified", &http, `E"1"`, source.Response{Status: 304}, `unchanged mark "E\"1\""`},
		{"not modified since never", &http, "", source.Response{Status: 304}, "status 304, though"},
		{"not modified, by Nacos", &nacos, "1", source.Response{Status: 304}, "status 304, though"},
		{"too long", &http, "", ok(strings.Repeat("x", source.MaxText+1)), "a document of 4194305 bytes"},

		{"Nacos", &nacos, "", ok("[]"), `text "[]" mark "d751713988987e9331980363e24189ce"`},
		{"Nacos waited", &nacos, "d7", ok(" \n"), `unchanged mark "d7"`},
		{"Nacos has news", &nacos, "d7", ok("orders%02SENTINEL_GROUP%01"), `again mark ""`},

		{"etcd", &etcd, "", ok(`{"header":{"revision":"9"},"kvs":[{"key":"aw==","mod_revision":"7","value":"` + value + `"}],"count":"1"}`), `text "[]" mark "7"`},
		{"etcd unchanged", &etcd, "7", ok(`{"header":{"revision":"9"},"count":"1"}`), `unchanged mark "7"`},
		{"etcd restored", &etcd, "7", ok(`{"header":{"revision":"3"},"count":"1"}`), `again mark ""`},
		{"etcd without the key", &etcd, "7", ok(`{"header":{"revision":"9"}}`), "there is no such document"},
		{"etcd with an empty value", &etcd, "", ok(`{"header":{"revision":"9"},"kvs":[{"key":"aw==","mod_revision":"7"}],"count":"1"}`), `text "" mark "7"`},
		{"etcd with no base64", &etcd, "", ok(`{"header":{"revision":"9"},"kvs":[{"mod_revision":"7","value":"??"}],"count":"1"}`), "the value is not in base64"},
		{"no etcd", &etcd, "", ok(`<html>`), "no answer of etcd's"},

		{"Consul", &consul, "", ok("[]", "x-consul-index", "12"), `text "[]" mark "12"`},
		{"Consul waited", &consul, "12", ok("[]", "x-consul-index", "12"), `unchanged mark "12"`},
		{"Consul restored", &consul, "12", ok("[]", "x-consul-index", "3"), `text "[]" mark ""`},
		{"Consul without an index", &consul, "12", ok("[]"), `text "[]" mark ""`},
		{"Consul with a zero", &consul, "", ok("[]", "x-consul-index", "0"), `text "[]" mark ""`},

		{"a ConfigMap", &kube, "", ok(`{"kind":"ConfigMap","data":{"rules.json":"[\n]"}}`), `text "[\n]" mark ""`},
		{"a ConfigMap without the key", &kube, "", ok(`{"kind":"ConfigMap","data":{"rules":"[]"}}`), `data has no text "rules.json"`},
		{"a Secret", &kube, "", ok(`{"kind":"Secret","data":{"rules.json":"W10="}}`), "the answer is no ConfigMap"},

		{"absent", &etcd, "", source.Response{Status: 404}, "status 404: there is no such document"},
		{"forbidden", &kube, "", source.Response{Status: 403}, "status 403: credentials are for Envoy"},
		{"moved", &consul, "", source.Response{Status: 301}, "status 301: redirects"},
		{"broken", &nacos, "", source.Response{Status: 500}, "status 500"},
	} {
		a, err := source.Read(c.origin, c.mark, &c.response)
		got := fmt.Sprintf("%s mark %q", map[source.News]string{
			source.Text: fmt.Sprintf("text %q", a.Text), source.Unchanged: "unchanged", source.Again: "again",
		}[a.News], a.Mark)
		if err != nil {
			got = err.Error()
		}
		if !strings.HasPrefix(got, c.want) {
			t.Errorf("%s: %.200s, want %s", c.name, got, c.want)
		}
	}
}

func ok(body string, headers ...string) source.Response {
	r := source.Response{Status: 200, Body: []byte(body)}
	for i := 0; i < len(headers); i += 2 {
		r.Headers = append(r.Headers, [2]string{headers[i], headers[i+1]})
	}
	return r
}

// FuzzRead reads whatever a server may answer: no text is longer than it may be, no mark either, and nothing panics.
func FuzzRead(f *testing.F) {
	f.Add(uint8(2), "7", 200, []byte(`{"header":{"revision":"9"},"kvs":[{"mod_revision":"7","value":"W10="}]}`), "12")
	f.Add(uint8(4), "", 200, []byte(`{"kind":"ConfigMap","data":{"rules.json":"[]"}}`), "")
	f.Add(uint8(0), "E1", 304, []byte{}, "x")
	f.Fuzz(func(t *testing.T, kind uint8, mark string, status int, body []byte, header string) {
		o := *[]*config.Origin{&http, &nacos, &etcd, &consul, &kube}[kind%5]
		mark = mark[:min(len(mark), source.MaxMark)]
		source.Ask(&o, mark)
		a, err := source.Read(&o, mark, &source.Response{Status: status, Body: body, Headers: [][2]string{
			{"etag", header}, {"x-consul-index", header},
		}})
		if err == nil && (len(a.Text) > source.MaxText || len(a.Mark) > source.MaxMark) {
			t.Errorf("a text of %d bytes, a mark of %d", len(a.Text), len(a.Mark))
		}
	})
}
