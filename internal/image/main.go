// Command image puts plugins into OCI images, with their checksums and lists of what they are made of attached.
//
//	go -C internal/image run . [-push registry.example.com/sentinel:v0.1.0] dist/sentinel.wasm dist/sentinel-tiny.wasm
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
	var o options
	flag.StringVar(&o.root, "root", "../..", "`directory` of the source, to which other paths are relative")
	flag.StringVar(&o.out, "o", "dist/image", "`directory` to write; what was in it is gone afterwards")
	flag.StringVar(&o.version, "version", "", "the release's `name`, such as v0.1.0 (default: the tag of the commit)")
	flag.StringVar(&o.push, "push", "", "`host/repository:tag` to push to as well, by the credentials that you have stored")
	flag.Parse()
	o.plugins = flag.Args()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Stdout, o); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}
