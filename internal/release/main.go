// Command release writes what a release page needs into one directory: the Wasm binaries, what is to be passed on with
// them, the changelog's section, and the checksums of all these.
//
//	go run ./internal/release [-version v0.2.0] [-o dist/release] [-tiny]
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"sentinel-envoy/internal/tinygo"
)

func main() {
	o := options{root: ".", pkg: "./plugins"}
	flag.StringVar(&o.version, "version", "", "the release's `name`, such as v0.1.0 (default: the tag of the commit)")
	flag.StringVar(&o.out, "o", "dist/release", "`directory` to write; what was in it is gone afterwards")
	tiny := flag.Bool("tiny", false, "also compile sentinel-tiny.wasm, with TinyGo, which is built on first use")
	flag.StringVar(&o.tinyGo, "tinygo", "", "`path` of a TinyGo of your own, 0.41 or later, to compile sentinel-tiny.wasm with")
	flag.StringVar(&o.tinyGoTarget, "tinygo-target", "", "`target` for TinyGo (default wasip1)")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if *tiny && o.tinyGo == "" {
		o.tinyGo, o.tinyGoTarget, err = ownTinyGo(ctx)
	}
	if err == nil {
		err = release(ctx, os.Stdout, o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

// ownTinyGo is the path of the compiler that is pinned here, and the target to name to it.
func ownTinyGo(ctx context.Context) (path, target string, err error) {
	c, err := tinygo.Find(ctx, tinygo.Options{Log: os.Stderr})
	return c.Path, c.Target, err
}
