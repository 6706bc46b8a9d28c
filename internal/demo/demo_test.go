package demo

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"sentinel-envoy/internal/audit"
	"sentinel-envoy/internal/load"
	"sentinel-envoy/shared/config"
)

func TestMistakesAreTold(t *testing.T) {
	taken, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := taken.Addr().(*net.TCPAddr).Port
	for _, c := range []struct {
		args []string
		code int
		want []string
	}{
		{[]string{"-wasm", "none", "-page-port", fmt.Sprint(port)}, 1,
			[]string{"make wasm", fmt.Sprintf("the page cannot have port %d", port), "make demo PAGE_PORT=N"}},
		{[]string{"-quiet", "0s", "-d", "25h", "-concurrency", "0", "more"}, 2,
			[]string{"-quiet 0s", "-d 25h", "-concurrency 0", `"more"`}},
		{[]string{"-h"}, 0, []string{"-page-port"}},
	} {
		var stdout, stderr bytes.Buffer
		if code := Main(t.Context(), c.args, &stdout, &stderr); code != c.code {
			t.Errorf("%q: exit code %d, want %d", c.args, code, c.code)
		}
		for _, want := range c.want {
			if !strings.Contains(stderr.String(), want) {
				t.Errorf("%q: it does not say %q:\n%s", c.args, want, stderr.String())
			}
		}
	}
}

