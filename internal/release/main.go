// Command release writes what a release page needs into one directory: the Wasm binaries, what is to be passed on with
// them, the changelog's section, and the checksums of all these.
//
//	go run ./internal/release [-version v0.2.0] [-o dist/release] [-tinygo path]
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	o := options{root: ".", pkg: "./plugins"}
	flag.StringVar(&o.version, "version", "", "the release's `name`, such as v0.1.0 (default: the tag of the commit)")
	flag.StringVar(&o.out, "o", "dist/release", "`directory` to write; what was in it is gone afterwards")
	flag.StringVar(&o.tinyGo, "tinygo", "", "`path` of TinyGo (default: tinygo; where there is none, its artefact is left out)")
	flag.StringVar(&o.tinyGoTarget, "tinygo-target", "", "`target` for TinyGo (default wasip1)")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := release(ctx, os.Stdout, o); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}
