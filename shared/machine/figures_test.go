package machine

import (
	"errors"
	"fmt"
	"math"
	"testing"
)

// answer is what node_exporter says, in short, of a machine with two CPUs.
func answer(idle, busy float64) []byte {
	return fmt.Appendf(nil, `# HELP node_cpu_seconds_total Seconds the CPUs spent in each mode.
# TYPE node_cpu_seconds_total counter
node_cpu_seconds_total{cpu="0",mode="idle"} %g
node_cpu_seconds_total{cpu="0",mode="iowait"} 1
node_cpu_seconds_total{cpu="0",mode="user"} %g
node_cpu_seconds_total{cpu="1",mode="idle"} %g
node_cpu_seconds_total{cpu="1",mode="system"} %g
node_cpu_guest_seconds_total{cpu="0",mode="user"} 1e9
# TYPE node_load1 gauge
node_load1 2.5 1700000000000
node_load15 99
node_memory_MemAvailable_bytes 6e+09
node_memory_MemTotal_bytes 8.0e+09
node_memory_SwapTotal_bytes 1
`, idle/2, busy/2, idle/2, busy/2)
}

func TestReadNodeExporter(t *testing.T) {
	first, err := Read(answer(100, 50), Figures{}, 1e9, 1e9)
	if err != nil || first.Load != 2.5 || first.Memory != 2e9 || first.CPU != Unknown {
		t.Fatalf("%+v, %v", first, err)
	}
	second, err := Read(answer(106, 52), first, 2e9, 1e9)
	if err != nil || math.Abs(second.CPU-0.25) > 1e-9 {
		t.Errorf("2 of 8 seconds in use: %+v, %v", second, err)
	}
	if again, err := Read(answer(1, 1), second, 3e9, 1e9); err != nil || again.CPU != Unknown {
		t.Errorf("after a restart of the machine: %+v, %v", again, err)
	}
}

func TestReadOthers(t *testing.T) {
	for _, text := range []string{"", "ok", "node_load1", "node_load1 x", "node_load1 NaN", "node_load1 -1", "node_load1{", "node_load1 ",
		"node_cpu_seconds_total{mode=\"idle\" 3", "# node_load1 3", "node_memory_MemTotal_bytes 5"} {
		if f, err := Read([]byte(text), Figures{}, 1, 1); !errors.Is(err, ErrNoFigures) {
			t.Errorf("%q: %+v, %v", text, f, err)
		}
	}
}

// FuzzRead reads whatever a source answers, first and after another answer. Figures make sense or are unknown, and are a
// record that can be read.
func FuzzRead(f *testing.F) {
	f.Add(answer(1, 2))
	f.Add([]byte(`node_cpu_seconds_total{mode="idle"} 1e308` + "\n" + `node_cpu_seconds_total{mode="user"} 1e308`))
	f.Fuzz(func(t *testing.T, text []byte) {
		first, err := Read(text, Figures{}, 1, 1)
		if err != nil {
			return
		}
		second, _ := Read(text, first, 2, 1)
		before := Figures{At: 1, Interval: 1, idle: 1, total: 2}
		other, _ := Read(text, before, 2, 1)
		for _, v := range []float64{first.Load, first.Memory, second.CPU, other.CPU} {
			if v != Unknown && !(v >= 0) {
				t.Errorf("%q gives %+v, %+v, %+v", text, first, second, other)
			}
		}
		if got, ok := Decode(other.Encode(nil)); !ok || got != other {
			t.Errorf("%+v became %+v, %t", other, got, ok)
		}
	})
}

func TestRecord(t *testing.T) {
	f, err := Read(answer(3, 4), Figures{}, 5, 6)
	if err != nil {
		t.Fatal(err)
	}
	record := f.Encode([]byte("before"))[len("before"):]
	if got, ok := Decode(record); !ok || got != f {
		t.Errorf("%+v became %+v, %t", f, got, ok)
	}
	for i := range record {
		if _, ok := Decode(record[:i]); ok {
			t.Errorf("%d bytes were read", i)
		}
	}
	for _, bad := range []Figures{{At: -1, Interval: 1}, {At: 1, Interval: maxInterval + 1}, {At: 1, Interval: 1, Load: -2},
		{At: 1, Interval: 1, CPU: math.NaN()}} {
		if _, ok := Decode(bad.Encode(nil)); ok {
			t.Errorf("%+v were read", bad)
		}
	}
}

func TestStale(t *testing.T) {
	f := Figures{At: 100, Interval: 10}
	if f.Stale(130) || !f.Stale(131) || f.Stale(70) || !f.Stale(69) || !(Figures{}).Stale(0) {
		t.Error("three intervals")
	}
}
