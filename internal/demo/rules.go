package demo

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"sync"
)

// Ids of the rules.
const (
	shopRule   = "shop-qps"
	payRule    = "pay-errors"
	reportRule = "report-slots"
)

// bounds are the thresholds that the page may ask for.
var bounds = map[string]struct{ min, max float64 }{
	shopRule:   {10, 400}, // requests a second
	payRule:    {0.1, 1},  // of them that fail
	reportRule: {1, 32},   // at once
}

// rules are those in force. Envoy reads them from a file, and again whenever another is moved into its place.
type rules struct {
	file string
	wasm string // path of the Wasm binary

	mu         sync.Mutex
	thresholds map[string]float64 // by rule
	version    int
}

// newRules writes the file. It names no rule that is not in it.
func newRules(file, wasm string) (*rules, error) {
	r := &rules{file: file, wasm: wasm, thresholds: map[string]float64{shopRule: 100, payRule: 0.5, reportRule: 8}}
	return r, r.write()
}

// all gives the thresholds by rule.
func (r *rules) all() map[string]float64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.thresholds)
}

// set changes one threshold. The error says what is wrong with it, or with the file.
func (r *rules) set(rule string, threshold float64) error {
	b, found := bounds[rule]
	if !found {
		return fmt.Errorf("no rule %q", rule)
	}
	if !(threshold >= b.min && threshold <= b.max) { // so written, it refuses NaN
		return fmt.Errorf("%s: the threshold must be %v to %v, got %v", rule, b.min, b.max, threshold)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.thresholds[rule] = threshold
	return r.write()
}

// write replaces the file by another of the thresholds.
func (r *rules) write() error {
	r.version++
	text, err := json.Marshal(r.discovery())
	if err != nil {
		return err
	}
	next := r.file + ".next"
	if err := os.WriteFile(next, text, 0o600); err != nil {
		return err
	}
	return os.Rename(next, r.file)
}

type object = map[string]any

// discovery is the file's content: the discovery response with the filter.
func (r *rules) discovery() object {
	const types = "type.googleapis.com/"
	filter := object{
		"@type": types + "envoy.extensions.filters.http.wasm.v3.Wasm",
		"config": object{
			"name": "sentinel_http", "root_id": "sentinel_http",
			"configuration": object{"@type": types + "google.protobuf.Struct", "value": r.configuration()},
			"vm_config": object{
				"vm_id": "sentinel", "runtime": "envoy.wasm.runtime.v8", "code": object{"local": object{"filename": r.wasm}},
			},
		},
	}
	return object{"version_info": fmt.Sprint(r.version), "resources": []object{{
		"@type": types + "envoy.config.core.v3.TypedExtensionConfig", "name": "sentinel", "typed_config": filter,
	}}}
}

// configuration is the filter's own. A path that is a rule's resource needs nothing else.
func (r *rules) configuration() object {
	return object{
		"flowRules": []object{{"id": shopRule, "resource": shopPath, "threshold": r.thresholds[shopRule]}},
		"circuitBreakerRules": []object{{
			"id": payRule, "resource": payPath, "strategy": "ErrorRatio", "threshold": r.thresholds[payRule],
			"minRequestAmount": 5, "statIntervalMs": 2000, "retryTimeoutMs": 4000,
		}},
		"isolationRules": []object{{"id": reportRule, "resource": reportPath, "threshold": r.thresholds[reportRule]}},
	}
}
