package main

import (
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sentinel-envoy/internal/figures"
)

func TestAdmittedIsATable(t *testing.T) {
	var text strings.Builder
	err := writeAdmitted(&text, &figures.Admitted{Threshold: 50, Offered: 600, Points: []figures.AdmittedPoint{
		{Workers: 4, Filters: map[string]float64{sentinelGo: 200, native: 50, sentinel: 50}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	want := `Admitted per second of 600 offered, with a threshold of 50:

| workers | sentinel-golang Entry/Exit | native local_ratelimit | sentinel, 1 rule |
|---|---|---|---|
| 4 | 200 | 50 | 50 |
`
	if text.String() != want {
		t.Errorf("got\n%s", text.String())
	}
}

// TestCurvesAreKeptByKind measures one kind anew: the others stay, and what is not known is no number.
func TestCurvesAreKeptByKind(t *testing.T) {
	file := filepath.Join(t.TempDir(), "figures", "curves.json")
	c := curve{title: "Something", x: "rules", columns: []string{"µs", "MB"}}
	c.add(1, 10, math.NaN())
	for _, kind := range []string{"rules", "values", "rules"} {
		if err := keep(file, kind, []curve{c}); err != nil {
			t.Fatal(err)
		}
	}
	var kept []figures.Curve
	if found, err := figures.Load(file, &kept); !found || err != nil {
		t.Fatal(found, err)
	}
	var kinds []string
	for _, k := range kept {
		kinds = append(kinds, k.Kind)
	}
	if !slices.Equal(kinds, []string{"values", "rules"}) {
		t.Errorf("curves of %v are kept", kinds)
	}
	if p := kept[0].Points[0]; p.X != 1 || *p.Values[0] != 10 || p.Values[1] != nil {
		t.Errorf("the point is %v", p)
	}
	if err := keep("", "rules", []curve{c}); err != nil {
		t.Errorf("without a file: %v", err)
	}
}
