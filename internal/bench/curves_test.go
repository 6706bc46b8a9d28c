package main

import (
	"encoding/json"
	"math"
	"slices"
	"strings"
	"testing"

	"sentinel-envoy/shared/config"
)

func TestCurveIsDrawn(t *testing.T) {
	c := curve{title: "Something", x: "rules", columns: []string{"µs", "MB"}}
	c.add(1, 10, math.NaN())
	c.add(10, 14, 7)
	c.add(1000, 20, 0.01)
	var text strings.Builder
	if err := c.write(&text); err != nil {
		t.Fatal(err)
	}
	want := `**Something**

| rules | µs | MB | of the first | |
|---|---|---|---|---|
| 1 | 10.0 | – | 1.00 | ▇▇▇▇▇▇▇▇▇▇▇▇ |
| 10 | 14.0 | 7.00 | 1.40 | ▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇ |
| 1,000 | 20.0 | 0.0100 | 2.00 | ▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇ |

From 1 to 1,000: × 2.00, which is × 1.26 for each factor of ten.

`
	if text.String() != want {
		t.Errorf("got\n%s", text.String())
	}
}

func TestCurveOfNoiseDoesNotGrow(t *testing.T) {
	c := curve{columns: []string{"µs"}}
	c.add(1, 9)
	c.add(10, -2)
	if got := c.growth(); strings.Contains(got, "NaN") || strings.Contains(got, "×") {
		t.Errorf("got %q", got)
	}
}

func TestPowersOfTen(t *testing.T) {
	if got := powersOfTen(5000); !slices.Equal(got, []int{1, 10, 100, 1000}) {
		t.Errorf("got %v", got)
	}
}

func TestRequestsWithEachValue(t *testing.T) {
	requests := requestsWith(3, 10, 3)
	var values []string
	for _, r := range requests {
		_, after, _ := strings.Cut(string(r), valueHeader+": ")
		value, _, _ := strings.Cut(after, "\r\n")
		values = append(values, value)
	}
	if want := []string{"user-3", "user-6", "user-9"}; !slices.Equal(values, want) {
		t.Errorf("got %q, want %q", values, want)
	}
}

func TestConfigurationsOfCurves(t *testing.T) {
	for _, text := range []string{valueConfiguration, rulesFor(3), rulesOf(3, 0), changedRules(3, 1, 1), changedExpressions(mostExpressions, 1, 3)} {
		if _, err := config.Parse([]byte(text), config.KindHTTP); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
	var rules struct{ FlowRules []any }
	if err := json.Unmarshal([]byte(rulesFor(3)), &rules); err != nil || len(rules.FlowRules) != 3 {
		t.Errorf("%v: %d rules", err, len(rules.FlowRules))
	}
}

// What a simulation counts must fit together, or its curve means nothing.
func TestSimulationLimits(t *testing.T) {
	for _, n := range []int{1, 7} {
		const rate = 500
		half := simulate(n, rate, float64(n)*rate/2)
		if over := float64(half.admitted) / (float64(n) * rate / 2); over > 1 || over < 0.9 {
			t.Errorf("%d workers admit %.2f of the threshold", n, over)
		}
		if half.requests < n*rate*8/10 || half.requests > n*rate*12/10 {
			t.Errorf("%d workers make %d requests, not about %d", n, half.requests, n*rate)
		}
		if half.entering == 0 || half.ticking == 0 || half.lost > half.entering {
			t.Errorf("%d workers: %+v", n, half)
		}
		if never := simulate(n, rate, unreached); never.admitted != never.requests {
			t.Errorf("%d workers refuse %d requests below the threshold", n, never.requests-never.admitted)
		}
	}
}

func TestNativeCurvesHavePoints(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	o := curveOptions{maxRules: 10, maxNative: 10}
	for _, measure := range []func() ([]curve, error){
		func() ([]curve, error) { return nativeRuleCurves(t.Context(), o) },
		func() ([]curve, error) { return nativeValueCurves(t.Context(), o) },
	} {
		curves, err := measure()
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range curves {
			for _, p := range c.points {
				if len(p.values) != len(c.columns) || p.values[0] <= 0 {
					t.Errorf("%s: %v", c.title, p)
				}
			}
		}
	}
}
