package demo

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"sentinel-envoy/internal/browser"
	"sentinel-envoy/internal/envoytest"
	"sentinel-envoy/internal/quickstart"
)

// patience bounds each wait. It only matters for a test that fails.
const patience = time.Minute

// running is a demo that plays, with long chapters, between which the test goes.
type running struct {
	address string // of the page
	news    *bufio.Scanner
}

// TestDemo plays the story on a real Envoy and watches it as the page does, by its events.
func TestDemo(t *testing.T) {
	if testing.Short() {
		t.Skip("runs an Envoy for a quarter of a minute")
	}
	r := start(t)
	r.until(t, "the quiet chapter", func(s snapshot) bool {
		return s.Chapter == "quiet" && s.Window.Admitted > 0 && s.Traffic[payPath].Passed > 0 && s.VMs == 3
	})
	r.post(t, "chapter", map[string]any{"name": "flood"})
	r.fills(t, 100)
	r.until(t, "refusals and requests in flight", func(s snapshot) bool {
		report := s.Traffic[reportPath]
		return s.Traffic[shopPath].Refused > 0 && s.Totals.Refused[shopRule] > 0 && report.Refused > 0 && report.InFlight == 8
	})
	r.post(t, "threshold", map[string]any{"rule": shopRule, "threshold": 150})
	r.fills(t, 150)
	r.post(t, "chapter", map[string]any{"name": "failing"})
	open := r.until(t, "an open breaker", func(s snapshot) bool { return s.Breaker == 2 && s.Traffic[payPath].Refused > 0 })
	if open.Traffic[payPath].Failed == 0 && open.Totals.Passed[payPath] == 0 {
		t.Errorf("it is open without a failure: %+v", open)
	}
	t.Run("page", func(t *testing.T) { seePage(t, r) })
}

// fills waits until two workers have filled the window up to a threshold, and refused what is above it. Until the first
// window that is, none may have more; the audit of a change of the threshold belongs to the larger one.
func (r *running) fills(t *testing.T, threshold int) {
	t.Helper()
	r.until(t, fmt.Sprintf("a window of %d", threshold), func(s snapshot) bool {
		if s.Window.Admitted > threshold {
			t.Errorf("%d were let into a window of %d", s.Window.Admitted, threshold)
		}
		refused, deciding := 0, 0
		for _, w := range s.Window.Workers {
			refused += w.Refused
			if w.Admitted > 0 {
				deciding++
			}
		}
		return s.Window.Admitted == threshold && refused > 0 && deciding == 2
	})
}

// seePage looks at the page in a real browser, and changes a threshold on it.
func seePage(t *testing.T, r *running) {
	path, err := browser.Find()
	if err != nil {
		t.Skip(err)
	}
	p, err := browser.Open(t.Context(), path, r.address, browser.Options{Width: 1200, Height: 1000})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	see := func(what, condition string) {
		t.Helper()
		wait := `new Promise((done, fail) => {
			const end = Date.now() + 30000, look = () => ` + condition + ` ? done() : Date.now() > end ? fail("in vain") : setTimeout(look, 50);
			look();
		})`
		if err := p.Eval(wait, nil); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	see("live", `document.querySelector("#status.live")`)
	see("the breaker", `["open", "half-open"].includes(document.getElementById("state").textContent)`)
	see("the chapter", `document.querySelector("#story [data-name=failing]").hasAttribute("aria-current")`)
	see("two workers", `document.querySelectorAll("#workers div").length === 2`)
	see("a drawing", `["shop", "pay", "report"].every(id => {
		const c = document.getElementById(id);
		return c.getContext("2d").getImageData(0, 0, c.width, c.height).data.some(v => v > 0);
	})`)
	change := `(() => {
		const input = document.querySelector("input[data-rule=shop-qps]");
		input.value = 30;
		input.dispatchEvent(new Event("input"));
	})()`
	if err := p.Eval(change, nil); err != nil {
		t.Fatal(err)
	}
	r.until(t, "the threshold of the page", func(s snapshot) bool { return s.Thresholds[shopRule] == 30 && s.Window.Admitted == 30 })
	see("the window", `document.getElementById("of").textContent.startsWith("30 of 30 ")`)
	if err := p.Eval(`document.querySelector("#story [data-name=quiet]").click()`, nil); err != nil {
		t.Fatal(err)
	}
	r.until(t, "the chapter of the page", func(s snapshot) bool { return s.Chapter == "quiet" })
}

// start runs the command in this process, with two workers. At the test's end it is interrupted and must leave nothing.
func start(t *testing.T) *running {
	t.Helper()
	const wasm = "../../dist/sentinel.wasm"
	if _, err := os.Stat(wasm); err != nil {
		t.Fatalf("this test needs the Wasm binary: run `make wasm` first (%v)", err)
	}
	ports, err := envoytest.FreePorts(4)
	if err != nil {
		t.Fatal(err)
	}
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	args := []string{"-wasm", wasm, "-concurrency", "2", "-quiet", "1h", "-flood", "1h", "-failing", "1h"}
	var must []quickstart.Port
	for i, name := range []string{"page-port", "http-port", "admin-port", "upstream-port"} {
		args = append(args, "-"+name, fmt.Sprint(ports[i]))
		must = append(must, quickstart.Port{Number: ports[i], Flag: name})
	}
	ctx, interrupt := context.WithCancel(context.Background())
	var out output
	done := make(chan int)
	go func() { done <- Main(ctx, args, &out, &out) }()
	t.Cleanup(func() {
		interrupt()
		if code := <-done; code != 0 || !strings.HasSuffix(out.String(), "stopped\n") {
			t.Errorf("exit code %d; output:\n%s", code, out.String())
		}
		if err := quickstart.CheckPorts(context.Background(), must); err != nil {
			t.Error(err)
		}
		if left, _ := os.ReadDir(tmp); len(left) > 0 {
			t.Errorf("temporary files are left: %v", left)
		}
	})
	envoytest.Eventually(t, patience, "Ready", func() bool { return strings.Contains(out.String(), "Ready") })
	return connect(t, fmt.Sprintf("http://127.0.0.1:%d/", ports[0]))
}

// connect reads the page's events until the test's end.
func connect(t *testing.T, address string) *running {
	t.Helper()
	ask, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address+"events", nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(ask)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { answer.Body.Close() })
	r := &running{address: address, news: bufio.NewScanner(answer.Body)}
	r.news.Buffer(nil, 1<<20)
	if !r.news.Scan() || r.news.Text() != "event: history" || !r.news.Scan() || !r.news.Scan() {
		t.Fatalf("the stream does not begin with the history: %q", r.news.Text())
	}
	return r
}

// until reads snapshots until one is as wanted, and gives it.
func (r *running) until(t *testing.T, what string, wanted func(snapshot) bool) (s snapshot) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end) && r.news.Scan(); {
		text, found := strings.CutPrefix(r.news.Text(), "data: ")
		if !found {
			continue
		}
		s = snapshot{}
		if err := json.Unmarshal([]byte(text), &s); err != nil {
			t.Fatal(err)
		}
		if wanted(s) {
			return s
		}
	}
	t.Fatalf("waited in vain for %s; at last %+v, %v", what, s, r.news.Err())
	return s
}

func (r *running) post(t *testing.T, path string, body any) {
	t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.Post(r.address+path, "application/json", bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusNoContent {
		t.Fatalf("POST %s %s: %s", path, text, answer.Status)
	}
}

// output may be written and read at once.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}
