package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	"sentinel-envoy/internal/browser"
	"sentinel-envoy/internal/demo"
	"sentinel-envoy/internal/envoytest"
)

// The demo's picture.
const (
	pageWidth  = 1200
	pageHeight = 1080
	maxBytes   = 200_000
)

// demoMain is the command `pictures demo`.
func demoMain(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("pictures demo", flag.ExitOnError)
	file := flags.String("o", defaultDir+"/demo.png", "`file` of the picture")
	wasm := flags.String("wasm", "dist/sentinel.wasm", "the Sentinel `binary`")
	dark := flags.Bool("dark", false, "the page as it is on a dark screen")
	flags.Parse(args)
	if flags.NArg() > 0 {
		flags.Usage()
		os.Exit(2)
	}
	chromium, err := browser.Find()
	if err != nil {
		return err
	}
	ports, err := envoytest.FreePorts(4)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan int)
	go func() { ended <- demo.Main(ctx, demoArgs(*wasm, ports), os.Stderr, os.Stderr) }()
	shot, err := takePicture(ctx, chromium, fmt.Sprintf("http://127.0.0.1:%d/", ports[0]), *dark)
	cancel()
	if code := <-ended; code != 0 && err == nil {
		err = fmt.Errorf("the demo ended with %d", code)
	}
	if err == nil && len(shot) > maxBytes {
		err = fmt.Errorf("the picture has %d bytes, more than %d", len(shot), maxBytes)
	}
	if err != nil {
		return err
	}
	return os.WriteFile(*file, shot, 0o644)
}

// demoArgs are those of a demo whose chapters are long: the picture's story goes from one to the next.
func demoArgs(wasm string, ports []int) []string {
	args := []string{"-wasm", wasm, "-quiet", "1m", "-flood", "1m", "-failing", "1m", "-d", "10m"}
	for i, name := range []string{"page-port", "http-port", "admin-port", "upstream-port"} {
		args = append(args, "-"+name, fmt.Sprint(ports[i]))
	}
	return args
}

// scene is what is asked of the page's server, and how long the story goes on after that.
type scene struct {
	path string
	ask  any
	goOn time.Duration
}

// scenes are the two minutes that the picture shows: the curve follows a threshold that is changed during the first flood.
var scenes = []scene{
	{"chapter", map[string]any{"name": "quiet"}, 20 * time.Second},
	{"chapter", map[string]any{"name": "flood"}, 14 * time.Second},
	{"threshold", map[string]any{"rule": "shop-qps", "threshold": 200}, 14 * time.Second},
	{"threshold", map[string]any{"rule": "shop-qps", "threshold": 100}, 8 * time.Second},
	{"chapter", map[string]any{"name": "quiet"}, 10 * time.Second},
	{"chapter", map[string]any{"name": "failing"}, 26 * time.Second},
	{"chapter", map[string]any{"name": "quiet"}, 16 * time.Second},
	{"chapter", map[string]any{"name": "flood"}, 11 * time.Second},
}

// takePicture opens the page once it is there, has the story played on it, and gives the picture of its end.
func takePicture(ctx context.Context, chromium, address string, dark bool) (shot []byte, err error) {
	p, err := browser.Open(ctx, chromium, "about:blank", browser.Options{Width: pageWidth, Height: pageHeight, Dark: dark})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	if err := openLive(ctx, p, address); err != nil {
		return nil, err
	}
	for _, s := range scenes {
		body, err := json.Marshal(s.ask)
		if err != nil {
			return nil, err
		}
		if err := p.Eval(fmt.Sprintf("ask(%q, %s)", s.path, body), nil); err != nil {
			return nil, err
		}
		select {
		case <-time.After(s.goOn):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return p.Screenshot()
}

// liveWithin is how long Envoy may take to compile the filter.
const liveWithin = 3 * time.Minute

// openLive opens the page again and again until it says that it is live.
func openLive(ctx context.Context, p *browser.Page, address string) error {
	for end := time.Now().Add(liveWithin); time.Now().Before(end); {
		if err := p.Go(address); err != nil {
			return err
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return ctx.Err()
		}
		var state string
		if err := p.Eval(`(document.getElementById("status") || {}).className || ""`, &state); err != nil {
			return err
		}
		if strings.Contains(state, "live") {
			return nil
		}
	}
	return errors.New("the demo's page does not come to life")
}
