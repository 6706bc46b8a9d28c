package dashboard_test

import (
	"archive/zip"
	"bytes"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sentinel-envoy/internal/browser"
	"sentinel-envoy/internal/envoytest"
	"sentinel-envoy/internal/plugintest"
	"sentinel-envoy/internal/quickstart"
	"sentinel-envoy/internal/ruleserver"
)

var picture = flag.String("picture", "", "write the dashboard's picture to this `file`")

const page = "../../docs/dashboard.md"

var plugins = plugintest.Plugins("release.wasm", "")

// scene is what docs/dashboard.md has one start: an etcd, an Envoy that asks it, the dashboard, and what stands between.
type scene struct {
	etcd      *ruleserver.Etcd
	envoy     *envoytest.Envoy
	dashboard string // URL
	lib       string // of what its pages need
	commands  string // host:port
}

// TestPage runs the commands of docs/dashboard.md, and uses the dashboard.
func TestPage(t *testing.T) {
	needsJava(t)
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	s := &scene{etcd: ruleserver.StartEtcd(t), commands: ruleserver.FreeAddr(t)}
	s.dashboard, s.lib = javaDashboard(t)
	s.startEnvoy(t)
	s.startCommand(t, string(text))
	t.Run("answers", func(t *testing.T) { s.asksByHand(t, string(text)) })
	t.Run("browser", s.usesTheDashboard)
}

// startEnvoy runs the example that the page names.
func (s *scene) startEnvoy(t *testing.T) {
	t.Helper()
	text, err := os.ReadFile("../../envoy/examples/datasource.yaml")
	if err != nil {
		t.Fatal(err)
	}
	text = bytes.ReplaceAll(text, []byte("port_value: 2379"), fmt.Appendf(nil, "port_value: %d", envoytest.PortOf(t, s.etcd.Addr)))
	web := envoytest.StartHTTPService(t)
	bootstrap, err := quickstart.Render(text, quickstart.Ports{Upstream: envoytest.PortOf(t, web.Addr())}, plugintest.File(t, plugins))
	if err != nil {
		t.Fatal(err)
	}
	s.envoy = envoytest.Start(t, envoytest.Config{Bootstrap: bootstrap, Concurrency: 4})
}

// startCommand runs the page's first `sentinel dashboard`, at the addresses of this test.
func (s *scene) startCommand(t *testing.T, text string) {
	t.Helper()
	line := regexp.MustCompile(`(?m)^go run \./cmd/sentinel (dashboard .*)$`).FindStringSubmatch(text)
	if line == nil {
		t.Fatal("the page has no command")
	}
	command := strings.NewReplacer("http://127.0.0.1:8080", s.dashboard, "127.0.0.1:8001", s.envoy.Admin.Addr(), "127.0.0.1:2379", s.etcd.Addr).
		Replace(line[1])
	binary := plugintest.Scratch("sentinel")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "../../cmd/sentinel")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	start(t, binary, append(strings.Fields(command), "--listen", s.commands)...)
}

// asksByHand compares what the page says that commands answer.
func (s *scene) asksByHand(t *testing.T, text string) {
	all := regexp.MustCompile(`(?m)^\$ curl -s 'http://127\.0\.0\.1:8719(.*)'\n(.*)$`).FindAllStringSubmatch(text, -1)
	if len(all) < 3 {
		t.Fatalf("only %d commands", len(all))
	}
	for _, one := range all {
		envoytest.Eventually(t, soon, "there are answers", func() bool { return get(t, "http://"+s.commands+one[1]).status != 0 })
		if r := get(t, "http://"+s.commands+one[1]); r.body != one[2] {
			t.Errorf("%s answers\n%s\nand the page says\n%s", one[1], r.body, one[2])
		}
	}
}

