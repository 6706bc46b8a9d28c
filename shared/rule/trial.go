package rule

import (
	"math"
	"strconv"
)

// Mode says whether a rule's decisions have effect.
type Mode int32

// The modes.
const (
	Enforce Mode = 0
	Shadow  Mode = 1 // decides and counts, and refuses nothing
)

// String is the mode's name in a configuration.
func (m Mode) String() string { return name(int(m), "enforce", "shadow") }

// Action says what a rule does with what is over its limit.
type Action int32

// The actions.
const (
	Refuse   Action = 0
	Annotate Action = 1 // lets it in, and tells the upstream
)

// String is the action's name in a configuration.
func (a Action) String() string { return name(int(a), "refuse", "annotate") }

// Trial is how a rule is tried out before it refuses: Sentinel has nothing like it.
type Trial struct {
	Mode   Mode   `json:"mode,omitempty"`
	Action Action `json:"action,omitempty"`
	// EnabledPercent are the requests that the rule is asked about, EnforcedPercent those of them that it may refuse; nil is
	// all.
	EnabledPercent  *float64 `json:"enabledPercent,omitempty"`
	EnforcedPercent *float64 `json:"enforcedPercent,omitempty"`
	// Candidates are thresholds beside the live one, each with a budget of its own.
	Candidates []float64 `json:"candidateThreshold,omitempty"`
}

// append appends the trial; of nil nothing.
func (t *Trial) append(b []byte) []byte {
	if t == nil {
		return b
	}
	b = appendInts(b, int64(t.Mode), int64(t.Action), percent(t.EnabledPercent), percent(t.EnforcedPercent), int64(len(t.Candidates)))
	for _, c := range t.Candidates {
		b = appendInts(b, real(c))
	}
	return b
}

func percent(p *float64) int64 {
	if p == nil {
		return real(100)
	}
	return real(*p)
}

// Candidates are the rules that a rule has beside it to be tried: each is as the rule, with another threshold, and refuses
// nothing.
func Candidates(r Rule) (some []Rule) {
	trial := r.For().Trial
	if trial == nil {
		return nil
	}
	for _, threshold := range trial.Candidates {
		var one Rule
		switch r := r.(type) {
		case *Flow:
			c := *r
			c.Threshold, one = threshold, &c
		case *Isolation:
			c := *r
			c.Threshold, one = uint32(min(threshold, math.MaxUint32)), &c
		case *Hotspot:
			c := *r
			c.Threshold, one = int64(threshold), &c
		default:
			continue
		}
		to := one.For()
		to.Trial = &Trial{Mode: Shadow, EnabledPercent: trial.EnabledPercent}
		to.Candidate = strconv.FormatFloat(threshold, 'f', -1, 64)
		some = append(some, one)
	}
	return some
}
