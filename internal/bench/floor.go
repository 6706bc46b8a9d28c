package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// emptyC is the name of the empty filter that no language's runtime is in.
const emptyC = "empty C filter"

//go:embed filters/floor/floor.c
var floor []byte

// errNoClang says how the floor can be measured.
var errNoClang = errors.New("it needs clang with lld (Debian: clang-19 lld-19)")

// floorModule is the empty C filter, or none, which is said.
func floorModule(ctx context.Context, dir string) []module {
	file := filepath.Join(dir, "floor.wasm")
	if err := buildFloor(ctx, file); err != nil {
		log.Printf("no row for the %s: %v", emptyC, err)
		return nil
	}
	return []module{{emptyC, file}}
}

// buildFloor compiles the empty C filter.
func buildFloor(ctx context.Context, output string) error {
	clang, err := findClang()
	if err != nil {
		return err
	}
	source := filepath.Join(filepath.Dir(output), "floor.c")
	if err := os.WriteFile(source, floor, 0o600); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, clang, "--target=wasm32", "-O2", "-nostdlib", "-fno-builtin", "-Wl,--no-entry", "-Wl,-s",
		"-o", output, source)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w; %s: %w: %s", errNoClang, clang, err, strings.TrimSpace(string(out)))
	}
	return nil
}

// findClang is a clang of any name that Debian gives it.
func findClang() (string, error) {
	for _, name := range []string{"clang", "clang-19", "/usr/lib/llvm-19/bin/clang"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", errNoClang
}
