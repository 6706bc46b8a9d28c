package module_test

import (
	"bytes"
	"reflect"
	"strings"
	"testing"

	"sentinel-envoy/internal/wasmbuild/module"
)

// cat joins parts, which are strings, bytes and untyped numbers (one byte each), to a binary.
func cat(parts ...any) []byte {
	var b []byte
	for _, p := range parts {
		switch p := p.(type) {
		case string:
			b = append(b, p...)
		case []byte:
			b = append(b, p...)
		case int:
			b = append(b, byte(p))
		}
	}
	return b
}

// sec is a section shorter than 128 bytes.
func sec(id int, parts ...any) []byte {
	body := cat(parts...)
	return cat(id, len(body), body)
}

const head = "\x00asm\x01\x00\x00\x00"

var (
	types   = sec(1, 1, 0x60, 0, 0)
	imports = sec(2, 5,
		3, "env", 1, "f", 0, 0,
		1, "m", 1, "t", 1, 0x70, 0, 1,
		1, "m", 1, "n", 2, 1, 1, 2,
		1, "m", 1, "g", 3, 0x7f, 0,
		1, "m", 0, 4, 0, 0)
	funcs   = sec(3, 1, 0)
	exports = sec(7, 3, 1, "a", 0, 1, 2, "bc", 2, 0, 3, "def", 0, 0x81, 1)
	code    = sec(10, 1, 2, 0, 0x0b)
	custom  = sec(0, 4, "name", "whatever")
	whole   = cat(head, custom, types, imports, custom, funcs, exports, code, custom)
)

func TestParseKeepsEveryByte(t *testing.T) {
	for name, b := range map[string][]byte{"empty": []byte(head), "whole": whole} {
		if got := parse(t, b).Bytes(); !bytes.Equal(got, b) {
			t.Errorf("%s: Bytes() = %x, want %x", name, got, b)
		}
	}
}

func TestLists(t *testing.T) {
	m := parse(t, whole)
	gotI, err := m.Imports()
	wantI := []module.Import{{"env", "f", module.Func}, {"m", "t", module.Table}, {"m", "n", module.Memory},
		{"m", "g", module.Global}, {"m", "", module.Tag}}
	if err != nil || !reflect.DeepEqual(gotI, wantI) {
		t.Errorf("Imports() = %v, %v, want %v", gotI, err, wantI)
	}
	gotE, err := m.Exports()
	wantE := []module.Export{{"a", module.Func, 1}, {"bc", module.Memory, 0}, {"def", module.Func, 129}}
	if err != nil || !reflect.DeepEqual(gotE, wantE) {
		t.Errorf("Exports() = %v, %v, want %v", gotE, err, wantE)
	}
}

func TestListsOfModuleWithoutThem(t *testing.T) {
	m := parse(t, []byte(head))
	if got, err := m.Imports(); err != nil || len(got) != 0 {
		t.Errorf("Imports() = %v, %v, want none", got, err)
	}
	if got, err := m.KeepExports(func(module.Export) bool { return false }); err != nil || len(got) != 0 {
		t.Errorf("KeepExports() = %v, %v, want none dropped", got, err)
	}
}

func TestDrop(t *testing.T) {
	m := parse(t, whole)
	dropped, err := m.KeepExports(func(e module.Export) bool { return e.Name != "bc" })
	if err != nil || !reflect.DeepEqual(dropped, []string{"bc"}) {
		t.Errorf("KeepExports() = %v, %v, want [bc]", dropped, err)
	}
	m.DropCustom()
	want := cat(head, types, imports, funcs, sec(7, 2, 1, "a", 0, 1, 3, "def", 0, 0x81, 1), code)
	if got := m.Bytes(); !bytes.Equal(got, want) {
		t.Errorf("Bytes() = %x, want %x", got, want)
	}
}

