// Command ready makes the TinyGo compiler ready, and prints why where that needs packages that are missing and cannot be
// installed: then whoever would use it can do without. Anything else that goes wrong is an error.
//
// With -packages it only prints the names of the packages that are missing.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"strings"

	"sentinel-envoy/internal/tinygo"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("ready: ")
	packages := flag.Bool("packages", false, "print the names of the Debian packages that are missing")
	flag.Parse()
	if *packages {
		fmt.Println(strings.Join(tinygo.MissingPackages(), " "))
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	switch _, err := tinygo.Find(ctx, tinygo.Options{Log: os.Stderr}); {
	case errors.Is(err, tinygo.ErrPackages):
		fmt.Println(err)
	case err != nil:
		stop()
		log.Fatal(err)
	}
}
