package request_test

import (
	"testing"

	"sentinel-envoy/shared/request"
	"sentinel-envoy/shared/rule"
)

func TestCost(t *testing.T) {
	of := &rule.Cost{Param: rule.Param{ParamSource: rule.Header, ParamKey: "X-Cost"}, Default: 3, Max: 50}
	for _, c := range []struct {
		lines []string
		want  int64
	}{
		{nil, 3}, {[]string{""}, 3}, {[]string{"7"}, 7}, {[]string{" 7 "}, 7}, {[]string{"0"}, 0}, {[]string{"007"}, 7}, {[]string{"50"}, 50},
		{[]string{"51"}, 50}, {[]string{"99999999999999999999999999"}, 50}, {[]string{"-1"}, 3}, {[]string{"+1"}, 3}, {[]string{"1.5"}, 3},
		{[]string{"1e3"}, 3}, {[]string{"0x10"}, 3}, {[]string{"\u0667"}, 3}, {[]string{"1", "20"}, 20}, {[]string{"20", "nonsense"}, 20},
		{[]string{"0", "nonsense"}, 3}, {[]string{"0", "0"}, 0}, {[]string{"1", "2", "3", "4", "5"}, 50},
	} {
		s := request.NewStream()
		cost := s.Cost(of)
		s.Of(lines(c.lines))
		if got := cost.Permits(); got != c.want {
			t.Errorf("%q: %d permits, want %d", c.lines, got, c.want)
		}
	}
	s := request.NewStream()
	if got := s.Cost(nil).Permits(); got != 1 {
		t.Errorf("without a cost: %d permits", got)
	}
	if got := s.Cost(&rule.Cost{Default: 5, Max: 5}).Permits(); got != 5 {
		t.Errorf("always 5: %d permits", got)
	}
}

// lines is a request with one header.
type lines []string

func (l lines) Header(string) (string, bool) {
	if len(l) == 0 {
		return "", false
	}
	return l[0], true
}

func (l lines) Lines(dst []string, _ string) []string { return append(dst, l...) }

func (l lines) Property([]string) (value string, ok bool) {
	for i, line := range l {
		if i > 0 {
			value += ","
		}
		value += line
	}
	return value, len(l) > 0
}
