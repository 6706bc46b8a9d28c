package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"math"
	"os"
	"slices"
	"strings"

	"sentinel-envoy/internal/figures"
)

// curveOptions are the flags of `bench curves`.
type curveOptions struct {
	binary      string // Envoy
	modules     map[string]string
	rounds      int
	connections int
	maxRules    int
	maxValues   int
	maxNative   int
	figures     string // file, or empty
}

// curve is how a few measures grow with one number.
type curve struct {
	title   string
	x       string   // what the number is
	columns []string // what is measured, the unit in it; the first is the one that is judged and drawn
	points  []curvePoint
}

// curvePoint has a value per column of its curve; a value that is not a number is unknown.
type curvePoint struct {
	x      int
	values []float64
}

// curvesMain is the command `bench curves`.
func curvesMain(ctx context.Context, args []string) error {
	var o curveOptions
	flags := flag.NewFlagSet("bench curves", flag.ExitOnError)
	envoy := flags.String("envoy", "", "Envoy `binary`; empty: $ENVOY_PATH, then the pinned one")
	sentinelFile := flags.String("sentinel", "dist/sentinel.wasm", "the Sentinel binary to measure")
	only := flags.String("only", "", "one of "+strings.Join(curveNames(), ", ")+"; empty: all")
	flags.IntVar(&o.rounds, "rounds", 9, "how often each point is measured on Envoy; the calmer half counts")
	flags.IntVar(&o.connections, "connections", 16, "keep-alive connections")
	flags.IntVar(&o.maxRules, "max-rules", 10_000, "most rules and resources")
	flags.IntVar(&o.maxValues, "max-values", 1_000_000, "most distinct values on Envoy")
	flags.IntVar(&o.maxNative, "max-native", 10_000_000, "most distinct values in memory")
	flags.StringVar(&o.figures, "figures", "", "`file` that takes the figures for make pictures, and keeps those of other curves; empty: none")
	flags.Parse(args)
	if flags.NArg() > 0 || o.rounds < 1 || o.connections < 1 || *only != "" && !slices.Contains(curveNames(), *only) {
		flags.Usage()
		os.Exit(2)
	}
	dir, err := os.MkdirTemp("", "sentinel-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if o.binary, err = findEnvoy(ctx, *envoy); err != nil {
		return err
	}
	modules, err := collectModules(ctx, dir, options{sentinel: *sentinelFile, only: sentinelOnly})
	if err != nil {
		return err
	}
	o.modules = map[string]string{}
	for _, m := range modules {
		o.modules[m.name] = m.file
	}
	if o.modules[sentinel] == "" {
		return fmt.Errorf("%s: run `make wasm` first", *sentinelFile)
	}
	return drawCurves(ctx, o, *only, os.Stdout)
}

// curveKinds are the curves by the names that -only takes.
var curveKinds = []struct {
	name    string
	measure func(context.Context, curveOptions) ([]curve, error)
}{
	{"rules", ruleCurves},
	{"refusals", refusalCurves},
	{"updates", updateCurves},
	{"native-rules", nativeRuleCurves},
	{"values", valueCurves},
	{"native-values", nativeValueCurves},
	{"workers", workerCurves},
	{"idle", idleCurves},
	{"simulated-workers", simulatedCurves},
	{"cluster", clusterCurves},
}

func curveNames() []string {
	var names []string
	for _, k := range curveKinds {
		names = append(names, k.name)
	}
	return names
}

// drawCurves measures and prints all curves, or the kind that only names.
func drawCurves(ctx context.Context, o curveOptions, only string, w io.Writer) error {
	for _, k := range curveKinds {
		if only != "" && only != k.name {
			continue
		}
		log.Printf("curve: %s", k.name)
		curves, err := k.measure(ctx, o)
		if err != nil {
			return fmt.Errorf("%s: %w", k.name, err)
		}
		if len(curves) == 0 { // what it needs is not there
			continue
		}
		for _, c := range curves {
			if err := c.write(w); err != nil {
				return err
			}
		}
		if err := keep(o.figures, k.name, curves); err != nil {
			return err
		}
	}
	return nil
}

// keep puts the curves of one kind into a file, in place of those of that kind.
func keep(file, kind string, curves []curve) error {
	var all []figures.Curve
	if _, err := figures.Load(file, &all); err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(c figures.Curve) bool { return c.Kind == kind })
	for _, c := range curves {
		kept := figures.Curve{Kind: kind, Title: c.title, X: c.x, Columns: c.columns}
		for _, p := range c.points {
			point := figures.CurvePoint{X: p.x, Values: make([]*float64, len(p.values))}
			for i, v := range p.values {
				if !math.IsNaN(v) {
					point.Values[i] = &v
				}
			}
			kept.Points = append(kept.Points, point)
		}
		all = append(all, kept)
	}
	return figures.Save(file, all)
}

// add appends a point.
func (c *curve) add(x int, values ...float64) { c.points = append(c.points, curvePoint{x, values}) }

// barWidth is how many characters the longest bar has.
const barWidth = 24

// write prints the curve as a table in Markdown, with its first column drawn and as a multiple of its first point.
func (c *curve) write(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "**%s**\n\n| %s | %s | of the first | |\n|---|%s---|---|\n", c.title, c.x,
		strings.Join(c.columns, " | "), strings.Repeat("---|", len(c.columns)))
	longest := 0.0
	for _, p := range c.points {
		longest = max(longest, p.values[0])
	}
	for _, p := range c.points {
		fmt.Fprintf(&b, "| %s |", grouped(p.x))
		for _, v := range p.values {
			fmt.Fprintf(&b, " %s |", figure(v))
		}
		length := 0
		if longest > 0 {
			length = int(math.Round(max(p.values[0], 0) / longest * barWidth))
		}
		fmt.Fprintf(&b, " %.2f | %s |\n", p.values[0]/c.points[0].values[0], strings.Repeat("▇", length))
	}
	fmt.Fprintf(&b, "\n%s\n\n", c.growth())
	_, err := io.WriteString(w, b.String())
	return err
}

// growth says by how much the first column grows each time the number is ten times as large, on the whole.
func (c *curve) growth() string {
	first, last := c.points[0], c.points[len(c.points)-1]
	tens := math.Log10(float64(last.x) / float64(first.x))
	ratio := last.values[0] / first.values[0]
	if ratio <= 0 {
		return "Less than the noise of this run."
	}
	return fmt.Sprintf("From %s to %s: × %.2f, which is × %.2f for each factor of ten.",
		grouped(first.x), grouped(last.x), ratio, math.Pow(ratio, 1/tens))
}

// figure writes a value to three digits or so, and a dash for what is not known.
func figure(v float64) string {
	switch size := math.Abs(v); {
	case math.IsNaN(v):
		return "–"
	case size >= 100:
		return fmt.Sprintf("%.0f", v)
	case size >= 10:
		return fmt.Sprintf("%.1f", v)
	case size >= 0.1 || v == 0:
		return fmt.Sprintf("%.2f", v)
	default:
		return fmt.Sprintf("%.4f", v)
	}
}

// grouped writes a whole number with commas between thousands.
func grouped(n int) string {
	text := fmt.Sprint(n)
	for at := len(text) - 3; at > 0; at -= 3 {
		text = text[:at] + "," + text[at:]
	}
	return text
}

// powersOfTen are 1, 10, 100 and so on up to most.
func powersOfTen(most int) []int {
	var powers []int
	for n := 1; n <= most; n *= 10 {
		powers = append(powers, n)
	}
	return powers
}
