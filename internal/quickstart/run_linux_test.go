package quickstart

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	psnet "github.com/shirou/gopsutil/v4/net"
	"github.com/shirou/gopsutil/v4/process"
)

// patience bounds each wait. It only matters for a test that fails.
const patience = 2 * time.Minute

// TestRunEndsWithoutTrace runs the command with a real Envoy, uses it, and ends it the ways that people and machines do.
func TestRunEndsWithoutTrace(t *testing.T) {
	command := buildCommand(t)
	for _, c := range []struct {
		name string
		end  func(r *running) error
		code int
	}{
		{"interrupt to the command", func(r *running) error { return syscall.Kill(r.pid(), syscall.SIGINT) }, 0},
		{"Ctrl-C, to the whole group", func(r *running) error { return syscall.Kill(-r.pid(), syscall.SIGINT) }, 0},
		{"termination", func(r *running) error { return syscall.Kill(r.pid(), syscall.SIGTERM) }, 0},
		{"kill", func(r *running) error { return syscall.Kill(r.pid(), syscall.SIGKILL) }, -1},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := start(t, command, sampleConfig)
			r.waitFor(t, "Ready")
			for _, port := range []int{r.ports.HTTP, r.ports.TCP, r.ports.Upstream} {
				wantOK(t, port)
			}
			envoy := r.children(t)
			if len(envoy) != 1 {
				t.Fatalf("%d child processes, want one Envoy", len(envoy))
			}
			if err := c.end(r); err != nil {
				t.Fatal(err)
			}
			if code := r.wait(t); code != c.code {
				t.Errorf("exit code %d, want %d; output:\n%s", code, c.code, r.out)
			}
			poll(t, "Envoy to be gone", func() bool { return gone(envoy[0]) })
			poll(t, "the ports to be free", func() bool { return CheckPorts(t.Context(), numbers(r.ports.list())) == nil })
			if left, _ := os.ReadDir(r.tmp); len(left) > 0 && c.code == 0 {
				t.Errorf("temporary files are left: %v", left)
			}
		})
	}
}

// TestStoppedWhileItStarts ends the command while Envoy compiles the Wasm: it must not say that it is ready.
func TestStoppedWhileItStarts(t *testing.T) {
	r := start(t, buildCommand(t), sampleConfig)
	r.waitFor(t, "starting")
	// The admin interface takes connections long before it answers: then the command waits for the answer.
	poll(t, "a question to the admin interface", func() bool {
		conns, err := psnet.ConnectionsPid("tcp", int32(r.pid()))
		asks := func(c psnet.ConnectionStat) bool { return int(c.Raddr.Port) == r.ports.Admin }
		return err == nil && slices.ContainsFunc(conns, asks)
	})
	if strings.Contains(r.out.String(), "Ready") {
		t.Skip("Envoy was ready at once")
	}
	if err := syscall.Kill(-r.pid(), syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if code := r.wait(t); code != 0 {
		t.Errorf("exit code %d, want 0; output:\n%s", code, r.out)
	}
	if strings.Contains(r.out.String(), "Ready") {
		t.Errorf("it says that it is ready after it was stopped:\n%s", r.out)
	}
}

// TestReadyBlockIsTrue runs the commands that the Ready block shows.
func TestReadyBlockIsTrue(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip(err)
	}
	r := start(t, buildCommand(t), sampleConfig)
	r.waitFor(t, "the service itself")
	for label, want := range map[string]string{
		"one HTTP request":   "HTTP/1.1 200 OK",
		"one TCP connection": "HTTP/1.1 200 OK",
		"a blocked one":      "HTTP/1.1 429 Too Many Requests",
		"what passed":        "sentinel_workers",
	} {
		_, command, _ := strings.Cut(r.out.String(), "  "+label)
		command, _, _ = strings.Cut(command, "\n")
		command, _, _ = strings.Cut(command, "    (")
		poll(t, fmt.Sprintf("%q from %s", want, command), func() bool { // metrics come with the first tick
			out, err := exec.Command("sh", "-c", command).CombinedOutput()
			return err == nil && strings.Contains(string(out), want)
		})
	}
}

