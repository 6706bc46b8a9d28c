package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/shirou/gopsutil/v4/process"

	"sentinel-envoy/internal/envoytest"
)

const patience = 4 * time.Minute

// TestRunCluster runs the command, sees three Envoys admit no more than their limit, and ends it as Ctrl-C does: nothing is left.
func TestRunCluster(t *testing.T) {
	if _, err := exec.LookPath("redis-server"); err != nil {
		t.Skip(err)
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	command := filepath.Join(t.TempDir(), "runcluster")
	if out, err := exec.Command("go", "build", "-o", command, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	first, upstream := freePorts(t)
	tmp := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, command, "-wasm", filepath.Join(root, "dist/sentinel.wasm"), "-concurrency", "2",
		"-port", strconv.Itoa(first), "-upstream-port", strconv.Itoa(upstream))
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp)
	cmd.SysProcAttr = envoytest.DieWithParent()
	cmd.SysProcAttr.Setpgid = true
	var out buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	second := regexp.MustCompile(`(?m)^ +(\d+) +\d+ +\d+ +\d+ +(\d+) `)
	var children []*process.Process
	for len(second.FindAllString(out.String(), -1)) < 4 {
		if ctx.Err() != nil {
			t.Fatalf("no figures:\n%s", out.String())
		}
		time.Sleep(50 * time.Millisecond)
		if all := childrenOf(cmd.Process.Pid); len(all) > len(children) {
			children = all
		}
	}
	if len(children) != 5 {
		t.Errorf("%d processes, want three Envoys, the service and Redis", len(children))
	}
	if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v\n%s", err, out.String())
	}
	for _, c := range children {
		if running, err := c.IsRunning(); err == nil && running {
			t.Errorf("process %d is left", c.Pid)
		}
	}
	if left, _ := os.ReadDir(tmp); len(left) > 0 {
		t.Errorf("files are left: %v", left)
	}
	passed := 0
	for i, m := range second.FindAllStringSubmatch(out.String(), 4) {
		n, _ := strconv.Atoi(m[2])
		if passed += n; passed > limit*(i+2) { // an answer may come in the second after its admission
			t.Errorf("%d of %d a second are admitted in %d seconds", passed, limit, i+1)
		}
	}
	if passed == 0 {
		t.Error("nothing is admitted")
	}
}

func childrenOf(pid int) []*process.Process {
	p, err := process.NewProcess(int32(pid))
	if err != nil {
		return nil
	}
	children, _ := p.Children()
	return children
}

// freePorts are the first of three ports in a row, and another.
func freePorts(t *testing.T) (first, other int) {
	t.Helper()
	for port := 21000 + os.Getpid()%9000; port < 32000; port += 4 {
		if err := errors.Join(free(port), free(port+1), free(port+2), free(port+3)); err == nil {
			return port, port + 3
		}
	}
	t.Fatal("no four ports in a row are free")
	return 0, 0
}

func free(port int) error {
	l, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
	if err == nil {
		return l.Close()
	}
	return err
}

// The service's configuration is that of the example's rules.
func TestServiceRules(t *testing.T) {
	text, err := os.ReadFile("../../envoy/examples/cluster.yaml")
	if err != nil {
		t.Fatal(err)
	}
	got, err := serviceRules(text)
	if err != nil || !strings.Contains(got, fmt.Sprintf("requests_per_unit: %d\n", limit)) || !strings.Contains(got, "key: value") {
		t.Errorf("%v\n%s", err, got)
	}
	if _, err := serviceRules(bytes.ReplaceAll(text, []byte("clusterMode: true"), []byte("clusterMode: false"))); err == nil {
		t.Error("no rule is in cluster mode")
	}
	if _, err := withService(bytes.ReplaceAll(text, []byte("name: rls"), []byte("name: other")), nil); err == nil {
		t.Error("there is no cluster rls")
	}
}

// buffer is what a command has written so far.
type buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
