package convert

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"sentinel-envoy/internal/configfile"
	"sentinel-envoy/shared/config"
)

// families are the kinds of Sentinel's custom resources, whose rules have sentinel-golang's words.
var families = map[string]string{
	"FlowRules": "flowRules", "CircuitBreakerRules": "circuitBreakerRules", "HotspotRules": "hotspotRules",
	"IsolationRules": "isolationRules", "SystemRules": "systemRules", "AuthorityRules": "authorityRules",
}

// crds converts the custom resources of Sentinel's data source for Kubernetes.
func (r *Result) crds(docs []configfile.Document) {
	for _, d := range docs {
		key, known := families[text(d, "kind")]
		if !known {
			r.wrong(d, "kind %s is none of Sentinel's", quoted(text(d, "kind")))
			continue
		}
		list, _ := d.Get("spec", "rules")
		if list == (configfile.Document{}) {
			r.wrong(d, "needs spec.rules")
			continue
		}
		for i, item := range list.Items() {
			r.rule(item, key, i, config.Guess)
		}
	}
}

// openSergo converts fault tolerance rules of OpenSergo: each target of a rule with each of its strategies.
func (r *Result) openSergo(docs []configfile.Document) {
	strategies := map[string]configfile.Document{}
	var rules []configfile.Document
	for _, d := range docs {
		switch kind := text(d, "kind"); {
		case kind == "FaultToleranceRule":
			rules = append(rules, d)
		case strings.HasSuffix(kind, "Strategy"):
			strategies[text(d, "metadata", "name")] = d
		case strings.HasSuffix(kind, "FallbackAction"):
			name := quoted(text(d, "metadata", "name"))
			r.need("# " + kind + " " + name + " is left out: write block, which answers all that is refused")
		default:
			r.wrong(d, "kind %s is no fault tolerance of OpenSergo's", quoted(kind))
		}
	}
	for _, d := range rules {
		targets, _ := d.Get("spec", "targets")
		uses, _ := d.Get("spec", "strategies")
		for _, target := range targets.Items() {
			resource := r.target(target)
			for _, use := range uses.Items() {
				if s, ok := strategies[text(use, "name")]; ok {
					r.strategy(s, resource)
				} else {
					r.wrong(use, "there is no strategy %s in the file", quoted(text(use, "name")))
				}
			}
		}
	}
}

// target is the resource of a target; one with a method, as GET:/orders, gets an entry of resources.
func (r *Result) target(d configfile.Document) string {
	name := text(d, "targetResourceName")
	method, path, found := strings.Cut(name, ":")
	if found && strings.HasPrefix(path, "/") && method == strings.ToUpper(method) {
		r.add("resources", d, fmt.Sprintf("{name: %s, match: {method: [%s], path: {template: %s}}}",
			quoted(name), method, quoted(path)))
	}
	if name == "" {
		r.wrong(d, "needs a targetResourceName")
	}
	return name
}

// strategy makes a rule for a resource of a strategy.
func (r *Result) strategy(d configfile.Document, resource string) {
	spec, ok := d.Get("spec")
	if !ok {
		r.wrong(d, "needs a spec")
		return
	}
	if text(spec, "limitMode") == "Global" {
		r.need("# limitMode Global of " + quoted(text(d, "metadata", "name")) +
			" holds here for one Envoy; over several it is for Envoy's rate limit service")
	}
	resource = quoted(resource)
	switch kind := text(d, "kind"); kind {
	case "RateLimitStrategy":
		interval := r.duration(spec, "statDuration", "statDurationSeconds", time.Second, time.Second)
		r.add("flowRules", spec, fmt.Sprintf("{resource: %s, threshold: %s, statIntervalInMs: %d}",
			resource, r.number(spec, "threshold", ""), interval.Milliseconds()))
	case "ThrottlingStrategy":
		interval := r.duration(spec, "minIntervalOfRequests", "minIntervalMillisOfRequests", time.Millisecond, 0)
		wait := r.duration(spec, "queueTimeout", "queueTimeoutMillis", time.Millisecond, 500*time.Millisecond)
		if interval <= 0 {
			r.wrong(spec, "needs minIntervalOfRequests")
			return
		}
		r.add("flowRules", spec, fmt.Sprintf("{resource: %s, threshold: %s, controlBehavior: Throttling, maxQueueingTimeMs: %d}",
			resource, strconv.FormatFloat(float64(time.Second)/float64(interval), 'g', 15, 64), wait.Milliseconds()))
	case "ConcurrencyLimitStrategy":
		r.add("isolationRules", spec, fmt.Sprintf("{resource: %s, threshold: %s}", resource, r.number(spec, "maxConcurrency", "")))
	case "CircuitBreakerStrategy":
		r.breaker(spec, resource)
	default:
		r.wrong(d, "kind %s has no rule here", quoted(kind))
	}
}

func (r *Result) breaker(spec configfile.Document, resource string) {
	strategy, slow := "ErrorRatio", ""
	switch s := text(spec, "strategy"); s {
	case "SlowRequestRatio":
		conditions, _ := spec.Get("slowConditions")
		strategy = s
		limit := r.duration(conditions, "maxAllowedRt", "maxAllowedRtMillis", time.Millisecond, 0)
		slow = fmt.Sprintf(", maxAllowedRtMs: %d", limit.Milliseconds())
	case "ErrorRequestRatio":
	default:
		r.wrong(spec, "strategy %s: must be SlowRequestRatio or ErrorRequestRatio", quoted(s))
		return
	}
	percent, err := strconv.ParseFloat(strings.TrimSuffix(text(spec, "triggerRatio"), "%"), 64)
	if err != nil || percent < 0 || percent > 100 {
		r.wrong(spec, "triggerRatio: must be a share such as '60%%', got %s", quoted(text(spec, "triggerRatio")))
		return
	}
	interval := r.duration(spec, "statDuration", "statDurationSeconds", time.Second, time.Second)
	retry := r.duration(spec, "recoveryTimeout", "recoveryTimeoutSeconds", time.Second, 5*time.Second)
	r.add("circuitBreakerRules", spec, fmt.Sprintf(
		"{resource: %s, strategy: %s, threshold: %s%s, statIntervalMs: %d, retryTimeoutMs: %d, minRequestAmount: %s}",
		resource, strategy, strconv.FormatFloat(percent/100, 'g', -1, 64), slow, interval.Milliseconds(), retry.Milliseconds(),
		r.number(spec, "minRequestAmount", "5")))
}

// duration is a time under one of two keys: as text with its unit, or as a number of units.
func (r *Result) duration(d configfile.Document, key, numberKey string, unit, otherwise time.Duration) time.Duration {
	if s := text(d, key); s != "" {
		t, err := time.ParseDuration(s)
		if err != nil {
			r.wrong(d, "%s: must be a time such as 10s, got %s", key, quoted(s))
		}
		return t
	}
	if n, err := strconv.ParseFloat(text(d, numberKey), 64); err == nil {
		return time.Duration(n * float64(unit))
	}
	return otherwise
}
