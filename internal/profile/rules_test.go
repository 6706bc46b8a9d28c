package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sentinel-envoy/shared/config"
)

func TestBuiltInRules(t *testing.T) {
	for name, want := range map[string][5]int{"flow": {0, 1, 0, 0, 0}, "all": {1, 1, 1, 1, 1}} {
		text, err := readRules(name)
		if err != nil {
			t.Fatal(err)
		}
		c, err := config.Parse([]byte(text), config.KindHTTP)
		if err != nil {
			t.Fatal(err)
		}
		var got [5]int
		for _, r := range c.Rules {
			got[r.Family().Order-1]++
		}
		if got != want {
			t.Errorf("%s has %v rules of each family, want %v", name, got, want)
		}
	}
}

func TestRulesOfAFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "rules.json")
	for text, wrong := range map[string]string{`{"resource_name": "x"}`: "", `{"flowRules": [{"resource": ""}]}`: file} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := readRules(file)
		switch {
		case wrong == "" && (err != nil || got != text):
			t.Errorf("got %q, %v, want %q", got, err, text)
		case wrong != "" && (err == nil || !strings.Contains(err.Error(), wrong)):
			t.Errorf("%s: error %v, want one that names %s", text, err, wrong)
		}
	}
	if _, err := readRules(file + ".gone"); err == nil || !strings.Contains(err.Error(), "neither flow, nor all") {
		t.Errorf("error %v, want one that names the choices", err)
	}
}
