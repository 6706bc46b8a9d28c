// Package quickstart runs a whole sample on this machine: a real HTTP service, and a real Envoy in front of it that
// guards it with the Wasm binary. It is the command `sentinel run`.
package quickstart

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"sentinel-envoy/internal/envoybin"
)

type settings struct {
	config      string
	wasm        string
	concurrency int
	logLevel    string
	ports       Ports
}

// Main runs the sample until ctx ends, and returns the exit code: 0 when ctx ended or Envoy was told to stop, 1 for a
// failure, 2 for wrong arguments. When it returns, Envoy and the service are gone and temporary files are removed.
// "Ready" on stdout begins the lines that say what to try; Envoy's log and errors go to stderr.
func Main(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	s, err := parse(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		return 2
	}
	if err := run(ctx, s, stdout, stderr); err != nil {
		fmt.Fprintln(stderr, "sentinel run:", err)
		return 1
	}
	return 0
}

// parse reads the flags. It has printed the error that it returns.
func parse(args []string, stderr io.Writer) (settings, error) {
	var s settings
	fs := flag.NewFlagSet("sentinel run", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.StringVar(&s.config, "config", "envoy/envoy.yaml", "Envoy bootstrap `file`; its ports and its Wasm file are replaced by those given here")
	fs.StringVar(&s.wasm, "wasm", "dist/sentinel.wasm", "Wasm `file`, made by make wasm")
	fs.IntVar(&s.concurrency, "concurrency", 4, "Envoy's worker threads")
	fs.IntVar(&s.ports.HTTP, "http-port", 8099, "port of the HTTP listener")
	fs.IntVar(&s.ports.TCP, "tcp-port", 18000, "port of the TCP listener")
	fs.IntVar(&s.ports.Admin, "admin-port", 8001, "port of Envoy's admin interface")
	fs.IntVar(&s.ports.Upstream, "upstream-port", 18080, "port of the service behind Envoy")
	fs.StringVar(&s.logLevel, "log-level", "warn,wasm:info", "Envoy's log `level[,component:level...]`")
	if err := fs.Parse(args); err != nil {
		return s, err
	}
	var err error
	switch {
	case fs.NArg() > 0:
		err = fmt.Errorf("unexpected argument %q", fs.Arg(0))
	case s.concurrency < 1:
		err = fmt.Errorf("-concurrency %d: must be at least 1", s.concurrency)
	}
	if err != nil {
		fmt.Fprintln(stderr, "sentinel run:", err)
	}
	return s, err
}

func run(ctx context.Context, s settings, stdout, stderr io.Writer) error {
	rendered, err := prepare(s)
	if err != nil {
		return err
	}
	if err := checkPorts(ctx, s.ports.list()); err != nil {
		return err
	}
	envoy, err := envoybin.Find(ctx, envoybin.Options{Log: stderr})
	if ctx.Err() != nil {
		return nil // the user stopped the download
	}
	if err != nil {
		return err
	}
	upstream, err := startUpstream(s.ports.Upstream)
	if err != nil {
		return err
	}
	defer upstream.Close()
	dir, err := os.MkdirTemp("", "sentinel-run-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)

	fmt.Fprintf(stdout, "starting %s with %d worker threads; it compiles the Wasm first, which takes a few seconds\n", envoy, s.concurrency)
	err = runEnvoy(ctx, s, envoy, dir, rendered, stdout, stderr, func() { printHints(stdout, s) })
	if err == nil {
		fmt.Fprintln(stdout, "stopped")
	}
	return err
}

// prepare returns the bootstrap to run.
func prepare(s settings) ([]byte, error) {
	wasm, err := filepath.Abs(s.wasm)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(wasm); err != nil {
		return nil, fmt.Errorf("%w (`make wasm` builds it)", err)
	}
	bootstrap, err := os.ReadFile(s.config)
	if err != nil {
		return nil, err
	}
	rendered, err := Render(bootstrap, s.ports, wasm)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.config, err)
	}
	return rendered, nil
}

func printHints(w io.Writer, s settings) {
	p := s.ports
	fmt.Fprintf(w, `
Ready. Ctrl-C ends everything. To try, in another terminal:

  one HTTP request     curl -i http://127.0.0.1:%[1]d/some-test
  one TCP connection   curl -i http://127.0.0.1:%[2]d/some-test
  100 requests/s       go run ./cmd/sentinel load -q 100 -u some-test -p %[1]d
  100 connections/s    go run ./cmd/sentinel load -q 100 -u some-test -p %[2]d -tcp
  what passed          curl -s http://127.0.0.1:%[3]d/stats/prometheus | grep sentinel
  the service itself   http://127.0.0.1:%[4]d/

`, p.HTTP, p.TCP, p.Admin, p.Upstream)
}
