package e2e

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"sentinel-envoy/internal/envoybin"
	"sentinel-envoy/internal/envoytest"
	"sentinel-envoy/internal/load"
	"sentinel-envoy/internal/plugintest"
	"sentinel-envoy/internal/wasmbuild/build"
)

const (
	heapMB    = 200
	heapRules = 10_000
	// heapTicks is how often a VM's timer runs after its heap has shrunk, every 20 ms: for at least 10 s. Where the host
	// answers the runtime's polls with an error, the VM dies within the first few.
	heapTicks = 500
)

// survived is what a test says for the table of releases.
var survived = fmt.Sprintf("%d MB grown and freed, and alive %d ticks later", heapMB, heapTicks)

// heapPlugin is internal/wasmbuild/testdata/heap.
const heapPlugin = "./internal/wasmbuild/testdata/heap"

// Three builds of it: as the release is built, the same but with the host's poll_oneoff, and as the go command alone does.
var (
	heap         = plugintest.Build("heap.wasm", build.Options{Package: heapPlugin})
	heapHostPoll = plugintest.Build("heap-host-poll.wasm", build.Options{Package: heapPlugin, HostPoll: true})
	heapPlain    = sync.OnceValues(func() (string, error) {
		path := plugintest.Scratch("heap-plain.wasm")
		cmd := exec.Command("go", "build", "-buildmode=c-shared", "-o", path, heapPlugin)
		cmd.Dir, cmd.Env = root, append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm")
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("%w: %s", err, out)
		}
		return path, nil
	})
)

// TestHeap makes heaps grow and shrink, which is when Go's runtime comes to poll: ours live, and what does not have
// poll_oneoff inside lives or dies as the host has it. It is on the oldest release unless one is asked for.
func TestHeap(t *testing.T) {
	if plugintest.Tiny() {
		t.Skip("it is about Go's runtime")
	}
	version := ""
	if !oneEnvoy() {
		version = envoybin.Versions()[0]
	}
	t.Run("Ours", func(t *testing.T) { seeOurHeaps(t, version) })
	t.Run("HostPoll", func(t *testing.T) { seeHostPoll(t, version) })
	t.Run("PlainBuild", func(t *testing.T) { seePlainBuild(t, version) })
}

// seeOurHeaps grows the heap of the real plugin, by rules, and of one that allocates on demand, built alike; both limit and
// answer as before for long after it has shrunk.
func seeOurHeaps(t *testing.T, version string) {
	web, up := envoytest.StartHTTPService(t), envoytest.StartTCPService(t, "hello\n")
	listeners := func(extra ...string) []envoytest.Listener {
		return append(limiting(t, web.Addr(), up.Addr(), append(extra, plugintest.PerSecond("busy-qps", "/busy", limitedTo))...),
			heapListener(t, heap))
	}
	e := start(t, envoytest.Config{
		Version: version, Concurrency: 2, Dynamic: true, LogLevel: "warning", Components: auditing, Listeners: listeners(),
		Args: []string{"--drain-time-s", "1"}, // filters that are replaced let go of their memory soon
	})
	seeLimits(t, e)
	growRules(t, e, listeners)

	ours := plugintest.Offer(t, e.Addr("http"), load.Options{Path: "/busy", QPS: 100, Connections: 4})
	if err := churn(t, e); err != nil {
		t.Error(err)
	}
	if sum := ours.Stop(t); sum.Failed != 0 {
		t.Errorf("%d of %d requests to our plugin failed: %s", sum.Failed, sum.Sent, sum.LastError)
	}
	t.Attr("heap", survived)

	seeLimits(t, e)
	waitMetric(t, e, 0, "sentinel_faults")
	plugintest.NoVMDied(t, e)
}

// seeHostPoll is the control: what the build saves a plugin from.
func seeHostPoll(t *testing.T, version string) {
	e := start(t, envoytest.Config{
		Version: version, Concurrency: 1, LogLevel: "warning", Listeners: []envoytest.Listener{heapListener(t, heapHostPoll)},
	})
	err := churn(t, e)
	if err != nil {
		t.Attr("heap", "the VM dies: "+e.WaitLog(soon, `poll_oneoff failed`)[0])
	} else {
		t.Attr("heap", survived)
	}
	if want := olderThan(t, e, "1.39"); want != (err != nil) {
		t.Errorf("dies: %v, want %v of this release (%v)", err != nil, want, err)
	}
}

