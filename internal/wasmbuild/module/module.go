// Package module takes WebAssembly binary modules apart into sections, looks at what they import and export, and puts
// them together again without the parts nobody needs. It knows the binary format of the core specification as far as the
// import, export and name sections, and of code the sizes.
package module

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// SectionID says what a section holds. Its values are the binary format's.
type SectionID byte

// The sections this package reads.
const (
	Custom   SectionID = 0
	importID SectionID = 2
	exportID SectionID = 7
	lastID   SectionID = 13
)

// Kind says what an import or an export is. Its values are the binary format's.
type Kind byte

// The kinds of imports and exports.
const (
	Func Kind = iota
	Table
	Memory
	Global
	Tag
)

// Import is a thing a module needs from its host.
type Import struct {
	Module, Name string
	Kind         Kind
}

// Export is a thing a module offers its host.
type Export struct {
	Name  string
	Kind  Kind
	Index uint32 // in the index space of the kind
}

// A Module is a binary module, split at its section borders. Its zero value is an empty module.
type Module struct {
	sections []section
}

type section struct {
	id   SectionID
	body []byte // what follows the section's size
}

var header = []byte("\x00asm\x01\x00\x00\x00")

// Parse splits a binary module into its sections. It keeps slices of b. It returns an error for anything that is no
// module of binary version 1, for a cut or overlong section, and for a section that appears twice.
func Parse(b []byte) (*Module, error) {
	if !bytes.HasPrefix(b, header) {
		return nil, errors.New("no WebAssembly module of binary version 1")
	}
	m := new(Module)
	var seen [lastID + 1]bool
	for r := (reader{b: b, off: len(header)}); r.off < len(b); {
		start := r.off
		id := SectionID(r.byte())
		body := r.bytes(r.u32())
		if r.err != nil {
			return nil, fmt.Errorf("section at byte %d: %w", start, r.err)
		}
		if id > lastID {
			return nil, fmt.Errorf("section at byte %d: unknown id %d", start, id)
		}
		if id != Custom && seen[id] {
			return nil, fmt.Errorf("section at byte %d: id %d appears twice", start, id)
		}
		seen[id] = true
		m.sections = append(m.sections, section{id, body})
	}
	return m, nil
}

// Bytes returns the binary module.
func (m *Module) Bytes() []byte {
	out := bytes.Clone(header)
	for _, s := range m.sections {
		out = append(out, byte(s.id))
		out = binary.AppendUvarint(out, uint64(len(s.body)))
		out = append(out, s.body...)
	}
	return out
}

// DropCustom drops every custom section: names, debug information, producers. None of them changes what a module does.
func (m *Module) DropCustom() {
	kept := m.sections[:0]
	for _, s := range m.sections {
		if s.id != Custom {
			kept = append(kept, s)
		}
	}
	m.sections = kept
}

// Imports lists the imports, in the module's order.
func (m *Module) Imports() ([]Import, error) {
	var list []Import
	err := m.entries(importID, func(r *reader) {
		i := Import{Module: r.name(), Name: r.name(), Kind: Kind(r.byte())}
		r.skipImportType(i.Kind)
		list = append(list, i)
	})
	if err != nil {
		return nil, fmt.Errorf("import section: %w", err)
	}
	return list, nil
}

// Exports lists the exports, in the module's order.
func (m *Module) Exports() ([]Export, error) {
	var list []Export
	err := m.entries(exportID, func(r *reader) { list = append(list, r.export()) })
	if err != nil {
		return nil, fmt.Errorf("export section: %w", err)
	}
	return list, nil
}

// KeepExports drops the exports for which keep is false and returns their names. What they named stays in the module,
// so no index changes.
func (m *Module) KeepExports(keep func(Export) bool) (dropped []string, err error) {
	list, err := m.Exports()
	if err != nil {
		return nil, err
	}
	kept := list[:0]
	for _, e := range list {
		if keep(e) {
			kept = append(kept, e)
		} else {
			dropped = append(dropped, e.Name)
		}
	}
	m.setExports(kept)
	return dropped, nil
}

// OverrideExports lets each export whose name begins with prefix take the place of the export that has the rest of its
// name. It fails where there is none to replace.
func (m *Module) OverrideExports(prefix string) error {
	list, err := m.Exports()
	if err != nil {
		return err
	}
	index := map[string]int{}
	for i, e := range list {
		index[e.Name] = i
	}
	kept := list[:0:0]
	for _, e := range list {
		if name, found := strings.CutPrefix(e.Name, prefix); found {
			old, there := index[name]
			if !there || list[old].Kind != e.Kind {
				return fmt.Errorf("export %s has nothing to replace", e.Name)
			}
			e.Name = name
		} else if _, replaced := index[prefix+e.Name]; replaced {
			continue
		}
		kept = append(kept, e)
	}
	m.setExports(kept)
	return nil
}

func (m *Module) setExports(list []Export) {
	body := binary.AppendUvarint(nil, uint64(len(list)))
	for _, e := range list {
		body = append(binary.AppendUvarint(body, uint64(len(e.Name))), e.Name...)
		body = binary.AppendUvarint(append(body, byte(e.Kind)), uint64(e.Index))
	}
	for i, s := range m.sections {
		if s.id == exportID {
			m.sections[i].body = body
		}
	}
}

// entries calls read once for each entry of a section that is a vector, and checks that they fill it exactly.
func (m *Module) entries(id SectionID, read func(*reader)) error {
	for _, s := range m.sections {
		if s.id != id {
			continue
		}
		r := reader{b: s.body}
		for n := r.u32(); n > 0 && r.err == nil; n-- {
			read(&r)
		}
		if r.err == nil && r.off != len(r.b) {
			r.err = fmt.Errorf("%d bytes after the last entry", len(r.b)-r.off)
		}
		return r.err
	}
	return nil
}
