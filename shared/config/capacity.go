package config

import (
	"strconv"

	"sentinel-envoy/shared/rule"
)

// What one configuration may take of what all of a process share. A process has twice the room, so that a new configuration
// fits beside the one it replaces.
const (
	// MaxRecords is how many records: one for each rule and each resource that it is for, and more where a rule measures
	// another resource.
	MaxRecords = 16384
	// MaxValues is for how many values at once hotspot rules may ask by paramsMaxCapacity.
	MaxValues = 65_536
	// maxMatches is how many resources may be held against expressions, once for each expression.
	maxMatches = 1_000_000
)

// checkCapacity finds what does not fit.
func (r *rules) checkCapacity(top *place) {
	cfg, names := r.cfg, r.resourceNames()
	expressions := 0
	for _, one := range cfg.Rules {
		if one.For().Pattern != nil {
			expressions++
		}
	}
	if matches := expressions * len(names); matches > maxMatches {
		r.add(top, strconv.Itoa(expressions), " rules with regex, each to be held against ", strconv.Itoa(len(names)),
			" resources: must be ≤ ", strconv.Itoa(maxMatches), " in all, got ", strconv.Itoa(matches))
		return
	}
	records, values := demand(cfg.Rules, names)
	if records > MaxRecords {
		r.add(top, "records, one for each rule and each resource that it is for: must be ≤ ",
			strconv.Itoa(MaxRecords), ", got ", strconv.Itoa(records))
	}
	if values > MaxValues {
		r.add(top, "paramsMaxCapacity of all hotspot rules, once for each resource that one is for: must be ≤ ",
			strconv.Itoa(MaxValues), ", got ", strconv.FormatInt(values, 10))
	}
}

// demand is how many records rules take, and for how many values they ask.
func demand(rules []rule.Rule, names map[string]bool) (records int, values int64) {
	for _, one := range rules {
		n := 1
		if of := one.For(); of.Pattern != nil {
			n = 0
			for name := range names {
				if of.Pattern.MatchString(name) {
					n++
				}
			}
		}
		if t := one.For().Trial; t != nil {
			n *= 1 + len(t.Candidates)
		}
		records += n * RecordsOf(one)
		if h, ok := one.(*rule.Hotspot); ok {
			values += int64(n) * h.ParamsMaxCapacity
		}
	}
	return records, values
}

// resourceNames are the resources that a filter can have, whether or not a rule is for them.
func (r *rules) resourceNames() map[string]bool {
	cfg := r.cfg
	names := map[string]bool{cfg.ResourceName: true}
	for i := range cfg.Resources {
		if !cfg.Resources[i].Unlimited {
			names[cfg.Resources[i].Name] = true
		}
	}
	for _, one := range cfg.Rules {
		if of := one.For(); !of.Regex {
			names[of.Resource] = true
		}
		if other, ok := one.(rule.Referrer); ok {
			names[other.Refers()] = true
		}
	}
	delete(names, "")
	return names
}

// RecordsOf is how many records a rule takes for each resource that it is for. Hotspot rules share pages that are always
// there.
func RecordsOf(r rule.Rule) int {
	switch r := r.(type) {
	case *rule.Authority, *rule.System, *rule.Hotspot:
		return 0
	case *rule.Flow:
		if r.Refers() != "" {
			return 3 // the rule's own, the other resource's count, and its warmth
		}
	}
	return 1
}
