package envoytest

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

func TestParsePrometheus(t *testing.T) {
	got, err := parsePrometheus("# TYPE a counter\na{x=\"1\",y=\"q\\\"u \\\\ {z=\\\"}\"} 3\n\nb{} 0.5\nc +Inf\n")
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 3 {
		t.Fatalf("%d samples, want 3: %v", len(got), got)
	}
	want := Sample{Name: "a", Labels: map[string]string{"x": "1", "y": `q"u \ {z="}`}, Value: 3}
	if !reflect.DeepEqual(got[0], want) {
		t.Errorf("got %v, want %v", got[0], want)
	}
	for _, bad := range []string{"a", `a{x="1" 2`, `a{x=1} 2`, "a x"} {
		if s, err := parsePrometheus(bad); err == nil {
			t.Errorf("%q gives %v, want an error", bad, s)
		}
	}
}

func TestLogMarkAndAll(t *testing.T) {
	l := &Log{path: filepath.Join(t.TempDir(), "log"), ended: make(chan struct{})}
	write := func(text string) {
		f, err := os.OpenFile(l.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteString(text); err != nil {
			t.Fatal(err)
		}
	}
	write("n=1\nn=2\n")
	l.Mark()
	write("n=3\nother\nn=4")
	if got, want := l.All(`n=(\d+)`), [][]string{{"n=3", "3"}}; !reflect.DeepEqual(got, want) {
		t.Errorf("All = %v, want %v: only whole lines after the mark", got, want)
	}
	write("5\n")
	if got, err := l.WaitFor(t.Context(), `n=(\d\d)`); err != nil || got[1] != "45" {
		t.Errorf("WaitFor = %v, %v, want 45", got, err)
	}
}