func TestOverrideExports(t *testing.T) {
	of := func(entries ...any) []byte { return cat(head, sec(7, entries...)) }
	m := parse(t, of(4, 1, "a", 0, 1, 3, "o_a", 0, 5, 1, "m", 2, 0, 1, "b", 0, 2))
	if err := m.OverrideExports("o_"); err != nil {
		t.Fatal(err)
	}
	if got, want := m.Bytes(), of(3, 1, "a", 0, 5, 1, "m", 2, 0, 1, "b", 0, 2); !bytes.Equal(got, want) {
		t.Errorf("Bytes() = %x, want %x", got, want)
	}
	for name, b := range map[string][]byte{
		"nothing of that name":     of(2, 1, "a", 0, 1, 3, "o_b", 0, 5),
		"a memory for a function":  of(2, 1, "a", 0, 1, 3, "o_a", 2, 5),
		"a section that is cut":    of(2, 1, "a", 0, 1),
		"an override of its equal": of(2, 3, "o_a", 0, 1, 3, "o_a", 0, 2),
	} {
		if err := parse(t, b).OverrideExports("o_"); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if m := parse(t, []byte(head)); m.OverrideExports("o_") != nil || !bytes.Equal(m.Bytes(), []byte(head)) {
		t.Error("a module without exports is not left as it is")
	}
}

func TestLongSection(t *testing.T) {
	name := strings.Repeat("x", 300)
	b := cat(head, 7, 0xb2, 2, 1, 0xac, 2, name, 0, 0, 0)
	b[9], b[10] = 0xb2, 2 // 306 = 1 + 2 + 300 + kind + index + one byte too many
	if _, err := parse(t, b).Exports(); err == nil {
		t.Error("Exports() saw nothing wrong with a byte after the last entry")
	}
	b = cat(head, 7, 0xb1, 2, 1, 0xac, 2, name, 0, 0)
	m := parse(t, b)
	if got, err := m.Exports(); err != nil || len(got) != 1 || got[0].Name != name {
		t.Errorf("Exports() = %v, %v", got, err)
	}
	if got := m.Bytes(); !bytes.Equal(got, b) {
		t.Errorf("Bytes() = %x, want %x", got, b)
	}
}

func TestMalformed(t *testing.T) {
	for name, b := range map[string][]byte{
		"nothing":                  nil,
		"text":                     []byte("(module)"),
		"component":                cat("\x00asm\x0d\x00\x01\x00"),
		"section without size":     cat(head, 1),
		"size without end":         cat(head, 1, 0x80),
		"section longer than file": cat(head, 1, 5, 0),
		"section of 4 GiB":         cat(head, 1, 0xff, 0xff, 0xff, 0xff, 0x0f),
		"size beyond 32 bits":      cat(head, 1, 0x80, 0x80, 0x80, 0x80, 0x10),
		"size in six bytes":        cat(head, 1, 0x80, 0x80, 0x80, 0x80, 0x80, 0),
		"unknown section":          cat(head, sec(14)),
		"two import sections":      cat(head, imports, imports),
	} {
		if _, err := module.Parse(b); err == nil {
			t.Errorf("%s: Parse saw nothing wrong", name)
		}
	}
	for name, b := range map[string][]byte{
		"import section empty":     sec(2),
		"import missing":           sec(2, 1),
		"import cut":               sec(2, 1, 1, "m", 1, "f", 0),
		"import name too long":     sec(2, 1, 9, "m", 1, "f", 0, 0),
		"import name not UTF-8":    sec(2, 1, 1, 0xff, 1, "f", 0, 0),
		"import of unknown kind":   sec(2, 1, 1, "m", 1, "f", 5, 0),
		"import of strange memory": sec(2, 1, 1, "m", 1, "f", 2, 8, 0),
		"import count too small":   sec(2, 0, 1, "m", 1, "f", 0, 0),
		"imports of 2^32":          sec(2, 0xff, 0xff, 0xff, 0xff, 0x0f, 1, "m", 1, "f", 0, 0),
		"export missing":           sec(7, 1),
		"export cut":               sec(7, 1, 1, "a", 0),
		"export of unknown kind":   sec(7, 1, 1, "a", 9, 0),
		"export count too small":   sec(7, 0, 1, "a", 0, 0),
	} {
		m := parse(t, cat(head, b))
		var err error
		if strings.HasPrefix(name, "import") {
			_, err = m.Imports()
		} else {
			_, err = m.Exports()
			if _, errKeep := m.KeepExports(func(module.Export) bool { return true }); errKeep == nil {
				t.Errorf("%s: KeepExports saw nothing wrong", name)
			}
		}
		if err == nil {
			t.Errorf("%s: nothing seen wrong", name)
		}
	}
}

// TestEveryCut cuts a sound module at every byte, and changes every byte: an error is fine, a panic is not.
func TestEveryCut(t *testing.T) {
	for i := range whole {
		use(whole[:i])
		for _, v := range []byte{0, 1, 0x7f, 0x80, 0xff} {
			b := bytes.Clone(whole)
			b[i] = v
			use(b)
		}
	}
}

func FuzzModule(f *testing.F) {
	f.Add(whole)
	f.Fuzz(func(t *testing.T, b []byte) { use(b) })
}

func use(b []byte) {
	m, err := module.Parse(b)
	if err != nil {
		return
	}
	m.Imports()
	m.Exports()
	m.OverrideExports("o_")
	m.KeepExports(func(e module.Export) bool { return len(e.Name)%2 == 0 })
	m.DropCustom()
	m.Bytes()
}

func parse(t *testing.T, b []byte) *module.Module {
	t.Helper()
	m, err := module.Parse(b)
	if err != nil {
		t.Fatalf("Parse(%x): %v", b, err)
	}
	return m
}
