// Package top shows live in a terminal what the filters of an Envoy do, from its admin page.
package top

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"sentinel-envoy/internal/envoytest"
)

// Resource is what happens to the entries of one resource. Rates are a second's.
type Resource struct {
	Name                            string
	Passed, Blocked, Shadow, Failed float64
	InFlight                        float64
	RT                              float64 // mean in ms of those that ended since the last figures; 0 where none did
}

// Rule is what one rule does to one resource. Rates are a second's.
type Rule struct {
	Kind, ID, Resource string
	Blocked            float64
	Shadow             float64 // would have been refused: by a rule in shadow, or one that annotates, or by a candidate
	Near               float64 // let in beyond 80 % of the threshold
	Threshold, Left    float64 // of its window; both 0 where the rule tells none
	Wait               float64 // mean in ms of those that had to wait
	State              string  // of a breaker, else ""
}

// Fill is what of the rule's window is spent, from 0 to 1.
func (r Rule) Fill() float64 {
	if r.Threshold == 0 {
		return 0
	}
	return 1 - r.Left/r.Threshold
}

// Process is what concerns the whole Envoy.
type Process struct {
	Workers, Lost float64
	RuleSets      int
	Faults        float64 // a second
	// RecordsFree is for how many more records there is room, nil until a worker has counted them.
	RecordsFree *float64
}

// Worker is a VM of ours or a thread of Envoy's. Which VM is on which thread, nobody tells: Envoy's main thread has one,
// too.
type Worker struct {
	Name        string
	Rules       string  // of a VM: the hash of those that it applies, else ""
	State       string  // of a VM: "", "gone", or "differs" where others apply other rules
	Connections float64 // of a thread: that are open, on all listeners
	Opened      float64 // a second
	Stuck       float64 // times a second that Envoy's watchdog missed the thread
}

// Figures are those of one moment, with rates since the one before.
type Figures struct {
	Resources []Resource
	Rules     []Rule
	Workers   []Worker
	Process   Process
}

// reading is one reading of the admin page.
type reading struct {
	at     time.Time
	values map[string]float64
	labels map[string]map[string]string
	// threads are sums of Envoy's figures by worker thread and name.
	threads map[string]map[string]float64
}

// thread is Envoy's label of what concerns one of its worker threads.
const thread = "envoy_worker_id"

// read keys samples of ours by name and labels, and adds up those of Envoy's about its worker threads.
func read(samples []envoytest.Sample, at time.Time) reading {
	r := reading{at: at, values: map[string]float64{}, labels: map[string]map[string]string{}, threads: map[string]map[string]float64{}}
	for _, s := range samples {
		if id, of := s.Labels[thread]; of {
			if r.threads[id] == nil {
				r.threads[id] = map[string]float64{}
			}
			r.threads[id][s.Name] += s.Value
		}
		if strings.HasPrefix(s.Name, "sentinel_") {
			key := strings.Join([]string{s.Name, s.Labels["resource"], s.Labels["rule"], s.Labels["kind"], s.Labels["worker"],
				s.Labels["from"], s.Labels["to"]}, "\x00")
			r.values[key], r.labels[key] = s.Value, s.Labels
		}
	}
	return r
}

