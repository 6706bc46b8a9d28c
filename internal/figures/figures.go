// Package figures keeps what the long measurements found, in docs/figures, so that pictures can be drawn from it at any time.
package figures

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// Dir is where they are, from the root of the repository.
const Dir = "docs/figures"

// Scaling is one row of `make scaling`.
type Scaling struct {
	Workers   int     `json:"workers"`   // Envoy's --concurrency
	Listeners string  `json:"listeners"` // HTTP, TCP, or both
	Spread    bool    `json:"spread"`    // over many connections; otherwise one
	Threshold int     `json:"threshold"` // per window of one second
	Offered   float64 `json:"offered"`   // requests per second
	Min       int     `json:"min"`       // admitted in the emptiest, the median and the fullest whole window
	Median    int     `json:"median"`
	Max       int     `json:"max"`
	Over      int     `json:"over"` // the most that any window admitted above the threshold
	Verdict   string  `json:"verdict"`
}

// Admitted is what `bench admitted` found: what filters with one threshold admit at several numbers of workers.
type Admitted struct {
	Threshold float64         `json:"threshold"` // requests per second
	Offered   float64         `json:"offered"`   // to each filter, per second
	Points    []AdmittedPoint `json:"points"`
}

// AdmittedPoint is what each filter admitted per second, by its name.
type AdmittedPoint struct {
	Workers int                `json:"workers"`
	Filters map[string]float64 `json:"filters"`
}

// Summary is the middle and the ends of N measurements.
type Summary struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
	N      int     `json:"n"`
}

// Cost is of what `make bench` found the part that is drawn.
type Cost struct {
	CPU []CostRow `json:"cpu"`
}

// CostRow is Envoy's CPU time per request behind one filter, in µs above a listener without one; the first row is that one's.
type CostRow struct {
	Name       string  `json:"name"`
	PerRequest Summary `json:"us_per_request"`
}

// Memory is of what `make memory` found the part that is drawn.
type Memory struct {
	Rows []MemoryRow `json:"rows"`
}

// MemoryRow is the private memory in MB of an Envoy with one filter and so many workers.
type MemoryRow struct {
	Name    string  `json:"name"`
	Workers int     `json:"workers"`
	Private Summary `json:"mb_private"`
}

// Curve is one of `make curves`: how a few measures grow with one number.
type Curve struct {
	Kind    string       `json:"kind"`  // of the measurement, as -only takes it
	Title   string       `json:"title"` // what is varied, and how
	X       string       `json:"x"`     // what the number is
	Columns []string     `json:"columns"`
	Points  []CurvePoint `json:"points"`
}

// CurvePoint has a value for each column; nil where it is not known.
type CurvePoint struct {
	X      int        `json:"x"`
	Values []*float64 `json:"values"`
}

// Save writes a value to a file as JSON, for people to compare. It does nothing where file is empty.
func Save(file string, value any) error {
	if file == "" {
		return nil
	}
	text, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return os.WriteFile(file, append(text, '\n'), 0o644)
}

// Load reads a file that Save wrote into value. It reports false where there is none.
func Load(file string, value any) (bool, error) {
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, json.Unmarshal(text, value)
}
