package quickstart

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sentinel-envoy/internal/envoytest"
)

func TestPortsInUseAreNamed(t *testing.T) {
	taken, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	p := freePorts(t)
	p.Admin = taken.Addr().(*net.TCPAddr).Port

	code, _, stderr := runMain(t, p)
	if code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	wantText(t, stderr, fmt.Sprintf("admin interface cannot have port %d", p.Admin), "address already in use",
		"-admin-port", "make run ADMIN_PORT=")
	if _, err := os.Stat("/proc/self/fd"); err == nil {
		wantText(t, stderr, fmt.Sprintf("by process %d", os.Getpid()))
	}
	for _, other := range []string{"-http-port", "-tcp-port", "-upstream-port"} {
		if strings.Contains(stderr, other) {
			t.Errorf("it speaks of %s, whose port is free:\n%s", other, stderr)
		}
	}
}

func TestPortsMustDifferAndExist(t *testing.T) {
	p := freePorts(t)
	p.TCP, p.Upstream = p.HTTP, 70000
	code, _, stderr := runMain(t, p)
	if code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	wantText(t, stderr, "given to both the HTTP listener and the TCP listener", "-tcp-port", "-upstream-port 70000")
}

func TestMistakesAreTold(t *testing.T) {
	dir := t.TempDir()
	wasm, config := filepath.Join(dir, "x.wasm"), filepath.Join(dir, "envoy.yaml")
	write(t, wasm, "")
	write(t, config, "[]")
	for _, c := range []struct {
		args []string
		code int
		want []string
	}{
		{[]string{"-wasm", filepath.Join(dir, "none"), "-config", config, "-tcp-port", "0", "-admin-port", "70000"}, 1,
			[]string{"make wasm", config + ": it is no Envoy bootstrap", "-tcp-port 0", "-admin-port 70000"}},
		{[]string{"-wasm", wasm, "-config", filepath.Join(dir, "none"), "-tcp-port", "0"}, 1, []string{"none", "-tcp-port 0"}},
		{[]string{"-concurrency", "0", "something"}, 2, []string{"at least 1", "something"}},
		{[]string{"-nonsense"}, 2, []string{"-nonsense"}},
		{[]string{"-h"}, 0, []string{"-upstream-port"}},
	} {
		var stdout, stderr bytes.Buffer
		if code := Main(t.Context(), c.args, &stdout, &stderr); code != c.code {
			t.Errorf("%q: exit code %d, want %d", c.args, code, c.code)
		}
		wantText(t, stderr.String(), c.want...)
	}
}

// TestOnlyPortsInUseAreAskedFor takes a port that the bootstrap has no place for.
func TestOnlyPortsInUseAreAskedFor(t *testing.T) {
	b, err := parseBootstrap([]byte(strings.Replace(minimal, "name: tcp", "name: raw", 1)))
	if err != nil {
		t.Fatal(err)
	}
	var places []string
	for _, l := range b.used(somePorts) {
		places = append(places, l.place)
	}
	if got := strings.Join(places, ", "); got != "listener named http, admin address, cluster named web_service" {
		t.Errorf("ports of %s", got)
	}
}

// TestHintsAreOfWhatThereIs prints the Ready block for the sample, for another bootstrap, and for one without a listener.
func TestHintsAreOfWhatThereIs(t *testing.T) {
	for _, c := range []struct {
		config, bootstrap string
		labels            string
	}{
		{"./envoy/envoy.yaml", minimal, "one HTTP request, one TCP connection, a blocked one, 100 requests/s, " +
			"100 connections/s, what passed, the service itself"},
		{"my.yaml", minimal, "one HTTP request, one TCP connection, 100 requests/s, 100 connections/s, what passed, " +
			"the service itself"},
		{"my.yaml", strings.ReplaceAll(minimal, "name: tcp", "name: raw"),
			"one HTTP request, 100 requests/s, what passed, the service itself"},
	} {
		b, err := parseBootstrap([]byte(c.bootstrap))
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		printHints(&out, settings{config: c.config, ports: somePorts}, b)
		var labels []string
		for line := range strings.Lines(out.String()) {
			if label, command, found := strings.Cut(strings.TrimPrefix(line, "  "), "  "); found {
				labels = append(labels, label)
				if !strings.Contains(command, "100") { // each of the ports begins with it
					t.Errorf("no port in %q", line)
				}
			}
		}
		if got := strings.Join(labels, ", "); got != c.labels {
			t.Errorf("%s: it shows %s, want %s", c.config, got, c.labels)
		}
	}
}

func TestLogWatchKeepsTheLastProblems(t *testing.T) {
	var out bytes.Buffer
	w := &logWatch{to: &out}
	var all string
	for i := range 8 {
		all += fmt.Sprintf("[date][1][info][main] fine %d\n[date][1][critical][main] bad %d\n", i, i)
	}
	for i := range len(all) { // the worst way to cut it into writes
		w.Write([]byte(all[i : i+1]))
	}
	if out.String() != all {
		t.Error("the log was not passed on as it is")
	}
	kept := strings.Join(w.kept, "\n")
	if len(w.kept) != keptProblems || !strings.HasSuffix(kept, "bad 7") || strings.Contains(kept, "fine") {
		t.Errorf("kept:\n%s", kept)
	}
	w.Write([]byte("[critical]" + strings.Repeat("x", 10*keptBytes) + "\n"))
	if n := len(w.kept[keptProblems-1]); n != keptBytes {
		t.Errorf("kept %d bytes of a long line, want %d", n, keptBytes)
	}
}

// runMain runs the command, which must fail before it looks for Envoy, with the sample's own configuration.
func runMain(t *testing.T, p Ports) (code int, stdout, stderr string) {
	t.Helper()
	wasm := filepath.Join(t.TempDir(), "x.wasm")
	write(t, wasm, "")
	t.Setenv("ENVOY_PATH", "/no/envoy/in/this/test")
	var out, errs bytes.Buffer
	code = Main(context.Background(), append(portFlags(p), "-config", "../../envoy/envoy.yaml", "-wasm", wasm), &out, &errs)
	return code, out.String(), errs.String()
}

func portFlags(p Ports) []string {
	var args []string
	for _, l := range p.list() {
		args = append(args, fmt.Sprintf("-%s=%d", l.Flag, l.Number))
	}
	return args
}

// freePorts returns four ports that were free a moment ago.
func freePorts(t *testing.T) Ports {
	t.Helper()
	ports, err := envoytest.FreePorts(4)
	if err != nil {
		t.Fatal(err)
	}
	return Ports{HTTP: ports[0], TCP: ports[1], Admin: ports[2], Upstream: ports[3]}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func wantText(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("no %q in:\n%s", part, text)
		}
	}
}
