package main

import (
	"errors"
	"fmt"
	"image/color"
	"slices"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"sentinel-envoy/internal/figures"
)

// drawAdmitted is what limiters with one threshold admit against Envoy's workers.
func drawAdmitted(a figures.Admitted) (*plot.Plot, error) {
	p := newPlot(fmt.Sprintf("Admitted per second with a threshold of %.0f", a.Threshold), "Envoy's worker threads", "admitted per second")
	addGrid(p)
	most := 0.0
	var marks ticks
	for _, point := range a.Points {
		marks = append(marks, float64(point.Workers))
		for _, v := range point.Filters {
			most = max(most, v)
		}
	}
	p.X.Min, p.X.Max, p.Y.Min, p.Y.Max = 0.7, marks[len(marks)-1]+0.3, 0, most*1.3
	p.X.Tick.Marker = marks
	p.Y.Tick.Marker = evenly(most*1.05, 5)
	for _, series := range []struct {
		name, filter string
		ink          color.Color
		width        vg.Length
	}{
		{"counted by each worker alone (sentinel-golang)", "sentinel-golang Entry/Exit", red, 2},
		{"Envoy's local_ratelimit", "native local_ratelimit", orange, 6},
		{"this filter", "sentinel, 1 rule", blue, 2},
	} {
		points := make(plotter.XYs, len(a.Points))
		for i, point := range a.Points {
			points[i] = plotter.XY{X: float64(point.Workers), Y: point.Filters[series.filter]}
		}
		l, glyphs, err := plotter.NewLinePoints(points)
		if err != nil {
			return nil, err
		}
		l.Color, l.Width = series.ink, series.width
		glyphs.Color, glyphs.Radius, glyphs.Shape = series.ink, series.width/2+1.8, draw.CircleGlyph{}
		p.Add(l, glyphs)
		p.Legend.Add(series.name, l)
	}
	return p, nil
}

// drawScaling is the fullest window of each row of the table against its demand, both as multiples of the threshold.
func drawScaling(rows []figures.Scaling) (*plot.Plot, error) {
	over := 0
	for _, r := range rows {
		if r.Over > 0 {
			over++
		}
	}
	p := newPlot(fmt.Sprintf("The fullest window of each of %d loads, %d of them above the threshold", len(rows), over),
		"offered, in thresholds", "admitted, in thresholds")
	addGrid(p)
	p.X.Min, p.X.Max, p.Y.Min, p.Y.Max = 0, 8, 0, 2
	p.X.Tick.Marker, p.Y.Tick.Marker = ticks{0, 1, 2, 3, 4, 5, 6, 7, 8}, ticks{0, 0.5, 1, 1.5, 2}
	if err := addLine(p, "without a limit", plotter.XYs{{X: 0, Y: 0}, {X: 2, Y: 2}}, soft, 1.5, 3); err != nil {
		return nil, err
	}
	if err := addThreshold(p, "threshold", 0, 8, 1); err != nil {
		return nil, err
	}
	inks := []color.Color{blue, green, orange, violet}
	for i, workers := range []int{1, 2, 4, 8} {
		var points plotter.XYs
		for _, r := range rows {
			if r.Workers == workers && r.Threshold > 0 {
				x := min(r.Offered/float64(r.Threshold), 8) // what is off the picture stands at its edge
				points = append(points, plotter.XY{X: x, Y: float64(r.Max) / float64(r.Threshold)})
			}
		}
		if len(points) == 0 {
			continue
		}
		name := strings.TrimSuffix(fmt.Sprintf("%d workers", workers), map[bool]string{true: "s"}[workers == 1])
		if err := addMarks(p, name, points, inks[i], vg.Length(8-2*i), ring{}); err != nil {
			return nil, err
		}
	}
	p.Legend.Left = false
	return p, nil
}

// bar is one of a picture of them.
type bar struct {
	name  string
	value float64
}

// drawCost are bars of CPU time per admitted request. Of TinyGo's artefact there is what can be compared.
func drawCost(c figures.Cost) (*plot.Plot, error) {
	const tiny = "sentinel, TinyGo, "
	return drawBars("What a request costs: µs of Envoy's CPU above a listener without a filter", "µs per request",
		costs(c, func(name string) bool {
			return !strings.HasPrefix(name, tiny) || name == tiny+"1 rule" || name == tiny+"all five families"
		}))
}

// drawRefusals are bars of CPU time per refused request.
func drawRefusals(c figures.Cost) (*plot.Plot, error) {
	return drawBars("What a refused request costs: µs of Envoy's CPU above a listener without a filter", "µs per request",
		costs(c, func(string) bool { return true }))
}

// costs are bars for rows, but for the first: that is the whole of a request without a filter.
func costs(c figures.Cost, wanted func(name string) bool) (bars []bar) {
	for _, r := range c.CPU[1:] {
		if wanted(r.Name) {
			bars = append(bars, bar{r.Name, r.PerRequest.Median})
		}
	}
	return bars
}

// drawMemory are bars of private memory.
func drawMemory(m figures.Memory) (*plot.Plot, error) {
	var bars []bar
	for _, r := range m.Rows {
		bars = append(bars, bar{fmt.Sprintf("%s, workers: %d", r.Name, r.Workers), r.Private.Median})
	}
	return drawBars("What an Envoy takes in all: private memory in MB", "MB", bars)
}

