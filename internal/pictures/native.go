package main

import (
	"image/color"
	"math"
	"time"

	"github.com/alibaba/sentinel-golang/core/circuitbreaker"
	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// drawWarmUp is what a rule that warms up lets in, second by second.
func drawWarmUp() (*plot.Plot, error) {
	const lasts, offered = 15, 200
	ours, sentinels, err := warmUp(lasts, offered)
	if err != nil {
		return nil, err
	}
	p := newPlot("Warm-up: from a third of the threshold to the whole of it in 10 s", "seconds since the first request", "admitted per second")
	addGrid(p)
	p.X.Min, p.X.Max, p.Y.Min, p.Y.Max = 0.5, lasts+0.5, 0, 135
	p.X.Tick.Marker, p.Y.Tick.Marker = ticks{1, 3, 5, 7, 9, 11, 13, 15}, ticks{0, 25, 50, 75, 100}
	our, their := make(plotter.XYs, lasts), make(plotter.XYs, lasts)
	for i := range lasts {
		our[i], their[i] = plotter.XY{X: float64(i + 1), Y: ours[i]}, plotter.XY{X: float64(i + 1), Y: sentinels[i]}
	}
	if err := addThreshold(p, "threshold", p.X.Min, p.X.Max, warmThreshold); err != nil {
		return nil, err
	}
	if err := addLine(p, "this filter", our, blue); err != nil {
		return nil, err
	}
	return p, addMarks(p, "sentinel-golang", their, orange, 5.5, ring{})
}

// drawThrottling is when each entry of a crowd is let in.
func drawThrottling() (*plot.Plot, error) {
	const n, every = 50, 40 * time.Millisecond
	arrivals, err := throttle(n, every)
	if err != nil {
		return nil, err
	}
	p := newPlot("Throttling: 25 requests a second come, one each 100 ms is let in", "came at, s", "let in at, s")
	addGrid(p)
	p.X.Min, p.X.Max, p.Y.Min, p.Y.Max = 0, 2, 0, 3.4
	p.X.Tick.Marker, p.Y.Tick.Marker = ticks{0, 0.5, 1, 1.5, 2}, ticks{0, 0.5, 1, 1.5, 2, 2.5}
	var our, their, refused plotter.XYs
	for _, a := range arrivals {
		if a.ours >= 0 {
			our = append(our, plotter.XY{X: a.came, Y: a.ours})
		} else {
			refused = append(refused, plotter.XY{X: a.came, Y: 0.06})
		}
		if a.sentinels >= 0 {
			their = append(their, plotter.XY{X: a.came, Y: a.sentinels})
		}
	}
	if err := addLine(p, "at once", plotter.XYs{{X: 0, Y: 0}, {X: 2, Y: 2}}, soft, 5, 4); err != nil {
		return nil, err
	}
	if err := addLine(p, "the longest wait, 500 ms", plotter.XYs{{X: 0, Y: 0.5}, {X: 2, Y: 2.5}}, soft, 1.5, 3); err != nil {
		return nil, err
	}
	if err := addMarks(p, "this filter", our, blue, 2.8, draw.CircleGlyph{}); err != nil {
		return nil, err
	}
	if err := addMarks(p, "sentinel-golang", their, orange, 5.5, ring{}); err != nil {
		return nil, err
	}
	return p, addMarks(p, "refused by both", refused, red, 2, draw.CircleGlyph{})
}

// drawBreaker is through which states a breaker goes while a service fails.
func drawBreaker() (*plot.Plot, error) {
	const lasts, from, to = 12, 2, 7
	ours, sentinels, err := breakerPhases(lasts, from, to)
	if err != nil {
		return nil, err
	}
	p := newPlot("Circuit breaker: the service fails from second 2 to second 7", "seconds", "")
	addGrid(p)
	p.X.Min, p.X.Max, p.Y.Min, p.Y.Max = 0, lasts, -0.3, 3.1
	p.X.Tick.Marker = ticks{0, 2, 4, 6, 8, 10, 12}
	p.Y.Tick.Marker = plot.ConstantTicks{{Value: 0, Label: "closed"}, {Value: 1, Label: "half-open"}, {Value: 2, Label: "open"}}
	failing, err := plotter.NewPolygon(plotter.XYs{{X: from, Y: p.Y.Min}, {X: to, Y: p.Y.Min}, {X: to, Y: 2.4}, {X: from, Y: 2.4}})
	if err != nil {
		return nil, err
	}
	failing.Color, failing.LineStyle.Width = color.NRGBA{red.R, red.G, red.B, 36}, 0
	p.Add(failing)
	p.Legend.Add("the service fails", failing)
	if err := addSteps(p, "sentinel-golang", sentinels, lasts, orange, 6); err != nil {
		return nil, err
	}
	return p, addSteps(p, "this filter", ours, lasts, blue, 2)
}

// levels are where the states of a breaker stand.
var levels = map[circuitbreaker.State]float64{circuitbreaker.Closed: 0, circuitbreaker.HalfOpen: 1, circuitbreaker.Open: 2}

// addSteps draws states as steps.
func addSteps(p *plot.Plot, name string, phases []phase, until float64, ink color.Color, width vg.Length) error {
	var points plotter.XYs
	for i, ph := range phases {
		end := until
		if i+1 < len(phases) {
			end = math.Min(phases[i+1].at, until)
		}
		y := levels[ph.state]
		points = append(points, plotter.XY{X: ph.at, Y: y}, plotter.XY{X: end, Y: y})
	}
	l, err := plotter.NewLine(points)
	if err != nil {
		return err
	}
	l.Color, l.Width = ink, width
	p.Add(l)
	p.Legend.Add(name, l)
	return nil
}
