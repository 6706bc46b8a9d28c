package flow

import (
	"strconv"

	"sentinel-envoy/shared/family"
	"sentinel-envoy/shared/machine"
	"sentinel-envoy/shared/record"
	"sentinel-envoy/shared/request"
	"sentinel-envoy/shared/rule"
)

// flowRule is what Sentinel's flow rules have in common, whatever they measure and however they answer.
type flowRule struct {
	family.Base
	*rule.Flow
	kind *kind
	// warm is nil where the threshold always holds.
	warm *WarmUp
	// cost is how many permits an entry takes, nil of a rule for which each takes one.
	cost *request.Cost
	// memory is nil where the threshold does not follow it.
	memory *Memory
	// measure is what the threshold counts.
	measure string
}

// recordID names a record of the rule's: windows of another length have each their own.
func (r *flowRule) recordID(what string) record.ID {
	return r.RecordID(what, r.shape()...)
}

// shape is what tells the rule's windows from those of others.
func (r *flowRule) shape() []string {
	if name := r.Calendar.Name(); name != "" {
		return []string{name}
	}
	w := r.window()
	return w.shape()
}

func (r *flowRule) window() Window {
	if c := r.Env.Windows(&r.Calendar); c != nil {
		return OfUnit(r.Unit, c)
	}
	return ShapedWindow(r.StatIntervalInMs, r.Window)
}

// windowMs is how long the rule's window is at the time now, in milliseconds.
func (r *flowRule) windowMs(w *Window, now int64) int64 {
	if w.Calendar == nil {
		return int64(r.StatIntervalInMs)
	}
	start, end := w.Calendar.Bounds(now)
	return (end - start) / 1e6
}

// shape tells the records of windows apart that are cut differently.
func (w Window) shape() []string {
	shape := []string{strconv.FormatInt(w.BucketMs, 10), strconv.Itoa(w.Buckets)}
	if w.Ticks > 0 {
		shape = append(shape, strconv.FormatInt(w.Ticks, 10))
	}
	return shape
}

// limit is the threshold at the time now, of a rule that warms up that of a warm one.
//
// With MemoryAdaptive it is read at most once a tick, from the last answer of the system_source. Workers may differ in it
// for a tick: a window admits at most what the largest of theirs does. While the last answer is too old, or there was
// none yet, the smaller threshold of the rule holds, and the gauge sentinel_system_source_stale is 1.
func (r *flowRule) limit(now int64) (float64, error) {
	if r.memory == nil {
		return r.Threshold, nil
	}
	figures, fresh, err := r.Machine.Figures(now)
	if err != nil {
		return 0, err
	}
	if !fresh {
		figures.Memory = machine.Unknown
	}
	return r.memory.Threshold(figures.Memory), nil
}
