// Command pictures draws the pictures of the documents: those of what the engine decides on a virtual clock, next to
// sentinel-golang; and those of what was measured before, from docs/figures. `pictures demo` takes the picture of the demo's
// page in a headless browser; it needs `make wasm` before it, and a Chromium.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"gonum.org/v1/plot"

	"sentinel-envoy/internal/figures"
)

// defaultDir is where pictures are, from the root of the repository.
const defaultDir = "docs/img"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		stop()
		fmt.Fprintln(os.Stderr, "pictures:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) > 0 && args[0] == "demo" {
		return demoMain(ctx, args[1:])
	}
	flags := flag.NewFlagSet("pictures", flag.ExitOnError)
	dir := flags.String("o", defaultDir, "`directory` of the pictures")
	from := flags.String("figures", figures.Dir, "`directory` of the figures")
	flags.Parse(args)
	if flags.NArg() > 0 {
		flags.Usage()
		os.Exit(2)
	}
	return drawAll(*from, *dir)
}

// drawAll draws all pictures into dir. One whose figures there are not is left out, which is said.
func drawAll(from, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	natively := func(draw func() (*plot.Plot, error)) func() (*plot.Plot, bool, error) {
		return func() (*plot.Plot, bool, error) {
			p, err := draw()
			return p, true, err
		}
	}
	var errs []error
	for _, picture := range []struct {
		name string
		draw func() (*plot.Plot, bool, error)
	}{
		{"warm-up", natively(drawWarmUp)},
		{"throttling", natively(drawThrottling)},
		{"breaker", natively(drawBreaker)},
		{"admitted", measured(from, "admitted", drawAdmitted)},
		{"scaling", measured(from, "scaling", drawScaling)},
		{"cost", measured(from, "bench", drawCost)},
		{"refusals", measured(from, "refusals", drawRefusals)},
		{"memory", measured(from, "memory", drawMemory)},
		{"growth", measured(from, "curves", drawGrowth)},
		{"calls", ofCurve(from, "cluster", drawCalls)},
	} {
		p, found, err := picture.draw()
		if err == nil && found {
			err = save(p, dir, picture.name+".svg")
		} else if err == nil {
			fmt.Fprintf(os.Stderr, "%s.svg is left out: there are no figures for it\n", picture.name)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", picture.name, err))
		}
	}
	return errors.Join(errs...)
}

// ofCurve draws one kind of the curves, and reports whether there is one: not every machine has what it needs.
func ofCurve(from, kind string, draw func(figures.Curve) (*plot.Plot, error)) func() (*plot.Plot, bool, error) {
	return func() (p *plot.Plot, found bool, err error) {
		var all []figures.Curve
		if _, err := figures.Load(filepath.Join(from, "curves.json"), &all); err != nil {
			return nil, false, err
		}
		for _, c := range all {
			if c.Kind == kind {
				p, err = draw(c)
				return p, true, err
			}
		}
		return nil, false, nil
	}
}

// measured draws from a file of figures, and reports whether there is one.
func measured[F any](from, name string, draw func(F) (*plot.Plot, error)) func() (*plot.Plot, bool, error) {
	return func() (p *plot.Plot, found bool, err error) {
		var f F
		if found, err = figures.Load(filepath.Join(from, name+".json"), &f); found && err == nil {
			p, err = draw(f)
		}
		return p, found, err
	}
}
