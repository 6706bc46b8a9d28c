// Package sbom lists what a plugin is made of, as CycloneDX: the modules that are linked, by the go command, and their
// licences, by NOTICE, which a test of the repository holds complete.
package sbom

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

// Subject is the plugin that a list is about.
type Subject struct {
	Root    string // the directory of the source
	Package string // the main package, as the go command takes it there
	File    string // the name of the file
	SHA256  string // of the file, in hexadecimal
	Version string // of the release, "" for none
	Tiny    bool   // compiled by TinyGo
}

// JSON is the list. It says nothing of the time and place of its making: the same source and file give the same bytes.
func JSON(ctx context.Context, s Subject) ([]byte, error) {
	text, err := os.ReadFile(filepath.Join(s.Root, "NOTICE"))
	if err != nil {
		return nil, err
	}
	parts, err := components(ctx, s, parseNotice(string(text)))
	if err != nil {
		return nil, fmt.Errorf("what %s is made of: %w", s.File, err)
	}
	subject := cdx.Component{BOMRef: s.File, Type: cdx.ComponentTypeApplication, Name: s.File, Version: s.Version,
		Hashes:   &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: s.SHA256}},
		Licenses: &cdx.Licenses{{Expression: "Apache-2.0"}}}
	var refs []string
	for _, p := range parts {
		refs = append(refs, p.BOMRef)
	}
	bom := cdx.NewBOM()
	bom.Metadata = &cdx.Metadata{Component: &subject}
	bom.Components = &parts
	bom.Dependencies = &[]cdx.Dependency{{Ref: subject.BOMRef, Dependencies: &refs}}
	var out bytes.Buffer
	err = cdx.NewBOMEncoder(&out, cdx.BOMFileFormatJSON).SetPretty(true).Encode(bom)
	return out.Bytes(), err
}

// components are the modules that are linked, the standard library, and what TinyGo links in place of Go's runtime.
func components(ctx context.Context, s Subject, n notice) ([]cdx.Component, error) {
	release, err := goCommand(ctx, s.Root, "env", "GOVERSION")
	if err != nil {
		return nil, err
	}
	modules, err := linked(ctx, s)
	if err != nil {
		return nil, err
	}
	parts := []cdx.Component{module("std", string(bytes.TrimSpace(bytes.TrimPrefix(release, []byte("go")))), n.library)}
	for _, m := range modules {
		licence, known := n.modules[m.Path]
		if !known {
			return nil, fmt.Errorf("NOTICE has no section of %s", m.Path)
		}
		parts = append(parts, module(m.Path, m.Version, licence))
	}
	if s.Tiny {
		parts = append(parts, n.tiny...)
	}
	return parts, nil
}

// module is the component of a Go module.
func module(path, version, licence string) cdx.Component {
	url := "pkg:golang/" + path + "@" + version + "?type=module"
	return cdx.Component{BOMRef: url, Type: cdx.ComponentTypeLibrary, Name: path, Version: version, PackageURL: url,
		Licenses: licences(licence)}
}