// seePlainBuild is the other control: a module with an import that the host lacks does not start.
func seePlainBuild(t *testing.T, version string) {
	e := start(t, envoytest.Config{Version: version, Concurrency: 1, Dynamic: true})
	err := e.UpdateListeners(t.Context(), heapListener(t, heapPlain))
	if err != nil {
		t.Attr("load", "refused: "+e.WaitLog(soon, `Failed to load Wasm module due to (a missing import: \S+)`)[1])
	} else {
		t.Attr("load", "accepted")
	}
	if want := olderThan(t, e, "1.39"); want != (err != nil) {
		t.Errorf("refused: %v, want %v of this release (%v)", err != nil, want, err)
	}
}

func heapListener(t *testing.T, file func() (string, error)) envoytest.Listener {
	return envoytest.HTTP{Name: "heap", Routes: []envoytest.Route{{DirectStatus: 200}}, Wasm: []envoytest.Wasm{
		{File: plugintest.File(t, file), RootID: "heap_http", VMID: "heap"}}}
}

// growRules makes our own heap grow and shrink twice, by an update to many rules and back.
func growRules(t *testing.T, e *envoytest.Envoy, listeners func(extra ...string) []envoytest.Listener) {
	t.Helper()
	many := make([]string, heapRules)
	for i := range many {
		many[i] = plugintest.PerSecond(fmt.Sprint("rule-", i), fmt.Sprint("/resource/", i), i)
	}
	hash := rulesHash(e)
	for range 2 {
		e.Update(listeners(many...)...)
		waitRulesHash(t, e, func(now float64) bool { return now != hash && now != 0 })
		if r := e.Get("http", "/resource/0"); r.Status != http.StatusTooManyRequests {
			t.Errorf("with %d rules, one that admits nothing gives %d", heapRules, r.Status)
		}
		e.Update(listeners()...)
		waitRulesHash(t, e, func(now float64) bool { return now == hash })
		if r := e.Get("http", "/resource/0"); r.Status != http.StatusOK {
			t.Errorf("back with few rules, the resource of a rule that is gone gives %d", r.Status)
		}
	}
}

// rulesHash is the hash of the rules that all workers apply, 0 where they differ.
func rulesHash(e *envoytest.Envoy) (hash float64) {
	for i, s := range samples(e, "sentinel_rules_hash") {
		if i > 0 && s.Value != hash {
			return 0
		}
		hash = s.Value
	}
	return hash
}

func waitRulesHash(t *testing.T, e *envoytest.Envoy, ok func(float64) bool) {
	t.Helper()
	envoytest.Eventually(t, time.Minute, "all workers apply the new rules", func() bool { return ok(rulesHash(e)) })
}

// churn makes the heap of a VM behind the listener "heap" grow and shrink, and waits until its timer has run heapTicks
// times more. It gives an error where the VM does not answer any more.
func churn(t *testing.T, e *envoytest.Envoy) (err error) {
	t.Helper()
	client := envoytest.NewHTTPClient(false) // one connection, so one worker
	defer client.CloseIdleConnections()
	ask := func(headers ...string) (mb, ticks int, err error) {
		r, err := envoytest.Do(t.Context(), client, "GET", e.URL("heap"), headers...)
		if err != nil {
			return 0, 0, err
		}
		if _, err := fmt.Sscanf(r.Body, "%d MB %d ticks", &mb, &ticks); err != nil {
			return 0, 0, fmt.Errorf("status %d, %q", r.Status, r.Body)
		}
		return mb, ticks, nil
	}
	mb, _, err := ask("x-grow-mb", fmt.Sprint(heapMB))
	if err != nil {
		return err
	}
	if mb != heapMB {
		t.Fatalf("the heap has %d MB, want %d", mb, heapMB)
	}
	_, first, err := ask("x-shrink", "1")
	if err != nil {
		return err
	}
	envoytest.Eventually(t, 2*time.Minute, "the timer has run long enough after the heap has shrunk", func() bool {
		var now int
		_, now, err = ask()
		return err != nil || now >= first+heapTicks
	})
	return err
}
