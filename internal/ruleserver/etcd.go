package ruleserver

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"testing"
	"time"

	"sentinel-envoy/internal/envoytest"
)

// patience is how long a real server may take to start.
const patience = 3 * time.Minute

// Etcd is an etcd.
type Etcd struct {
	Addr string
	dir  string
	cmd  *exec.Cmd
}

// StartEtcd starts an etcd until the test's end. The test is skipped where there is none.
func StartEtcd(t testing.TB) *Etcd {
	t.Helper()
	if _, err := exec.LookPath("etcd"); err != nil {
		t.Skip("no etcd is installed (Debian: etcd-server)")
	}
	e := &Etcd{Addr: FreeAddr(t), dir: t.TempDir()}
	e.Restart(t)
	t.Cleanup(e.Kill)
	return e
}

// Kill ends it; Restart starts it again with what it had, or without, after Forget.
func (e *Etcd) Kill() {
	_ = e.cmd.Process.Kill()
	_ = e.cmd.Wait()
}

// Forget makes the next Restart one of an empty etcd.
func (e *Etcd) Forget(t testing.TB) { e.dir = t.TempDir() }

// Restart is described with Kill.
func (e *Etcd) Restart(t testing.TB) {
	t.Helper()
	peer := FreeAddr(t)
	e.cmd = exec.Command("etcd", "--data-dir", e.dir, "--listen-client-urls", "http://"+e.Addr,
		"--advertise-client-urls", "http://"+e.Addr,
		"--listen-peer-urls", "http://"+peer, "--log-level", "error")
	if err := e.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	envoytest.Eventually(t, patience, "etcd is ready", func() bool { return get("http://"+e.Addr+"/health") == nil })
}

// Put stores a value.
func (e *Etcd) Put(t testing.TB, key, value string) {
	t.Helper()
	encode := base64.StdEncoding.EncodeToString
	body := fmt.Sprintf(`{"key": %q, "value": %q}`, encode([]byte(key)), encode([]byte(value)))
	answer, err := http.Post("http://"+e.Addr+"/v3/kv/put", "application/json", bytes.NewReader([]byte(body)))
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		t.Fatalf("etcd answers %s to a put", answer.Status)
	}
}

func get(url string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s", answer.Status)
	}
	return nil
}

// FreeAddr is a loopback address that nobody listens at.
func FreeAddr(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
