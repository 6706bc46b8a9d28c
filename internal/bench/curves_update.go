package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"sentinel-envoy/internal/envoytest"
)

const (
	// matchedResources is how many resources expressions are held against, and mostExpressions how many of them a
	// configuration may then have.
	matchedResources = 4096
	mostExpressions  = 100
	// updatesMeasured is how many updates a point has; the calmest counts.
	updatesMeasured = 3
	// afterUpdate is how long an update's CPU is counted after Envoy has taken it: workers turn to it a moment later.
	afterUpdate = time.Second
)

// refusalCurves are ruleCurves of requests that are all refused.
func refusalCurves(ctx context.Context, o curveOptions) ([]curve, error) {
	one := curve{
		title: "Rules, each of its own resource; all requests to one, all refused", x: "rules",
		columns: []string{"µs of CPU per request"},
	}
	all := curve{
		title: "Resources, each with a rule; requests to all in turn, all refused", x: "resources",
		columns: []string{"µs of CPU per request"},
	}
	for _, n := range powersOfTen(o.maxRules) {
		log.Printf("%d rules that refuse", n)
		costs, _, err := rulePoint(ctx, o, rulesOf(n, 0), n, 429)
		if err != nil {
			return nil, err
		}
		one.add(n, costs[0])
		all.add(n, costs[1])
	}
	return []curve{one, all}, nil
}

// updateCurves are what an update takes against the number of rules: of one that changes, and of all; and against the number
// of expressions that 4,096 resources are held against.
func updateCurves(ctx context.Context, o curveOptions) ([]curve, error) {
	columns := []string{"ms of CPU", "ms until Envoy has taken it", "all change: ms of CPU", "all change: ms until taken"}
	rules := curve{title: "An update of rules, each of its own resource, of which one changes; 1 worker", x: "rules", columns: columns}
	for _, n := range powersOfTen(o.maxRules) {
		if err := updatePoint(ctx, o, &rules, n, func(version, changed int) string { return changedRules(n, version, changed) }); err != nil {
			return nil, err
		}
	}
	expressions := curve{
		title: "An update of rules with expressions over 4,096 resources, of which one changes; 1 worker", x: "expressions",
		columns: columns,
	}
	for _, n := range powersOfTen(min(o.maxRules, mostExpressions)) {
		err := updatePoint(ctx, o, &expressions, n, func(version, changed int) string { return changedExpressions(n, version, changed) })
		if err != nil {
			return nil, err
		}
	}
	return []curve{rules, expressions}, nil
}

// changedRules are n rules, so many of which change with each version.
func changedRules(n, version, changed int) string {
	rules := make([]any, n)
	for i := range rules {
		threshold := unreached
		if i < changed {
			threshold += version
		}
		rules[i] = flowRule(fmt.Sprintf("r%d", i), path(i), float64(threshold))
	}
	return encode(map[string]any{"flowRules": rules})
}

// changedExpressions are n rules with an expression each, likewise, and the resources.
func changedExpressions(n, version, changed int) string {
	rules, resources := make([]any, n), make([]any, matchedResources)
	for i := range rules {
		threshold := unreached
		if i < changed {
			threshold += version
		}
		r := flowRule(fmt.Sprintf("x%d", i), fmt.Sprintf("res-[0-9]*%02d", i), float64(threshold))
		r["regex"] = true
		rules[i] = r
	}
	for i := range resources {
		resources[i] = map[string]any{
			"name": fmt.Sprintf("res-%04d", i), "match": map[string]any{"path": map[string]any{"prefix": path(i)}},
		}
	}
	return encode(map[string]any{"flowRules": rules, "resources": resources})
}

// updatePoint measures updates where one rule changes, then where all do, of n rules in all.
func updatePoint(ctx context.Context, o curveOptions, c *curve, n int, configuration func(version, changed int) string) (err error) {
	log.Printf("updates: %d %s", n, c.x)
	listener := func(version, changed int) envoytest.Listener {
		return guarded(module{sentinel, o.modules[sentinel]}, configuration(version, changed))
	}
	envoy, err := envoytest.Launch(ctx, envoytest.Config{
		Listeners: []envoytest.Listener{listener(0, 0)}, Dynamic: true, EnvoyPath: o.binary, Concurrency: 1, LogLevel: "warn",
		ReadyTimeout: startTimeout,
	})
	if err != nil {
		return err
	}
	s := &station{curveOptions: o, envoy: envoy}
	defer func() { err = errors.Join(err, s.close()) }()
	if err := s.rest(ctx); err != nil {
		return err
	}
	version := 0
	var values []float64
	for _, changed := range []int{1, n} {
		var used, took []float64
		for range updatesMeasured {
			version++
			cpu, taken, err := s.update(ctx, listener(version, changed))
			if err != nil {
				return err
			}
			used, took = append(used, cpu), append(took, taken)
		}
		values = append(values, summarize(used).Min, summarize(took).Min)
	}
	c.add(n, values...)
	return nil
}

// update is what an update takes: ms of CPU above those of an Envoy at rest, and ms until Envoy has taken it.
func (s *station) update(ctx context.Context, l envoytest.Listener) (cpu, taken float64, err error) {
	used, took, err := s.watch(func() error {
		begin := time.Now()
		if err := s.envoy.UpdateListeners(ctx, l); err != nil {
			return err
		}
		taken = time.Since(begin).Seconds() * 1e3
		return pause(ctx, afterUpdate)
	})
	return (used.Seconds() - s.idle*took.Seconds()) * 1e3, taken, err
}
