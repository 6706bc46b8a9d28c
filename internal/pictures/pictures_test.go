package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"sentinel-envoy/internal/figures"
)

const root = "../.."

// TestWarmUpIsSentinels: the picture shows one curve and not two.
func TestWarmUpIsSentinels(t *testing.T) {
	ours, sentinels, err := warmUp(15, 200)
	if err != nil {
		t.Fatal(err)
	}
	for i := range ours {
		if ours[i] != sentinels[i] {
			t.Errorf("second %d: %v, sentinel-golang admits %v", i+1, ours[i], sentinels[i])
		}
	}
	if ours[0] > warmThreshold/2 || ours[len(ours)-1] != warmThreshold {
		t.Errorf("it does not warm up: %v", ours)
	}
}

func TestThrottlingIsSentinels(t *testing.T) {
	arrivals, err := throttle(50, 40*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	waited, refused := 0, 0
	for _, a := range arrivals {
		if d := a.ours - a.sentinels; d > 1e-6 || d < -1e-6 {
			t.Errorf("who came at %.3f s is let in at %.3f s, by sentinel-golang at %.3f s", a.came, a.ours, a.sentinels)
		}
		if a.ours > a.came {
			waited++
		} else if a.ours < 0 {
			refused++
		}
	}
	if waited < 10 || refused < 10 {
		t.Errorf("%d waited, %d were refused: nothing to see", waited, refused)
	}
}

// TestBreakerIsSentinels: ours changes when sentinel-golang's does, or two ticks later, which is when it is told.
func TestBreakerIsSentinels(t *testing.T) {
	ours, sentinels, err := breakerPhases(12, 2, 7)
	if err != nil {
		t.Fatal(err)
	}
	if len(ours) != len(sentinels) || len(ours) < 6 {
		t.Fatalf("states %v, sentinel-golang's %v", ours, sentinels)
	}
	late := 0.0
	for i := range ours {
		late = max(late, ours[i].at-sentinels[i].at)
		if ours[i].state != sentinels[i].state || ours[i].at < sentinels[i].at {
			t.Errorf("state %v, sentinel-golang's %v", ours[i], sentinels[i])
		}
	}
	if late > 0.1 {
		t.Errorf("up to %.3f s later than sentinel-golang", late)
	}
}

// TestPicturesAreForEveryPage draws all and looks at what a browser gets: text that is text, in colours of the page.
func TestPicturesAreForEveryPage(t *testing.T) {
	dir := t.TempDir()
	if err := drawAll(filepath.Join(root, figures.Dir), dir); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.svg"))
	if err != nil || len(files) < 3 {
		t.Fatalf("only %v are drawn, %v", files, err)
	}
	for _, file := range files {
		svg, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for d := xml.NewDecoder(bytes.NewReader(svg)); ; {
			if _, err := d.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", file, err)
			}
		}
		for _, want := range []string{"<title>", "prefers-color-scheme: dark", "var(--c010101)", "<text"} {
			if !bytes.Contains(svg, []byte(want)) {
				t.Errorf("%s has no %s", file, want)
			}
		}
		for _, no := range []string{"#000000", "#FFFFFF", "#-", "NaN", "Inf"} {
			if bytes.Contains(svg, []byte(no)) {
				t.Errorf("%s has %s", file, no)
			}
		}
	}
}

// TestPicturesShowTheFigures: who measures anew draws anew.
func TestPicturesShowTheFigures(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("another processor rounds the coordinates otherwise")
	}
	dir := t.TempDir()
	if err := drawAll(filepath.Join(root, figures.Dir), dir); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"admitted.svg", "scaling.svg", "cost.svg", "growth.svg"} {
		drawn, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Error(err)
			continue
		}
		kept, err := os.ReadFile(filepath.Join(root, defaultDir, name))
		if err != nil || !bytes.Equal(kept, drawn) {
			t.Errorf("%s does not show docs/figures: run `go run ./internal/pictures` (%v)", name, err)
		}
	}
}

// TestCalls draws the calls to the rate limit service, which not every machine can measure.
func TestCalls(t *testing.T) {
	few, many := 0.7, 21.0
	p, err := drawCalls(figures.Curve{
		Kind: "cluster", Columns: []string{"calls per 1,000 requests, demand 1 × the threshold", "calls per 1,000 requests, demand 2 × the threshold"},
		Points: []figures.CurvePoint{{X: 300, Values: []*float64{&many, nil}}, {X: 10_000, Values: []*float64{&few, &few}}},
	})
	if err != nil || p == nil {
		t.Fatal(err)
	}
	if err := save(p, t.TempDir(), "calls.svg"); err != nil {
		t.Error(err)
	}
}

// TestPicturesWithoutFiguresAreLeftOut: what was not measured is left out, and no error.
func TestPicturesWithoutFiguresAreLeftOut(t *testing.T) {
	dir := t.TempDir()
	if err := drawAll(t.TempDir(), dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "scaling.svg")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a picture of nothing: %v", err)
	}
	broken := t.TempDir()
	if err := os.WriteFile(filepath.Join(broken, "scaling.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := drawAll(broken, dir); err == nil {
		t.Error("broken figures are no error")
	}
}
