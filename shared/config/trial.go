package config

import (
	"slices"
	"strconv"

	"github.com/buger/jsonparser"

	"sentinel-envoy/shared/rule"
)

// maxCandidates bounds the thresholds that a rule has beside its own.
const maxCandidates = 8

// trial reads a key of how a rule is tried out, into what is made with the first of them.
func (r *rules) trial(of *rule.Target, read func(t *rule.Trial) setter) setter {
	return func(at *place, v value) {
		if of.Trial == nil {
			of.Trial = &rule.Trial{}
		}
		read(of.Trial)(at, v)
	}
}

// percent reads a number from 0 to 100.
func (r *rules) percent(dst **float64) setter {
	return func(at *place, v value) {
		if f, ok := r.float(at, v); ok && r.inRange(at, v, f, 0, 100) {
			*dst = &f
		}
	}
}

// candidates is the key of thresholds that are tried beside a rule's own.
func (r *rules) candidates(of *rule.Target) field {
	return field{"candidateThreshold", r.trial(of, func(t *rule.Trial) setter {
		return func(at *place, v value) {
			if v.typ != jsonparser.Array {
				r.add(at, "must be a list, got ", v.describe())
				return
			}
			r.list(at, v, func(at *place, v value) bool {
				if len(t.Candidates) == maxCandidates {
					r.add(at, "more than ", strconv.Itoa(maxCandidates), " elements")
					return false
				}
				var one float64
				before := r.count()
				r.number(&one)(at, v)
				if r.count() == before {
					t.Candidates = append(t.Candidates, one)
				}
				return true
			})
		}
	})}
}

// checkTrial finds what does not go together in how a rule is tried out.
func (r *rules) checkTrial(at *place, one rule.Rule) {
	t := one.For().Trial
	if t == nil {
		return
	}
	if t.Mode == rule.Shadow {
		if t.EnforcedPercent != nil {
			r.add(at.at("enforcedPercent"), "does not go with mode shadow, which enforces nothing")
		}
		if t.Action == rule.Annotate {
			r.add(at.at("action"), "annotate does not go with mode shadow, which only counts")
		}
	}
	if isAll(t.EnabledPercent) {
		t.EnabledPercent = nil
	}
	if isAll(t.EnforcedPercent) {
		t.EnforcedPercent = nil
	}
	if t.Mode == rule.Enforce && t.Action == rule.Refuse && t.EnabledPercent == nil && t.EnforcedPercent == nil && len(t.Candidates) == 0 {
		one.For().Trial = nil
	}
	live, whole := 0.0, true
	switch one := one.(type) {
	case *rule.Flow:
		live, whole = one.Threshold, false
		if len(t.Candidates) > 0 && (one.Cluster != nil || one.TokenCalculateStrategy == rule.MemoryAdaptive) {
			r.add(at.at("candidateThreshold"), "does not go with clusterMode and MemoryAdaptive, which have no threshold of their own")
		}
		if one.TokenCalculateStrategy == rule.WarmUp && slices.Contains(t.Candidates, 0) {
			r.add(at.at("candidateThreshold"), "must be > 0 with WarmUp")
		}
		if one.Burst > 0 && slices.Contains(t.Candidates, 0) {
			r.add(at.at("candidateThreshold"), "must be > 0 with burst: nothing would ever come back")
		}
	case *rule.Isolation:
		live = float64(one.Threshold)
	case *rule.Hotspot:
		live = float64(one.Threshold)
		if len(t.Candidates) > 0 && one.Cluster != nil {
			r.add(at.at("candidateThreshold"), "does not go with clusterMode, where a service counts")
		}
	}
	r.checkCandidates(at.at("candidateThreshold"), t.Candidates, live, whole)
}

func isAll(percent *float64) bool { return percent != nil && *percent == 100 }

// checkCandidates finds candidates that are no thresholds of their own.
func (r *rules) checkCandidates(at *place, some []float64, live float64, whole bool) {
	for i, c := range some {
		switch {
		case whole && c != float64(int64(c)):
			r.add(at.item(i), "must be a whole number")
		case c == live:
			r.add(at.item(i), "is the rule's threshold already")
		case slices.Contains(some[:i], c):
			r.add(at.item(i), "given twice")
		}
	}
}
