// Wasmbuild builds the Wasm plugin: one reproducible step that needs nothing but Go.
//
//	go run ./internal/wasmbuild -o dist/sentinel.wasm ./plugins
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"

	"sentinel-envoy/internal/tinygo"
	"sentinel-envoy/internal/wasmbuild/build"
	"sentinel-envoy/internal/wasmbuild/module"
	"sentinel-envoy/internal/wasmbuild/parts"
)

func main() {
	var o build.Options
	var exports string
	flag.StringVar(&o.Out, "o", "dist/sentinel.wasm", "`file` to write; its checksum goes to <file>.sha256")
	flag.StringVar(&o.Tags, "tags", "", "build `tags`, separated by commas")
	flag.StringVar(&o.Version, "version", "", "the release's `name`, such as v0.1.0 (default: the tag of the commit, or dev)")
	flag.StringVar(&exports, "exports", strings.Join(build.DefaultCallbacks, ","),
		"the callbacks to keep, separated by commas; other proxy_on_* `names` are dropped")
	flag.BoolVar(&o.Names, "names", false, "keep symbol names and custom sections, for profiles and stack traces")
	flag.BoolVar(&o.KeepAll, "keep-all", false, "keep every callback, symbol name and custom section")
	tiny := flag.Bool("tiny", false, "compile with TinyGo instead of Go; it is built on first use")
	flag.StringVar(&o.TinyGo, "tinygo", "", "`path` of a TinyGo of your own, 0.41 or later, to compile with")
	flag.StringVar(&o.TinyGoTarget, "tinygo-target", "", "`target` for TinyGo (default wasip1)")
	flag.StringVar(&o.WasmOpt, "wasm-opt", "", "`path` of Binaryen's wasm-opt, to run with -O3")
	sizes := flag.Bool("parts", false, "print what the module is made of, by size; implies -names")
	verbose := flag.Bool("v", false, "print which imports of Go's became functions, and which exports were dropped")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: wasmbuild [flags] package")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() != 1 {
		flag.Usage()
		os.Exit(2)
	}
	o.Package = flag.Arg(0)
	o.Callbacks = strings.Split(exports, ",")
	o.Names = o.Names || *sizes

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if *tiny && o.TinyGo == "" {
		c, err := tinygo.Find(ctx, tinygo.Options{Log: os.Stderr})
		if err != nil {
			fmt.Fprintln(os.Stderr, "wasmbuild:", err)
			os.Exit(1)
		}
		o.TinyGo, o.TinyGoTarget = c.Path, c.Target
	}
	res, err := build.Build(ctx, o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "wasmbuild:", err)
		os.Exit(1)
	}
	fmt.Printf("%s: %.2f MB, sha256 %s\n", o.Out, float64(res.Size)/1e6, res.SHA256)
	if *sizes {
		if err := printParts(o.Out); err != nil {
			fmt.Fprintln(os.Stderr, "wasmbuild:", err)
			os.Exit(1)
		}
	}
	if *verbose {
		fmt.Println("replaced imports:", strings.Join(res.Replaced, " "))
		fmt.Println("dropped exports:", strings.Join(res.Dropped, " "))
	}
}

// printParts prints what a module with names is made of.
func printParts(file string) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	m, err := module.Parse(b)
	if err != nil {
		return err
	}
	return parts.Write(os.Stdout, m)
}
