package sbom

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
)

// goModule is a module as go list prints it.
type goModule struct {
	Path, Version string
	Main          bool
}

// linked are the modules that have packages in the plugin, by their paths, without its own.
func linked(ctx context.Context, s Subject) ([]goModule, error) {
	out, err := goCommand(ctx, s.Root, "list", "-deps", "-json=Module", s.Package)
	if err != nil {
		return nil, err
	}
	found := map[string]goModule{}
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p struct{ Module *goModule }
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, err
		}
		if p.Module != nil && !p.Module.Main {
			found[p.Module.Path] = *p.Module
		}
	}
	return slices.SortedFunc(maps.Values(found), func(a, b goModule) int { return cmp.Compare(a.Path, b.Path) }), nil
}

// goCommand is what a go command prints in dir, for the plugin's target.
func goCommand(ctx context.Context, dir string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir, cmd.Stderr = dir, os.Stderr
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off")
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go %s: %w", args[0], err)
	}
	return out, nil
}
