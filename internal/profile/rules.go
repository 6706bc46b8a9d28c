package main

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"sentinel-envoy/shared/config"
)

// builtIn are the configurations known by name: rules that no run reaches.
//
//go:embed rules/*.json
var builtIn embed.FS

// readRules gives the plugin configuration of that name, or that file's. The error has what is wrong with it, which is sooner
// known so than from Envoy.
func readRules(name string) (string, error) {
	text, err := builtIn.ReadFile("rules/" + name + ".json")
	if err != nil {
		text, err = os.ReadFile(name)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("-rules %s: neither flow, nor all, nor a file", name)
	}
	if err != nil {
		return "", err
	}
	if _, err := config.Parse(text, config.KindHTTP); err != nil {
		return "", fmt.Errorf("-rules %s: %w", name, err)
	}
	return string(text), nil
}