// figures compares a reading with the one before.
func (r reading) figures(before reading) Figures {
	seconds := r.at.Sub(before.at).Seconds()
	resources, rules := map[string]*tally{}, map[[2]string]*tally{}
	var f Figures
	sets := map[float64]bool{}
	for key, value := range r.values {
		name, _, _ := strings.Cut(key, "\x00")
		labels := r.labels[key]
		grown := 0.0
		if seconds > 0 {
			grown = max(value-before.values[key], 0) / seconds // less than before where Envoy was started anew
		}
		switch resource, rule := labels["resource"], labels["rule"]; {
		case rule != "":
			of(rules, [2]string{rule, resource}).add(name, value, grown, labels)
		case resource != "":
			of(resources, resource).add(name, value, grown, labels)
		case name == "sentinel_rules_hash" && value != 0:
			sets[value] = true
		}
	}
	for name, t := range resources {
		f.Resources = append(f.Resources, t.resource(name))
	}
	for key, t := range rules {
		f.Rules = append(f.Rules, t.rule(key[0], key[1]))
	}
	slices.SortFunc(f.Resources, func(a, b Resource) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(f.Rules, func(a, b Rule) int {
		return cmp.Or(cmp.Compare(a.ID, b.ID), cmp.Compare(a.Resource, b.Resource))
	})
	f.Workers = r.workers(before, seconds)
	f.Process = r.process(before, seconds)
	f.Process.RuleSets = len(sets)
	return f
}

// workers are VMs and then threads, by their numbers.
func (r reading) workers(before reading, seconds float64) []Worker {
	var all []Worker
	times := map[string]int{}
	for key, value := range r.values {
		if id := r.labels[key]["worker"]; strings.HasPrefix(key, "sentinel_rules_hash\x00") && id != "" {
			w := Worker{Name: fmt.Sprintf("VM %3s", id), Rules: fmt.Sprintf("%08x", uint32(value))}
			if value == 0 {
				w.State, w.Rules = "gone", ""
			}
			times[w.Rules]++
			all = append(all, w)
		}
	}
	most := ""
	for rules, n := range times {
		if rules != "" && (n > times[most] || most == "" || n == times[most] && rules < most) {
			most = rules
		}
	}
	for i, w := range all {
		if w.Rules != "" && w.Rules != most {
			all[i].State = "differs"
		}
	}
	for id, now := range r.threads {
		rate := func(name string) float64 {
			if seconds <= 0 {
				return 0
			}
			return max(now[name]-before.threads[id][name], 0) / seconds
		}
		all = append(all, Worker{Name: fmt.Sprintf("thread %3s", id), Connections: now["envoy_listener_worker_downstream_cx_active"],
			Opened: rate("envoy_listener_worker_downstream_cx_total"), Stuck: rate("envoy_server_worker_watchdog_miss")})
	}
	slices.SortFunc(all, func(a, b Worker) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

// has is whether there is a figure of that name without labels.
func (r reading) has(name string) bool {
	_, there := r.values[name+strings.Repeat("\x00", 6)]
	return there
}

// process are the figures without labels.
func (r reading) process(before reading, seconds float64) Process {
	value := func(name string) float64 { return r.values[name+strings.Repeat("\x00", 6)] }
	p := Process{Workers: value("sentinel_workers"), Lost: value("sentinel_workers_lost")}
	if free := value("sentinel_records_free"); r.has("sentinel_records_free") {
		p.RecordsFree = &free
	}
	if seconds > 0 {
		p.Faults = max(value("sentinel_faults")-before.values["sentinel_faults"+strings.Repeat("\x00", 6)], 0) / seconds
	}
	return p
}

// tally collects the metrics that have the same labels.
type tally struct {
	value, grown map[string]float64
	kind         string
}

// of is the tally with a key, made where there is none.
func of[K comparable](all map[K]*tally, key K) *tally {
	t := all[key]
	if t == nil {
		t = &tally{value: map[string]float64{}, grown: map[string]float64{}}
		all[key] = t
	}
	return t
}

func (t *tally) add(name string, value, grown float64, labels map[string]string) {
	t.value[name] += value
	t.grown[name] += grown
	if labels["kind"] != "" {
		t.kind = labels["kind"]
	}
}

// mean is what there was of a sum for each of those that are counted.
func (t *tally) mean(sum, count string) float64 {
	if t.grown[count] == 0 {
		return 0
	}
	return t.grown[sum] / t.grown[count]
}

func (t *tally) resource(name string) Resource {
	return Resource{Name: name, Passed: t.grown["sentinel_passed"], Blocked: t.value["sentinel_block_qps"],
		Shadow: t.grown["sentinel_shadow_passed"], Failed: t.grown["sentinel_failed"], InFlight: t.value["sentinel_in_flight"],
		RT: t.mean("sentinel_rt_ms_sum", "sentinel_completed")}
}

// states are those of a breaker, by their numbers.
var states = []string{"closed", "half-open", "open"}

func (t *tally) rule(id, resource string) Rule {
	r := Rule{Kind: t.kind, ID: id, Resource: resource, Blocked: t.grown["sentinel_blocked"],
		Shadow: t.grown["sentinel_shadow_blocked"] + t.grown["sentinel_candidate_blocked"] + t.grown["sentinel_annotated"],
		Near:   t.grown["sentinel_near_limit"], Threshold: t.value["sentinel_threshold"], Left: t.value["sentinel_remaining"],
		Wait: t.mean("sentinel_wait_ms_sum", "sentinel_waited")}
	if r.Threshold == 0 { // one that enforces nothing
		r.Threshold, r.Left = t.value["sentinel_shadow_threshold"], t.value["sentinel_shadow_remaining"]
	}
	if state, there := t.value["sentinel_breaker_state"]; there && int(state) < len(states) {
		r.State, r.Kind = states[int(state)], "circuitBreaker"
	}
	return r
}
