package module

import (
	"bytes"
	"errors"
	"fmt"
)

const (
	codeID SectionID = 10
	dataID SectionID = 11
	// functionNames is the part of the custom section "name" that has those of functions.
	functionNames = 1
)

// Function is one that the module has itself: its name, "" where it has none, and the size of its code in bytes.
type Function struct {
	Name string
	Size int
}

// Functions lists the functions in the module's order.
func (m *Module) Functions() ([]Function, error) {
	imports, err := m.Imports()
	if err != nil {
		return nil, err
	}
	index := uint32(0)
	for _, i := range imports {
		if i.Kind == Func {
			index++
		}
	}
	names, err := m.names()
	if err != nil {
		return nil, fmt.Errorf("name section: %w", err)
	}
	var list []Function
	err = m.entries(codeID, func(r *reader) {
		list = append(list, Function{names[index], len(r.bytes(r.u32()))})
		index++
	})
	if err != nil {
		return nil, fmt.Errorf("code section: %w", err)
	}
	return list, nil
}

// DataSize is the size in bytes of what the module puts into its memory.
func (m *Module) DataSize() (size int) {
	for _, s := range m.sections {
		if s.id == dataID {
			size += len(s.body)
		}
	}
	return size
}

// names are those of functions by their index; there are none in a module that was stripped.
func (m *Module) names() (map[uint32]string, error) {
	names := map[uint32]string{}
	for _, s := range m.sections {
		r := reader{b: s.body}
		if s.id != Custom || r.name() != "name" {
			continue
		}
		for r.off < len(r.b) && r.err == nil {
			id, part := r.byte(), reader{}
			if part.b = r.bytes(r.u32()); id != functionNames {
				continue
			}
			for n := part.u32(); n > 0 && part.err == nil; n-- {
				index := part.u32()
				names[index] = string(bytes.Clone(part.bytes(part.u32())))
			}
			r.err = errors.Join(r.err, part.err)
		}
		if r.err != nil {
			return nil, r.err
		}
	}
	return names, nil
}
