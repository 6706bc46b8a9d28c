package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"sentinel-envoy/internal/envoytest"
	"sentinel-envoy/internal/plugintest"
	"sentinel-envoy/internal/top"
)

// topOnce runs `sentinel top -once -json`.
func topOnce(t *testing.T, e *envoytest.Envoy, more ...string) (f top.Figures) {
	t.Helper()
	var out, errs bytes.Buffer
	args := append([]string{"-once", "-json", "-interval", "1s", "-admin", e.Admin.Addr()}, more...)
	if code := top.Main(t.Context(), args, &out, &errs); code != 0 {
		t.Fatalf("code %d: %s", code, errs.String())
	}
	if err := json.Unmarshal(out.Bytes(), &f); err != nil {
		t.Fatal(err)
	}
	return f
}

// TestTop looks at a real Envoy under load with `sentinel top`: as a script does, and in a terminal, with keys.
func TestTop(t *testing.T) {
	web := envoytest.StartHTTPService(t)
	config := `{` + flowRules(flowRule("orders-limit", "/orders", 5), flowRule("users-limit", "/users", 1_000_000)) + `}`
	e := start(t, envoytest.Config{Listeners: []envoytest.Listener{envoytest.HTTP{Upstream: web.Addr(), ExactBalance: true, Wasm: httpFilter(t, config)}}})
	for range 8 {
		e.Get("http", "/orders")
	}
	stop := keepAsking(t, e, "/orders", "/users")
	defer stop()
	var f top.Figures
	envoytest.Eventually(t, soon, "top shows what passes and what is refused", func() bool {
		f = topOnce(t, e)
		return len(f.Resources) == 2 && f.Resources[0].Blocked > 0 && f.Resources[0].Passed == 0 && f.Resources[1].Passed > 0 && len(f.Rules) == 2
	})
	if r := f.Resources[0]; r.Name != "/orders" || f.Resources[1].Blocked != 0 {
		t.Errorf("resources %+v", f.Resources)
	}
	if r := f.Rules[0]; r.ID != "orders-limit" || r.Threshold != 5 || r.Fill() != 1 || r.Blocked <= 0 {
		t.Errorf("rules %+v", f.Rules)
	}
	envoytest.Eventually(t, soon, "all VMs and threads are there", func() bool {
		f = topOnce(t, e)
		vms, threads, opened := 0, 0, 0.0
		for _, w := range f.Workers {
			if strings.HasPrefix(w.Name, "VM") && w.State == "" {
				vms++
			} else if strings.HasPrefix(w.Name, "thread") {
				threads++
				opened += w.Opened
			}
		}
		return vms == workers+1 && threads == workers && opened > 0 && f.Process.RuleSets == 1
	})
	if f = topOnce(t, e, "-filter", "users"); len(f.Resources) != 1 || len(f.Rules) != 1 || f.Rules[0].ID != "users-limit" {
		t.Errorf("with a filter %+v %+v", f.Resources, f.Rules)
	}
	t.Run("terminal", func(t *testing.T) { topInTerminal(t, e.For(t)) })
}

// keepAsking asks for paths on connections of their own until stop is called.
func keepAsking(t *testing.T, e *envoytest.Envoy, paths ...string) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for _, path := range paths {
		all.Go(func() {
			for ctx.Err() == nil {
				client := envoytest.NewHTTPClient(false)
				_, _ = envoytest.Do(ctx, client, "GET", e.URL("http")+path)
				client.CloseIdleConnections()
			}
		})
	}
	return func() {
		cancel()
		all.Wait()
	}
}

// topInTerminal presses keys, and looks at what the terminal gets after each.
func topInTerminal(t *testing.T, e *envoytest.Envoy) {
	binary := plugintest.Scratch("sentinel-top")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, filepath.Join(root, "cmd/sentinel")).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	screen, end := terminal(t, binary, "top", "-admin", e.Admin.Addr(), "-interval", "200ms")
	for _, c := range []struct {
		keys  string
		wants []string
	}{
		{"", []string{"RESOURCE▾", "/orders", "/users", "sets of rules 1"}},
		{"\t", []string{"RULE▾", "orders-limit", "██████████ 5/5"}},
		{"/users\r", []string{"filter: users  (esc ends it)", "users-limit"}},
		{"\t", []string{"WORKER▾", "thread   3", "VM   4"}},
		{"\x1b[C\x1b[C\x1b[C", []string{"CONNECTIONS▾"}},
	} {
		screen.reset()
		screen.press(t, c.keys)
		for _, want := range c.wants {
			envoytest.Eventually(t, soon, fmt.Sprintf("after %q the screen has %q", c.keys, want), func() bool { return screen.has(want) })
		}
	}
	screen.press(t, "q")
	if err := end(); err != nil {
		t.Errorf("q ends it with %v", err)
	}
}

// screenText is what a terminal has got since the last reset.
type screenText struct {
	keys *os.File
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *screenText) reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text.Reset()
}

func (s *screenText) has(want string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Contains(s.text.String(), want)
}

func (s *screenText) press(t *testing.T, keys string) {
	t.Helper()
	if _, err := s.keys.WriteString(keys); err != nil {
		t.Fatal(err)
	}
}

// terminal runs a program in a pseudo-terminal of 120 by 40. end waits until it has ended by itself.
func terminal(t *testing.T, name string, args ...string) (s *screenText, end func() error) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("no pseudo-terminals: ", err)
	}
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 40, Col: 120}); err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprint("/dev/pts/", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Env = append(os.Environ(), "TERM=xterm-256color")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	slave.Close()
	s = &screenText{keys: master}
	read := make(chan struct{})
	go func() {
		defer close(read)
		piece := make([]byte, 4096)
		for {
			n, err := master.Read(piece)
			if err != nil { // the program has ended
				return
			}
			s.mu.Lock()
			s.text.Write(piece[:n])
			s.mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		master.Close()
	})
	return s, func() error {
		err := cmd.Wait()
		<-read
		return err
	}
}