// drawBars are bars from the top, ours in a colour of their own.
func drawBars(title, x string, rows []bar) (*plot.Plot, error) {
	if len(rows) == 0 {
		return nil, errors.New("nothing to draw")
	}
	rows = slices.Clone(rows)
	slices.Reverse(rows)
	p := newPlot(title, x, "")
	values, names := make(plotter.Values, len(rows)), make([]string, len(rows))
	for i, r := range rows {
		values[i], names[i] = max(r.value, 0), r.name
	}
	for i, own := range []bool{false, true} {
		part := slices.Clone(values)
		for k, name := range names {
			if strings.HasPrefix(name, "sentinel, ") != own {
				part[k] = 0
			}
		}
		bars, err := plotter.NewBarChart(part, 11)
		if err != nil {
			return nil, err
		}
		bars.Horizontal, bars.Color, bars.LineStyle.Width = true, []color.Color{soft, blue}[i], 0
		p.Add(bars)
	}
	labels, err := plotter.NewLabels(barLabels(values))
	if err != nil {
		return nil, err
	}
	for i := range labels.TextStyle {
		labels.TextStyle[i] = style(bodySize, ink)
		labels.TextStyle[i].YAlign = text.YCenter
	}
	labels.Offset.X = 4
	p.Add(labels)
	p.NominalY(names...)
	p.Y.LineStyle.Width, p.Y.Tick.Length = 0, 0
	p.X.Min, p.X.Max = 0, slices.Max(values)*1.1
	p.X.Tick.Marker = evenly(p.X.Max, 6)
	return p, nil
}

// barLabels are the values at the ends of their bars.
func barLabels(values plotter.Values) plotter.XYLabels {
	l := plotter.XYLabels{XYs: make(plotter.XYs, len(values)), Labels: make([]string, len(values))}
	for i, v := range values {
		l.XYs[i], l.Labels[i] = plotter.XY{X: v, Y: float64(i)}, fmt.Sprintf("%.1f", v)
	}
	return l
}

// drawGrowth is the cost of a request against how many rules, resources and values there are.
func drawGrowth(curves []figures.Curve) (*plot.Plot, error) {
	p := newPlot("How the cost of a request grows", "how many", "µs of Envoy's CPU per request")
	addGrid(p)
	p.X.Scale = plot.LogScale{}
	most, last := 0.0, 1.0
	for _, series := range []struct {
		kind, x, name string
		ink           color.Color
	}{
		{"rules", "rules", "rules, requests to one resource", blue},
		{"refusals", "rules", "rules, requests to one resource, all refused", violet},
		{"rules", "resources", "resources with a rule, requests to all in turn", orange},
		{"values", "values", "values that a hotspot rule has seen", green},
	} {
		at := slices.IndexFunc(curves, func(c figures.Curve) bool { return c.Kind == series.kind && c.X == series.x })
		if at < 0 {
			continue
		}
		var points plotter.XYs
		for _, point := range curves[at].Points {
			if v := point.Values[0]; v != nil {
				points = append(points, plotter.XY{X: float64(point.X), Y: *v})
				most, last = max(most, *v), max(last, float64(point.X))
			}
		}
		if err := addLine(p, series.name, points, series.ink); err != nil {
			return nil, err
		}
	}
	p.X.Min, p.X.Max, p.Y.Min, p.Y.Max = 1, last*1.2, 0, most*1.45
	var marks ticks
	for n := 1.0; n <= last; n *= 10 {
		marks = append(marks, n)
	}
	p.X.Tick.Marker, p.Y.Tick.Marker = marks, evenly(most*1.1, 6)
	return p, nil
}

// drawCalls is how many calls to the rate limit service a rule in cluster mode makes, against its threshold.
func drawCalls(c figures.Curve) (*plot.Plot, error) {
	p := newPlot("Cluster mode, two Envoys: calls to the rate limit service for 1,000 requests", "threshold, requests a second", "calls")
	addGrid(p)
	p.X.Scale, p.Y.Scale = plot.LogScale{}, plot.LogScale{}
	most, marks := 1000.0, ticks{}
	for i, column := range c.Columns {
		_, name, _ := strings.Cut(column, ", demand ")
		var points plotter.XYs
		for _, point := range c.Points {
			if v := point.Values[i]; v != nil && *v > 0 {
				points = append(points, plotter.XY{X: float64(point.X), Y: *v})
				most = max(most, *v)
			}
		}
		if err := addLine(p, "demand "+name, points, []color.Color{green, orange, blue}[i%3]); err != nil {
			return nil, err
		}
	}
	for _, point := range c.Points {
		marks = append(marks, float64(point.X))
	}
	if err := addThreshold(p, "asked for each request", marks[0], marks[len(marks)-1], 1000); err != nil {
		return nil, err
	}
	p.X.Min, p.X.Max, p.Y.Min, p.Y.Max = marks[0]*0.9, marks[len(marks)-1]*1.1, 1, most*6
	p.X.Tick.Marker, p.Y.Tick.Marker = marks, ticks{1, 10, 100, 1000}
	return p, nil
}

// evenly gives at most n+1 round marks from 0 to top.
func evenly(top float64, n int) ticks {
	step := 1.0
	for _, s := range []float64{0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000} {
		if step = s; top/s <= float64(n) {
			break
		}
	}
	var marks ticks
	for v := 0.0; v <= top; v += step {
		marks = append(marks, v)
	}
	return marks
}
