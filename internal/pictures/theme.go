package main

import (
	"bytes"
	"fmt"
	"image/color"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// The size of a picture, and of its letters.
const (
	width     = 640 * vg.Length(1)
	height    = 330 * vg.Length(1)
	bodySize  = 12 * vg.Length(1)
	titleSize = 15 * vg.Length(1)
)

// These stand for colours that follow the reader's scheme; dress puts those in.
var (
	ink  = color.RGBA{1, 1, 1, 255}
	soft = color.RGBA{2, 2, 2, 255}
	grid = color.RGBA{3, 3, 3, 255}
)

// The colours of series are as readable on white as on black.
var (
	blue   = color.RGBA{0x2f, 0x7d, 0xe1, 255}
	orange = color.RGBA{0xe0, 0x7b, 0x1f, 255}
	green  = color.RGBA{0x1f, 0x9d, 0x6b, 255}
	red    = color.RGBA{0xd9, 0x36, 0x6c, 255}
	violet = color.RGBA{0x86, 0x5f, 0xe0, 255}
)

// schemes are the colours of ink, soft and grid on a light and on a dark page. A reader without styles takes the middle.
const schemes = `<style>
	:root { --c010101: #24292f; --c020202: #59636e; --c030303: #d8dee4 }
	@media (prefers-color-scheme: dark) { :root { --c010101: #e6edf3; --c020202: #9198a1; --c030303: #30363d } }
</style>
`

var (
	schemed    = regexp.MustCompile(`(fill|stroke):#(0[123])(?:0[123]){2}`)
	opening    = regexp.MustCompile(`(?s)<svg width="[^"]*" height="[^"]*" (viewBox="[^"]*").*?>`)
	fontFamily = regexp.MustCompile(`font-family:[^;]*;font-variant:[^;]*;`)
	middles    = map[string]string{"01": "#6e7781", "02": "#818b95", "03": "#8c959f"}
)

// dress makes the SVG that gonum writes one for pages: with a title, letters that are as wide as those that gonum measured,
// and colours of the scheme.
func dress(svg []byte, title string) []byte {
	svg = schemed.ReplaceAllFunc(svg, func(found []byte) []byte {
		m := schemed.FindSubmatch(found)
		return fmt.Appendf(nil, "%s:%s;%s:var(--c%[4]s%[4]s%[4]s)", m[1], middles[string(m[2])], m[1], m[2])
	})
	svg = fontFamily.ReplaceAll(svg, []byte("font-family:Arial,'Liberation Sans',Helvetica,sans-serif;"))
	head := fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" $1 width="%.0f" height="%.0f" role="img">`+
		"\n<title>%s</title>\n%s", float64(width), float64(height), title, schemes)
	svg = opening.ReplaceAll(svg, []byte(head))
	_, svg, _ = bytes.Cut(svg, []byte("-->\n")) // a comment about the library, after the prolog
	return svg
}

// newPlot gives an empty plot with our letters and lines. The title stands above it.
func newPlot(title, x, y string) *plot.Plot {
	plot.DefaultFont = font.Font{Typeface: "Liberation", Variant: "Sans"}
	plotter.DefaultFont = plot.DefaultFont
	p := plot.New()
	p.BackgroundColor = nil // the page's
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = title, x, y
	p.Title.Padding = 10
	p.Title.TextStyle = style(titleSize, ink)
	p.Title.TextStyle.XAlign, p.Title.TextStyle.YAlign = text.XCenter, text.YTop
	for _, a := range []*plot.Axis{&p.X, &p.Y} {
		a.Label.TextStyle = alike(a.Label.TextStyle, soft)
		a.Tick.Label = alike(a.Tick.Label, soft)
		a.LineStyle.Color, a.Tick.LineStyle.Color = grid, grid
		a.Padding = 0
		a.Label.Padding = 4
	}
	p.Y.LineStyle.Width, p.Y.Tick.Length = 0, 0
	p.Legend.TextStyle = style(bodySize, ink)
	p.Legend.Top, p.Legend.Left = true, true
	p.Legend.Padding = 3
	p.Legend.ThumbnailWidth = 22
	return p
}

// addGrid draws lines from the marks of the upright axis.
func addGrid(p *plot.Plot) {
	lines := plotter.NewGrid()
	lines.Vertical.Width = 0
	lines.Horizontal.Color, lines.Horizontal.Width = grid, 0.8
	p.Add(lines)
}

func style(size vg.Length, ink color.Color) text.Style {
	return text.Style{Color: ink, Font: font.From(plot.DefaultFont, size), Handler: plot.DefaultTextHandler}
}

// alike is a style of an axis, turned and aligned as it is, with our letters.
func alike(s text.Style, ink color.Color) text.Style {
	s.Font, s.Color = font.From(plot.DefaultFont, bodySize), ink
	return s
}

// save writes a plot to a file of a directory.
func save(p *plot.Plot, dir, name string) error {
	c := vgsvg.New(width, height)
	area := draw.New(c)
	area = draw.Crop(area, 6, -12, 4, -6)
	p.Draw(area)
	var svg bytes.Buffer
	if _, err := c.WriteTo(&svg); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, name), dress(svg.Bytes(), p.Title.Text), 0o644)
}

// addLine draws a series, with a mark at each point, and names it in the legend.
func addLine(p *plot.Plot, name string, points plotter.XYs, ink color.Color, dashes ...vg.Length) error {
	l, marks, err := plotter.NewLinePoints(points)
	if err != nil {
		return err
	}
	l.Color, l.Width, l.Dashes = ink, 2, dashes
	marks.Color, marks.Radius, marks.Shape = ink, 2.6, draw.CircleGlyph{}
	p.Add(l)
	if len(dashes) == 0 {
		p.Add(marks)
	}
	p.Legend.Add(name, l)
	return nil
}

// ring is a glyph through which one sees what is below it.
type ring struct{}

// DrawGlyph implements draw.GlyphDrawer.
func (ring) DrawGlyph(c *draw.Canvas, s draw.GlyphStyle, at vg.Point) {
	c.SetLineStyle(draw.LineStyle{Color: s.Color, Width: 1.6})
	var p vg.Path
	p.Move(vg.Point{X: at.X + s.Radius, Y: at.Y})
	p.Arc(at, s.Radius, 0, 2*math.Pi)
	p.Close()
	c.Stroke(p)
}

// addMarks draws a series as marks alone.
func addMarks(p *plot.Plot, name string, points plotter.XYs, ink color.Color, radius vg.Length, shape draw.GlyphDrawer) error {
	s, err := plotter.NewScatter(points)
	if err != nil {
		return err
	}
	s.Color, s.Radius, s.Shape = ink, radius, shape
	p.Add(s)
	p.Legend.Add(name, s)
	return nil
}

// addThreshold draws a dashed line from one side to the other.
func addThreshold(p *plot.Plot, name string, from, to, y float64) error {
	return addLine(p, name, plotter.XYs{{X: from, Y: y}, {X: to, Y: y}}, soft, 5, 4)
}

// ticks are those given, with numbers as people write them.
type ticks []float64

// Ticks implements plot.Ticker.
func (ts ticks) Ticks(float64, float64) []plot.Tick {
	marks := make([]plot.Tick, len(ts))
	for i, v := range ts {
		marks[i] = plot.Tick{Value: v, Label: number(v)}
	}
	return marks
}

// number writes a number with commas between thousands.
func number(v float64) string {
	text := strconv.FormatFloat(v, 'f', -1, 64)
	for at := len(text) - 3; at > 0 && v == float64(int(v)); at -= 3 {
		text = text[:at] + "," + text[at:]
	}
	return text
}