// testRules are rules in a file of the test.
func testRules(t *testing.T) *rules {
	t.Helper()
	r, err := newRules(filepath.Join(t.TempDir(), rulesFile), "/w/sentinel.wasm")
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// written is the filter's configuration in the file of rules.
func written(t *testing.T, r *rules) *config.Config {
	t.Helper()
	text, err := os.ReadFile(r.file)
	if err != nil {
		t.Fatal(err)
	}
	var discovery struct {
		Resources []struct {
			Filter struct {
				Config struct {
					Configuration struct{ Value json.RawMessage }
				}
			} `json:"typed_config"`
		}
	}
	if err := json.Unmarshal(text, &discovery); err != nil || len(discovery.Resources) != 1 {
		t.Fatalf("%v in %s", err, text)
	}
	c, err := config.Parse(discovery.Resources[0].Filter.Config.Configuration.Value, config.KindHTTP)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestFileHasTheRules: whatever threshold the page may ask for is a right configuration, and others are refused.
func TestFileHasTheRules(t *testing.T) {
	r := testRules(t)
	for rule, b := range bounds {
		for _, threshold := range []float64{b.min, b.max} {
			if err := r.set(rule, threshold); err != nil {
				t.Error(err)
			}
			if c := written(t, r); len(c.Rules) != len(bounds) {
				t.Errorf("%d rules, want %d", len(c.Rules), len(bounds))
			}
		}
		for _, threshold := range []float64{b.min / 2, b.max * 2} {
			if err := r.set(rule, threshold); err == nil {
				t.Errorf("%s takes %v", rule, threshold)
			}
		}
		if got := r.all()[rule]; got != b.max {
			t.Errorf("%s: threshold %v, want %v", rule, got, b.max)
		}
	}
	if err := r.set("other", 1); err == nil {
		t.Error("there is another rule")
	}
}

// TestPageIsForThisMachine: what other origins' pages can send is refused.
func TestPageIsForThisMachine(t *testing.T) {
	r := testRules(t)
	w := newWeb("127.0.0.1:8090", r, newPlayer(chapters(time.Second, time.Second, time.Second), 1))
	for _, c := range []struct {
		method, path, host, contentType, body string
		want                                  int
	}{
		{"GET", "/", "127.0.0.1:8090", "", "", 200},
		{"GET", "/", "localhost:8090", "", "", 200},
		{"GET", "/", "evil.example:8090", "", "", 421},
		{"GET", "/none", "localhost:8090", "", "", 404},
		{"POST", "/threshold", "localhost:8090", "application/json", `{"rule": "shop-qps", "threshold": 200}`, 204},
		{"POST", "/threshold", "localhost:8090", "text/plain", `{"rule": "shop-qps", "threshold": 50}`, 415},
		{"POST", "/threshold", "evil.example", "application/json", `{"rule": "shop-qps", "threshold": 50}`, 421},
		{"POST", "/threshold", "localhost:8090", "application/json", `{"rule": "shop-qps", "threshold": 1e9}`, 400},
		{"POST", "/threshold", "localhost:8090", "application/json", `{"rule": "shop-qps", "threshold": "` + strings.Repeat("1", maxBody), 400},
		{"POST", "/chapter", "localhost:8090", "application/json", `{"name": "none"}`, 400},
		{"GET", "/threshold", "localhost:8090", "", "", 405},
	} {
		ask := httptest.NewRequest(c.method, c.path, strings.NewReader(c.body))
		ask.Host = c.host
		ask.Header.Set("content-type", c.contentType)
		answer := httptest.NewRecorder()
		w.handler().ServeHTTP(answer, ask)
		if answer.Code != c.want {
			t.Errorf("%s %s of %s: %d, want %d", c.method, c.path, c.host, answer.Code, c.want)
		}
	}
	if got := r.all()[shopRule]; got != 200 {
		t.Errorf("threshold %v, want 200", got)
	}
}

// TestPageIsWhole: it needs nothing from elsewhere.
func TestPageIsWhole(t *testing.T) {
	for _, from := range []string{"http://", "https://", "@import", "src="} {
		if bytes.Contains(page, []byte(from)) {
			t.Errorf("the page has %q", from)
		}
	}
	for rule := range bounds {
		if !bytes.Contains(page, []byte(`input type="range" data-rule="`+rule+`"`)) {
			t.Errorf("the page does not let %s be changed", rule)
		}
	}
	for _, c := range chapters(1, 1, 1) {
		if !bytes.Contains(page, []byte(`data-name="`+c.Name+`"`)) {
			t.Errorf("the page has no button for the chapter %s", c.Name)
		}
	}
}

// TestSlowPagesAreDropped: one that does not read keeps nobody waiting, and too many are refused.
func TestSlowPagesAreDropped(t *testing.T) {
	w := newWeb("127.0.0.1:8090", testRules(t), nil)
	slow, _ := w.join()
	for i := range remembered + behind + 1 {
		if err := w.publish(snapshot{At: int64(i)}); err != nil {
			t.Fatal(err)
		}
	}
	news := 0
	for range slow { // until it is closed
		news++
	}
	if news != behind || len(w.viewers) != 0 {
		t.Errorf("it got %d news, want %d; %d pages are left", news, behind, len(w.viewers))
	}
	if _, history := w.join(); len(history) != remembered {
		t.Errorf("%d snapshots are remembered, want %d", len(history), remembered)
	}
	for range maxViewers {
		w.join()
	}
	if viewer, _ := w.join(); viewer != nil || len(w.viewers) != maxViewers {
		t.Errorf("%d pages are told news", len(w.viewers))
	}
}

func TestLogIsRead(t *testing.T) {
	const line = "[2026-01-02 20:43:35.445][%d][debug][wasm] [a.cc:1] wasm log sentinel_http sentinel: audit rule=%s " +
		"bucket_ms=500 bucket=%d admitted=%d refused=%d\n"
	o := newObserver("127.0.0.1:1")
	var others []string
	r := &logReader{decided: o.decided, other: func(text []byte) { others = append(others, string(text)) }}
	log := fmt.Sprintf(line, 9, shopRule, 6, 1, 0) + // has left the window
		fmt.Sprintf(line, 10, shopRule, 8, 3, 1) + fmt.Sprintf(line, 9, shopRule, 8, 4, 0) + fmt.Sprintf(line, 9, shopRule, 9, 5, 5) +
		fmt.Sprintf(line, 10, shopRule, 9, -1, 2) + fmt.Sprintf(line, 9, "other", 9, 7, 7) +
		"[2026-01-02 20:43:35.445][9][debug][wasm] something\n[2026-01-02 20:43:35.445][9][error][wasm] a mistake\n" +
		strings.Repeat("x", 2*maxLine) + "\n" + fmt.Sprintf(line, 10, shopRule, 10, 50, 50) // not whole yet
	for len(log) > 0 { // in pieces
		n := min(7, len(log))
		if _, err := r.Write([]byte(log[:n])); err != nil {
			t.Fatal(err)
		}
		log = log[n:]
	}
	want := window{Admitted: 11, Workers: []decisions{{9, 5}, {2, 3}}}
	if got := o.snapshot(time.Now()).Window; !reflect.DeepEqual(got, want) {
		t.Errorf("window %v, want %v", got, want)
	}
	if len(others) != 2 || !strings.HasSuffix(others[0], "a mistake") || len(others[1]) != maxLine {
		t.Errorf("%d other lines: %.200q", len(others), others)
	}
	for bucket := range 100 {
		o.decided(audit.Line{Thread: "9", Rule: shopRule, BucketMs: 500, Bucket: 100 + bucket})
	}
	if len(o.buckets) > windowBuckets+1 {
		t.Errorf("%d buckets are kept", len(o.buckets))
	}
}

func TestTrafficIsOfTheLastSecond(t *testing.T) {
	o := newObserver("127.0.0.1:1")
	for i := range 3 * perSecond {
		o.clientsSent(shopPath, load.Counts{Sent: 10, Passed: 5, Blocked: 3, Failed: 2})
		got, n := o.snapshot(time.Now()).Traffic[shopPath], min(i, perSecond)
		if want := (traffic{Offered: 10 * n, Passed: 5 * n, Refused: 3 * n, Failed: 2 * n}); got != want {
			t.Errorf("after %d: %v, want %v", i, got, want)
		}
	}
}
