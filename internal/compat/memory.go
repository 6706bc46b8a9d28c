package main

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// memory is a file of what has passed, so that a run that was cut short, or in which something failed, can go on. It is
// about one plugin and one binary of tests.
type memory struct {
	path string
	content
}

type content struct {
	Plugin, Tests string // SHA-256
	Passed        []result
}

// openMemory reads the file where resume is asked for and it is about the same; otherwise it begins anew.
func openMemory(path, plugin, tests string, resume bool) (*memory, error) {
	b, err := os.ReadFile(tests)
	if err != nil {
		return nil, err
	}
	m := &memory{path: path, content: content{Plugin: plugin, Tests: fmt.Sprintf("%x", sha256.Sum256(b))}}
	if !resume {
		return m, nil
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return m, nil
	} else if err != nil {
		return nil, err
	}
	var old content
	if err := json.Unmarshal(text, &old); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if old.Plugin == m.Plugin && old.Tests == m.Tests {
		m.Passed = old.Passed
	}
	return m, nil
}

// find is the result of a test that passed on a release.
func (m *memory) find(release, test string) (result, bool) {
	for _, r := range m.Passed {
		if r.Release == release && r.Test == test {
			return r, true
		}
	}
	return result{}, false
}

// keep writes down a result, if it is one that need not be got again.
func (m *memory) keep(r result) error {
	if r.Outcome != passed {
		return nil
	}
	m.Passed = append(m.Passed, r)
	text, err := json.Marshal(m.content)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(m.path), 0o777); err != nil {
		return err
	}
	return os.WriteFile(m.path, text, 0o666)
}
