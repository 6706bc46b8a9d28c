package soak

import (
	"math"
	"testing"
)

func TestSlope(t *testing.T) {
	var s series
	for i := range 10 {
		s.add(float64(i), 7+3*float64(i))
	}
	if got := s.slope(); math.Abs(got-3) > 1e-9 {
		t.Errorf("slope of a line is %v, want 3", got)
	}
	// The line of least squares through (0,0), (1,2), (2,1) rises by a half.
	s = series{}
	s.add(0, 0)
	s.add(1, 2)
	s.add(2, 1)
	if got := s.slope(); math.Abs(got-0.5) > 1e-9 {
		t.Errorf("slope is %v, want 0.5", got)
	}
}

// series are points of which the line of least squares is asked.
type series struct{ x, y []float64 }

func (s *series) add(x, y float64) { s.x, s.y = append(s.x, x), append(s.y, y) }

// after is the points from x on.
func (s *series) after(x float64) (later series) {
	for i := range s.x {
		if s.x[i] >= x {
			later.add(s.x[i], s.y[i])
		}
	}
	return later
}

// slope is by how much the line of least squares rises per unit of x.
func (s *series) slope() float64 {
	var mx, my float64
	for i := range s.x {
		mx += s.x[i] / float64(len(s.x))
		my += s.y[i] / float64(len(s.x))
	}
	var xy, xx float64
	for i := range s.x {
		xy += (s.x[i] - mx) * (s.y[i] - my)
		xx += (s.x[i] - mx) * (s.x[i] - mx)
	}
	return xy / xx
}
