package e2e

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sentinel-envoy/internal/envoytest"
	"sentinel-envoy/internal/plugintest"
)

const (
	root = "../.."
	// soon is how long things may take that take milliseconds on an idle machine.
	soon = time.Minute
	// workers is the usual --concurrency.
	workers = 4
)

// forever is an interval for rules, in milliseconds, whose window does not end during the tests: what such a rule
// admits, it admits once.
var forever = func() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic(err)
	}
	now, interval := ts.Nano()/1e6, int64(3600_000)
	const enough = 15 * 60_000
	for interval-now%interval < enough { // windows are aligned to multiples of the interval
		interval -= 100_001
	}
	return interval
}()

func TestMain(m *testing.M) { os.Exit(plugintest.Run(m)) }

// release is the artefact under test in dist, and releaseOfGo that of Go; an error where it is not what the sources make.
var (
	releaseOfGo = sync.OnceValues(func() (string, error) { return made("dist/sentinel.wasm", "wasm") })
	releaseTiny = sync.OnceValues(func() (string, error) { return made("dist/sentinel-tiny.wasm", "tinygo") })
)

func release() (string, error) {
	if plugintest.Tiny() {
		return releaseTiny()
	}
	return releaseOfGo()
}

// made is the path of what make makes by a target.
func made(name, target string) (string, error) {
	path, err := filepath.Abs(filepath.Join(root, name))
	if err != nil {
		return "", err
	}
	made, err := os.Stat(path)
	if err != nil {
		return "", fmt.Errorf("run make %s: %w", target, err)
	}
	for _, dir := range []string{"plugins", "shared", "internal/wasmbuild", "go.mod", "go.sum"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || strings.HasSuffix(path, "_test.go") {
				return err
			}
			if info, err := d.Info(); err != nil || info.ModTime().After(made.ModTime()) {
				return fmt.Errorf("run make %s: %s is older than %s", target, name, path)
			}
			return nil
		})
		if err != nil {
			return "", err
		}
	}
	return path, nil
}

// start runs an Envoy until the test's end, with 4 workers where cfg does not say how many.
func start(t testing.TB, cfg envoytest.Config) *envoytest.Envoy {
	t.Helper()
	if cfg.Concurrency == 0 {
		cfg.Concurrency = workers
	}
	return envoytest.Start(t, cfg)
}

// httpFilter and tcpFilter are the filters of dist/sentinel.wasm with a plugin configuration.
func httpFilter(t testing.TB, config string) []envoytest.Wasm {
	t.Helper()
	return []envoytest.Wasm{{File: plugintest.File(t, release), RootID: "sentinel_http", Config: config}}
}

func tcpFilter(t testing.TB, config string) []envoytest.Wasm {
	t.Helper()
	return []envoytest.Wasm{{File: plugintest.File(t, release), RootID: "sentinel_tcp", Config: config}}
}

// flowRule is a rule that admits so many in all.
func flowRule(id, resource string, threshold int) string {
	return fmt.Sprintf(`{"id": %q, "resource": %q, "threshold": %d, "statIntervalInMs": %d}`, id, resource, threshold, forever)
}

// flowRules is the member of a configuration that has these rules.
func flowRules(rules ...string) string { return `"flowRules": [` + strings.Join(rules, ", ") + `]` }

// samples are those of one of our metrics.
func samples(e *envoytest.Envoy, name string) (found []envoytest.Sample) {
	for _, s := range e.Prometheus() {
		if s.Is(name) {
			found = append(found, s)
		}
	}
	return found
}

// waitMetric waits until the sum of a metric is want.
func waitMetric(t testing.TB, e *envoytest.Envoy, want float64, name string, labels ...string) {
	t.Helper()
	e.WaitSum(t, soon, want, name, labels...)
}
