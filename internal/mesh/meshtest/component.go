package meshtest

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sentinel-envoy/internal/envoytest"
)

// component is a program of somebody else's that is built here.
type component struct {
	module  string // folder of the module that pins it, below internal/mesh
	path    string // of its package
	ldflags string
}

// kubeVersion is what Kubernetes' programs must know of themselves, or kubectl does not understand them.
const kubeVersion = "-X k8s.io/component-base/version.gitVersion=v1.36.3"

var components = map[string]component{
	"pilot-discovery": {".", "istio.io/istio/pilot/cmd/pilot-discovery", ""},
	"pilot-agent":     {".", "istio.io/istio/pilot/cmd/pilot-agent", ""},
	"istioctl":        {".", "istio.io/istio/istioctl/cmd/istioctl", ""},
	"envoy-gateway":   {"programs/gateway", "github.com/envoyproxy/gateway/cmd/envoy-gateway", ""},
	"kube-apiserver":  {"programs/kube", "k8s.io/kubernetes/cmd/kube-apiserver", kubeVersion},
	"kubectl":         {"programs/kube", "k8s.io/kubernetes/cmd/kubectl", kubeVersion},
	"controllers":     {"programs/kube", "./controllers", ""},
}

// Program is the path of a component. The first time it is built, which takes minutes.
func Program(t testing.TB, name string) string {
	t.Helper()
	path, err := build(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// build builds a component into the user's cache directory, where it is not there yet.
func build(ctx context.Context, name string) (path string, err error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	c, out := components[name], filepath.Join(cache, "sentinel-envoy", "mesh", name)
	cmd := exec.CommandContext(ctx, "go", "build", "-ldflags=-s -w "+c.ldflags, "-o", out, c.path)
	cmd.Dir = filepath.Join(root, "internal/mesh", c.module)
	if text, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building %s: %w\n%s", name, err, text)
	}
	return out, nil
}

// stopTimeout is how long a program may take to end when it is asked to.
const stopTimeout = 15 * time.Second

// Running is a program that has been started.
type Running struct {
	tb   testing.TB
	name string
	log  string // path
	done chan struct{}
}

// Launch starts a program in a folder, and ends it at the test's end. env are further environment variables, as
// "NAME=value".
func Launch(t testing.TB, dir string, env []string, path string, args ...string) *Running {
	t.Helper()
	r := &Running{t, filepath.Base(path), filepath.Join(t.TempDir(), filepath.Base(path)+".log"), make(chan struct{})}
	log, err := os.Create(r.log)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close() // the program has its own descriptor
	cmd := exec.Command(path, args...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = dir, append(os.Environ(), env...), log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { _ = cmd.Wait(); close(r.done) }()
	t.Cleanup(func() { r.stop(cmd.Process) })
	return r
}

// stop ends the process, by its id, and shows what it said where the test has failed.
func (r *Running) stop(p *os.Process) {
	_ = p.Signal(syscall.SIGTERM) // an error means that it has just ended
	select {
	case <-r.done:
	case <-time.After(stopTimeout):
		_ = p.Kill()
		<-r.done
	}
	if r.tb.Failed() {
		lines := strings.Split(strings.TrimRight(r.Log(), "\n"), "\n")
		r.tb.Logf("%s's last lines:\n%s", r.name, strings.Join(lines[max(0, len(lines)-60):], "\n"))
	}
}

// Context ends with the test.
func (r *Running) Context() context.Context { return r.tb.Context() }

// Log is all that it has written.
func (r *Running) Log() string {
	text, err := os.ReadFile(r.log)
	if err != nil {
		r.tb.Fatal(err)
	}
	return string(text)
}

// Wait waits until something is so, and fails the test where that takes too long or the program has ended.
func (r *Running) Wait(what string, cond func() bool) {
	r.tb.Helper()
	envoytest.Eventually(r.tb, soon, what, func() bool {
		select {
		case <-r.done:
			r.tb.Fatalf("%s has ended before %s", r.name, what)
		default:
		}
		return cond()
	})
}

// Output runs a program to its end and gives what it writes to its standard output. The test fails where it fails.
func Output(t testing.TB, dir string, env []string, path string, args ...string) string {
	t.Helper()
	var errs bytes.Buffer
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Dir, cmd.Env, cmd.Stderr = dir, append(os.Environ(), env...), &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", filepath.Base(path), strings.Join(args, " "), err, out, errs.String())
	}
	return string(out)
}