// TestRunLeavesTheRest runs a bootstrap with a listener of another name, whose port is its own.
func TestRunLeavesTheRest(t *testing.T) {
	sample, err := os.ReadFile("../../envoy/envoy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	other := freePorts(t).TCP
	config := filepath.Join(t.TempDir(), "envoy.yaml")
	mine := strings.Replace(string(sample), "- name: tcp", "- name: mine", 1)
	write(t, config, strings.Replace(mine, "port_value: 18000", fmt.Sprintf("port_value: %d", other), 1))
	r := start(t, buildCommand(t), config)
	r.waitFor(t, "the service itself")
	wantText(t, r.out.String(), "no listener named tcp (TCP_PORT)")
	wantOK(t, other)
	wantOK(t, r.ports.HTTP)
}

// TestRunTellsEnvoysError gives Envoy a configuration that it refuses.
func TestRunTellsEnvoysError(t *testing.T) {
	sample, err := os.ReadFile("../../envoy/envoy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(t.TempDir(), "envoy.yaml")
	write(t, config, strings.Replace(string(sample), "codec_type:", "codec_typo:", 1))
	r := start(t, buildCommand(t), config)
	if code := r.wait(t); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	_, summary, _ := strings.Cut(r.out.String(), "sentinel run: running Envoy")
	wantText(t, summary, "[critical]", "codec_typo")
	if left, _ := os.ReadDir(r.tmp); len(left) > 0 {
		t.Errorf("temporary files are left: %v", left)
	}
}

// buildCommand returns the path of a fresh cmd/sentinel, and fails the test if there is no Wasm to run.
func buildCommand(t *testing.T) string {
	t.Helper()
	if _, err := os.Stat(filepath.Join(root, wasmFile)); err != nil {
		t.Fatalf("this test needs the Wasm binary: run `make wasm` first (%v)", err)
	}
	path := filepath.Join(t.TempDir(), "sentinel")
	if out, err := exec.Command("go", "build", "-o", path, "sentinel-envoy/cmd/sentinel").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return path
}

const (
	root     = "../.."
	wasmFile = "dist/sentinel.wasm" // from root, where the command runs
)

// running is a started `sentinel run`, in a process group of its own as under a shell.
type running struct {
	cmd   *exec.Cmd
	ports Ports
	out   *syncBuffer
	tmp   string // its directory for temporary files
	done  chan struct{}
}

func start(t *testing.T, command, config string) *running {
	t.Helper()
	r := &running{ports: freePorts(t), out: &syncBuffer{}, tmp: t.TempDir(), done: make(chan struct{})}
	args := append([]string{"run", "-config", config, "-wasm", wasmFile, "-concurrency", "2"}, portFlags(r.ports)...)
	r.cmd = exec.Command(command, args...)
	r.cmd.Dir = root
	r.cmd.Env = append(os.Environ(), "TMPDIR="+r.tmp)
	r.cmd.Stdout, r.cmd.Stderr = r.out, r.out
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		r.cmd.Wait()
		close(r.done)
	}()
	t.Cleanup(func() {
		r.cmd.Process.Kill()
		<-r.done
	})
	return r
}

func (r *running) pid() int { return r.cmd.Process.Pid }

func (r *running) waitFor(t *testing.T, text string) {
	t.Helper()
	poll(t, fmt.Sprintf("%q", text), func() bool {
		select {
		case <-r.done:
			t.Fatalf("it ended early:\n%s", r.out)
		default:
		}
		return strings.Contains(r.out.String(), text)
	})
}

// wait returns the exit code, -1 for a death by signal.
func (r *running) wait(t *testing.T) int {
	t.Helper()
	select {
	case <-r.done:
	case <-time.After(patience):
		t.Fatalf("it did not end:\n%s", r.out)
	}
	return r.cmd.ProcessState.ExitCode()
}

func (r *running) children(t *testing.T) []*process.Process {
	t.Helper()
	p, err := process.NewProcess(int32(r.pid()))
	if err != nil {
		t.Fatal(err)
	}
	children, err := p.Children()
	if err != nil {
		t.Fatal(err)
	}
	return children
}

// gone reports whether a process has ended. A zombie has: it waits for an init that may not exist in a container.
func gone(p *process.Process) bool {
	status, err := p.Status()
	return err != nil || len(status) == 0 || status[0] == process.Zombie
}

func wantOK(t *testing.T, port int) {
	t.Helper()
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Get(fmt.Sprintf("http://127.0.0.1:%d/some-test", port))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK || string(body) != "ok\n" {
		t.Errorf("port %d answers %d %q, %v", port, res.StatusCode, body, err)
	}
}

// poll waits until done, and fails the test when that takes too long.
func poll(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// A syncBuffer may be written and read at once.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
