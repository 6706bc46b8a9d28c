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
	"strings"

	"sentinel-envoy/internal/envoybin"
)

// sampleConfig is the sample's own bootstrap, from the root of the repository.
const sampleConfig = "envoy/envoy.yaml"

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
	fs.StringVar(&s.config, "config", sampleConfig, "Envoy bootstrap `file`; of the listeners http and tcp, the admin "+
		"interface and the cluster web_service the ports are replaced, and sentinel.wasm by the Wasm file given here")
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
	var errs []error
	if fs.NArg() > 0 {
		errs = append(errs, fmt.Errorf("unexpected argument %q", fs.Arg(0)))
	}
	if s.concurrency < 1 {
		errs = append(errs, fmt.Errorf("-concurrency %d: must be at least 1", s.concurrency))
	}
	err := errors.Join(errs...)
	if err != nil {
		fmt.Fprintln(stderr, "sentinel run:", err)
	}
	return s, err
}

func run(ctx context.Context, s settings, stdout, stderr io.Writer) error {
	b, rendered, err := prepare(ctx, s)
	if err != nil {
		return err
	}
	if missing := b.missing(); len(missing) > 0 {
		fmt.Fprintf(stdout, "%s: %s; all else runs as it is written\n", s.config, strings.Join(missing, ", "))
	}
	envoy, err := envoybin.Find(ctx, envoybin.Options{Log: stderr})
	if ctx.Err() != nil {
		return nil // the user stopped the download
	}
	if err != nil {
		return err
	}
	if b.has(placeUpstream) {
		upstream, err := StartUpstream(s.ports.Upstream)
		if err != nil {
			return err
		}
		defer upstream.Close()
	}
	dir, err := os.MkdirTemp("", "sentinel-run-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)

	fmt.Fprintf(stdout, "starting %s with %d worker threads; it compiles the Wasm first, which takes a few seconds\n",
		envoy, s.concurrency)
	err = Envoy{
		Binary: envoy, Bootstrap: rendered, Dir: dir, Concurrency: s.concurrency, LogLevel: s.logLevel,
		Stdout: stdout, Log: stderr, Ready: func() { printHints(stdout, s, b) },
	}.Run(ctx)
	if err == nil {
		fmt.Fprintln(stdout, "stopped")
	}
	return err
}

// prepare returns the bootstrap, and the text of it to run. Its error is about all that is wrong with files and ports.
func prepare(ctx context.Context, s settings) (b *bootstrap, rendered []byte, err error) {
	wasm, wasmErr := filepath.Abs(s.wasm)
	if wasmErr == nil {
		_, wasmErr = os.Stat(wasm)
	}
	if wasmErr != nil {
		wasmErr = fmt.Errorf("%w (`make wasm` builds it)", wasmErr)
	}
	ports := s.ports.list()
	text, configErr := os.ReadFile(s.config)
	if configErr == nil {
		if b, configErr = parseBootstrap(text); configErr != nil {
			configErr = fmt.Errorf("%s: %w", s.config, configErr)
		} else {
			ports = b.used(s.ports)
		}
	}
	if err := errors.Join(wasmErr, configErr, CheckPorts(ctx, numbers(ports))); err != nil {
		return nil, nil, err
	}
	rendered, err = b.render(s.ports, wasm)
	return b, rendered, err
}
