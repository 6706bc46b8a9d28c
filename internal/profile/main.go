// Command profile shows where CPU time goes in a real Envoy with the plugin under load: by callback, what is the plugin's
// own, Go's or the host's; then the dearest host calls and functions.
//
//	go run ./internal/profile -rules all
//
// It needs Linux, perf, and an Envoy of 1.39 or later. It runs a copy of that Envoy in which V8 tells perf the names of
// Wasm functions; the plugin is built with names, and is otherwise as `make wasm` builds it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"sentinel-envoy/internal/envoybin"
)

// options are the command's flags.
type options struct {
	envoy   string // an Envoy binary; "" is envoybin's
	rules   string // a name of a built-in configuration, or a file
	path    string // of the requests
	seconds int    // of sampling
	raw     string // the file to keep the samples in; "" for none
}

// maxSeconds keeps a mistyped flag from filling the disk.
const maxSeconds = 60

func main() {
	log.SetFlags(0)
	log.SetPrefix("profile: ")
	var o options
	flag.StringVar(&o.envoy, "envoy", "", "Envoy `binary`; empty: $ENVOY_PATH, then the pinned one")
	flag.StringVar(&o.rules, "rules", "flow", "plugin configuration: flow (one rule), all (a rule of each family), or a JSON `file`")
	flag.StringVar(&o.path, "path", "/", "path of the requests")
	flag.IntVar(&o.seconds, "seconds", 5, fmt.Sprintf("how long to take samples, at most %d", maxSeconds))
	flag.StringVar(&o.raw, "raw", "", "`file` to keep the samples in as perf script's text, for flame graphs")
	flag.Parse()
	if flag.NArg() > 0 || o.seconds < 1 || o.seconds > maxSeconds {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		stop()
		log.Fatal(err)
	}
}

// run takes the profile and prints its report on standard output; progress goes to standard error.
func run(ctx context.Context, o options) error {
	if runtime.GOOS != "linux" {
		return errors.New("perf is on Linux only")
	}
	perf, err := findPerf()
	if err != nil {
		return err
	}
	configuration, err := readRules(o.rules)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "sentinel-profile-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)

	s, err := prepare(ctx, dir, o, configuration)
	if err != nil {
		return err
	}
	text, load, err := s.profile(ctx, perf, time.Duration(o.seconds)*time.Second)
	if err != nil {
		return err
	}
	if o.raw != "" {
		if err := os.WriteFile(o.raw, text, 0o644); err != nil {
			return err
		}
		log.Printf("%s has the samples, as `perf script` wrote them", o.raw)
	}
	p, err := attribute(text)
	if err != nil {
		return err
	}
	return report{Rules: o.rules, Load: load, profile: p}.writeMarkdown(os.Stdout)
}

// findEnvoy gives the Envoy binary to copy: the given one, or the pinned release.
func findEnvoy(ctx context.Context, given string) (string, error) {
	if given != "" {
		return given, nil
	}
	return envoybin.Find(ctx, envoybin.Options{Log: os.Stderr})
}