// usesTheDashboard changes a limit in the dashboard's page, and looks at the figures.
func (s *scene) usesTheDashboard(t *testing.T) {
	envoytest.Eventually(t, patience, "the dashboard knows the Envoy", func() bool {
		return strings.Contains(get(t, s.dashboard+"/app/briefinfos.json").body, `"shop"`)
	})
	s.load(t)
	figures := s.dashboard + "/metric/queryTopResourceMetric.json?app=shop&pageIndex=1&pageSize=6"
	hasFigures := func(of string) {
		t.Helper()
		more := regexp.MustCompile(`"` + of + `Qps":[1-9]`) // that is what 0.1.1 calls them
		envoytest.Eventually(t, patience, "the dashboard has figures of what "+of, func() bool {
			body := get(t, figures).body
			return strings.Contains(body, "/orders") && more.MatchString(body)
		})
	}
	hasFigures("passed")
	path, err := browser.Find()
	if err != nil {
		t.Skip(err)
	}
	view, err := browser.Open(t.Context(), path, s.pages(t)+"/#/dashboard/flow/shop", browser.Options{Width: 1200, Height: 700})
	if err != nil {
		t.Fatal(err)
	}
	defer view.Close()
	see := func(what, expression string) {
		t.Helper()
		envoytest.Eventually(t, patience, what, func() bool {
			var is bool
			err := view.Eval("!!("+expression+")", &is)
			return err == nil && is
		})
	}
	do := func(expression string) {
		t.Helper()
		if err := view.Eval("(()=>{"+expression+";return 0})()", nil); err != nil {
			t.Fatal(err)
		}
	}
	const rows = `[...document.querySelectorAll("tbody tr")]`
	see("the page shows the filter's own rule", rows+`.some(r => r.innerText.includes("/orders") && r.innerText.includes("100"))`)
	do(rows + `[0].querySelector("button").click()`)
	const count = `document.querySelector(".ngdialog input[type=number]")`
	see("a form is open", count)
	do(`const e = ` + count + `; e.value = "5"; e.dispatchEvent(new Event("input")); e.dispatchEvent(new Event("change"))`)
	do(`document.querySelector(".ngdialog .btn-danger-inverse").click()`)
	see("the page shows the new limit", rows+`.some(r => r.innerText.includes("/orders") && /\b5\b/.test(r.innerText))`)
	envoytest.Eventually(t, soon, "Envoy refuses above the new limit", func() bool {
		refused := 0
		for range 12 {
			if s.envoy.Get("http", "/orders").Status == 429 {
				refused++
			}
		}
		return refused > 0
	})
	if r := get(t, "http://"+s.commands+"/getRules?type=flow"); !strings.Contains(r.body, `"count":5`) {
		t.Errorf("%v", r)
	}
	hasFigures("blocked")
	if err := view.Go(s.pages(t) + "/#/dashboard/metric/shop"); err != nil {
		t.Fatal(err)
	}
	see("there is a chart", `document.querySelector("canvas")`)
	if *picture != "" {
		// All that the chart shows is of the new limit then, and it has been drawn to its end.
		see("six seconds of refusals", `[...document.querySelector("tbody").rows].every(r => parseFloat(r.cells[2].innerText) > 5)`)
		if err := view.Eval(`new Promise(r => setTimeout(() => r(0), 2000))`, nil); err != nil {
			t.Fatal(err)
		}
		s.takePicture(t, view)
	}
}

func (s *scene) takePicture(t *testing.T, view *browser.Page) {
	t.Helper()
	png, err := view.Screenshot()
	if err == nil {
		err = os.WriteFile(*picture, png, 0o644)
	}
	if err != nil {
		t.Error(err)
	}
}

// load sends some 20 requests a second until the test's end.
func (s *scene) load(t *testing.T) {
	t.Helper()
	start(t, plugintest.Scratch("sentinel"), "load", "-q", "20", "-d", "10m", "-u", "orders", "-p",
		fmt.Sprint(envoytest.PortOf(t, s.envoy.Addr("http"))))
}

// pages are the dashboard's, with what they take from elsewhere put beside them. Without npm there are no charts.
func (s *scene) pages(t *testing.T) string {
	t.Helper()
	target, err := url.Parse(s.dashboard)
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := strings.NewReplacer("//cdn.bootcss.com/", "/elsewhere/",
		"//gw.alipayobjects.com/os/antv/pkg/_antv.g2-3.2.0-beta.6/dist/", "/elsewhere/g2/")
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.ModifyResponse = func(r *http.Response) error {
		if !strings.HasPrefix(r.Header.Get("Content-Type"), "text/html") {
			return nil
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return err
		}
		text := elsewhere.Replace(string(body))
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(text)), int64(len(text))
		r.Header.Set("Content-Length", fmt.Sprint(len(text)))
		return nil
	}
	files := s.elsewhere(t)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, is := strings.CutPrefix(r.URL.Path, "/elsewhere/")
		if !is {
			r.Header.Del("Accept-Encoding")
			r.Host = target.Host
			proxy.ServeHTTP(w, r)
			return
		}
		body, there := files[strings.Replace(name, "angular.js/", "angularjs/", 1)]
		if !there {
			http.NotFound(w, r)
			return
		}
		types := map[string]string{".css": "text/css", ".js": "text/javascript"}
		w.Header().Set("Content-Type", types[filepath.Ext(name)])
		_, _ = w.Write(body)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// elsewhere are the files of the webjars, by their paths, and of @antv/g2.
func (s *scene) elsewhere(t *testing.T) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	jars, err := filepath.Glob(s.lib + "/*.jar")
	if err != nil {
		t.Fatal(err)
	}
	for _, jar := range jars {
		if strings.Contains(jar, "sentinel-dashboard") {
			continue
		}
		z, err := zip.OpenReader(jar)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range z.File {
			name, is := strings.CutPrefix(f.Name, "META-INF/resources/webjars/")
			if !is || f.FileInfo().IsDir() {
				continue
			}
			r, err := f.Open()
			if err == nil {
				files[name], err = io.ReadAll(r)
			}
			if err != nil {
				t.Fatal(err)
			}
			r.Close()
		}
		z.Close()
	}
	files["g2/g2.min.js"] = s.charts(t)
	return files
}

// charts is the library that draws the dashboard's charts.
func (s *scene) charts(t *testing.T) []byte {
	t.Helper()
	dir := t.TempDir()
	pack := exec.CommandContext(envoytest.Context(t, patience), "sh", "-c", "npm pack --silent @antv/g2@3.2.8 && tar xzf antv-g2-3.2.8.tgz")
	pack.Dir = dir
	if out, err := pack.CombinedOutput(); err != nil {
		t.Skipf("no charts without npm: %v %s", err, out)
	}
	text, err := os.ReadFile(filepath.Join(dir, "package/dist/g2.min.js"))
	if err != nil {
		t.Fatal(err)
	}
	return text
}
