package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sentinel-envoy/internal/wasmbuild/module"
)

const events = `
{"Action":"start","Package":"e2e"}
{"Action":"run","Test":"TestTCP"}
{"Action":"run","Test":"TestTCP/Ends"}
{"Action":"attr","Test":"TestTCP/Ends","Key":"reset","Value":"not told apart"}
{"Action":"output","Test":"TestTCP/Ends","Output":"    tcp_test.go:92: sentinel_failed is 0: want 1\n"}
{"Action":"output","Test":"TestTCP/Ends","Output":"    envoytest.go:52: Envoy's last lines:\n"}
{"Action":"run","Test":"TestTCP/SNI"}
{"Action":"output","Test":"TestTCP/SNI","Output":"    tcp_test.go:120: before\n"}
{"Action":"output","Test":"TestTCP/SNI","Output":"    tcp_test.go:121: no TLS here\n"}
{"Action":"skip","Test":"TestTCP/SNI"}
{"Action":"fail","Test":"TestTCP/Ends"}
{"Action":"fail","Test":"TestTCP","Elapsed":1.5}
{"Action":"fail"}
`

func TestRead(t *testing.T) {
	r, err := read(strings.NewReader(events), "TestTCP")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"TestTCP/SNI: no TLS here", "TestTCP/Ends: sentinel_failed is 0: want 1"}
	if r.Outcome != failed || strings.Join(r.Reasons, "\n") != strings.Join(want, "\n") {
		t.Errorf("%s: %q, want %q", r.Outcome, r.Reasons, want)
	}
	if len(r.Facts) != 1 || r.Facts[0] != (fact{"TestTCP/Ends", "reset", "not told apart"}) {
		t.Errorf("facts %v", r.Facts)
	}
}

func TestReadOutcome(t *testing.T) {
	for _, c := range []struct {
		name, events string
		want         outcome
	}{
		{"passes", `{"Action":"pass","Test":"TestA"}` + "\n" + `{"Action":"pass"}`, passed},
		{"is skipped", `{"Action":"skip","Test":"TestA"}`, skipped},
		{"crashes", `{"Action":"run","Test":"TestA"}` + "\n" + `{"Action":"fail"}`, failed},
		{"only a part passes", `{"Action":"pass","Test":"TestA/x"}`, failed},
		{"did not run", `{"Action":"pass"}`, failed},
	} {
		if r, err := read(strings.NewReader(c.events), "TestA"); err != nil || r.Outcome != c.want {
			t.Errorf("%s: %s, %v, want %s", c.name, r.Outcome, err, c.want)
		}
	}
	if _, err := read(strings.NewReader("panic: x"), "TestA"); err == nil {
		t.Error("no error for what is no JSON")
	}
}

func TestMarkdown(t *testing.T) {
	same := fact{"TestHeap/Ours", "heap", "alive"}
	tab := table{
		module:   described{size: 5_970_000, sha256: strings.Repeat("ab", 32), abi: "0.2.1", asks: []string{"fd_write"}, inside: []string{"poll_oneoff"}},
		releases: []string{"1.36.4", "1.40.0"},
		results: []result{
			{Release: "1.36.4", Test: "TestHeap", Outcome: passed, Facts: []fact{same}},
			{Release: "1.36.4", Test: "TestTCP", Outcome: failed, Reasons: []string{"TestTCP/Ends: is 0 | <1>: bad"}},
			{Release: "1.40.0", Test: "TestHeap", Outcome: passed, Facts: []fact{same}},
			{Release: "1.40.0", Test: "TestTCP", Outcome: skipped, Reasons: []string{"TestTCP: no network"}},
		},
	}
	if !tab.failed() {
		t.Error("nothing has failed")
	}
	got := tab.markdown()
	for _, line := range []string{
		"| | 1.36.4 | 1.40.0 |", "|---|---|---|", "| TestHeap | pass | pass |", "| TestTCP | fail | skip |",
		"| **in all** | 1 pass, 1 fail | 1 pass, 1 skip |",
		`| TestTCP/Ends | 1.36.4 | is 0 \| &lt;1>: bad |`, "| TestTCP | 1.40.0 | no network |",
		"| TestHeap/Ours, heap | 1.36.4, 1.40.0 | alive |",
	} {
		if !strings.Contains(got, "\n"+line+"\n") {
			t.Errorf("no line %q in\n%s", line, got)
		}
	}
	for _, text := range []string{"6.0 MB", "ABI 0.2.1", "`poll_oneoff`"} {
		if !strings.Contains(got, text) {
			t.Errorf("no %q in\n%s", text, got)
		}
	}
}

func TestImports(t *testing.T) {
	// A type section with one function type, and imports of a.y, b.x and c.x.
	b := []byte("\x00asm\x01\x00\x00\x00" + "\x01\x04\x01\x60\x00\x00" + "\x02\x13\x03" +
		"\x01a\x01y\x00\x00" + "\x01b\x01x\x00\x00" + "\x01c\x01x\x00\x00")
	m, err := module.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := imports(m); err != nil || strings.Join(got, " ") != "x y" {
		t.Errorf("imports %q, %v", got, err)
	}
}

func TestMemory(t *testing.T) {
	dir := t.TempDir()
	path, tests, others := filepath.Join(dir, "new", "passed.json"), filepath.Join(dir, "e2e.test"), filepath.Join(dir, "other.test")
	for _, name := range []string{tests, others} {
		if err := os.WriteFile(name, []byte(name), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	open := func(plugin, tests string, resume bool) *memory {
		t.Helper()
		m, err := openMemory(path, plugin, tests, resume)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	m := open("a", tests, true)
	for _, r := range []result{
		{Release: "1.36.4", Test: "TestA", Outcome: passed, Facts: []fact{{"TestA", "k", "v"}}},
		{Release: "1.36.4", Test: "TestB", Outcome: failed},
	} {
		if err := m.keep(r); err != nil {
			t.Fatal(err)
		}
	}
	if r, ok := open("a", tests, true).find("1.36.4", "TestA"); !ok || len(r.Facts) != 1 || r.Outcome != passed {
		t.Errorf("what passed is %v, %v", r, ok)
	}
	for name, m := range map[string]*memory{
		"another plugin": open("b", tests, true), "other tests": open("a", others, true), "anew": open("a", tests, false),
	} {
		if _, ok := m.find("1.36.4", "TestA"); ok {
			t.Errorf("%s: the result is kept", name)
		}
	}
	if _, ok := open("a", tests, true).find("1.36.4", "TestB"); ok {
		t.Error("what failed is kept")
	}
	if _, ok := open("a", tests, true).find("1.40.0", "TestA"); ok {
		t.Error("what passed on one release is kept for another")
	}
}
