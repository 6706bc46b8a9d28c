// Package rules makes the configuration of envoyproxy/ratelimit of a plugin's.
package rules

import (
	"errors"
	"fmt"
	"math"
	"strings"

	"sigs.k8s.io/yaml"

	"sentinel-envoy/shared/config"
	"sentinel-envoy/shared/quota"
	"sentinel-envoy/shared/rule"
)

// domain is a file of the service's configuration.
type domain struct {
	Domain      string       `json:"domain"`
	Descriptors []descriptor `json:"descriptors"`
}

// descriptor is a limit of the service's, or what stands above one.
type descriptor struct {
	Key         string       `json:"key"`
	Value       string       `json:"value,omitempty"` // empty: any other
	RateLimit   *limit       `json:"rate_limit,omitempty"`
	Descriptors []descriptor `json:"descriptors,omitempty"`
}

type limit struct {
	Unit            string `json:"unit"`
	RequestsPerUnit uint32 `json:"requests_per_unit"`
}

// ErrNone means that a configuration has no rule that the service counts.
var ErrNone = errors.New("no rule has clusterMode")

// FromPlugin returns the service's configuration, in YAML, for a plugin's, which is YAML or JSON: a limit for each rule in
// cluster mode. The error is config.Errors where the plugin's has mistakes.
func FromPlugin(text []byte) (string, error) {
	json, err := yaml.YAMLToJSON(text)
	if err != nil {
		return "", err
	}
	cfg, err := parse(json)
	if err != nil {
		return "", err
	}
	d := domain{}
	for _, r := range cfg.Rules {
		one, cluster, err := describe(r, cfg.Mode)
		if err != nil {
			return "", err
		}
		if cluster != nil {
			d.Domain, d.Descriptors = cluster.Service.Domain, append(d.Descriptors, one)
		}
	}
	if len(d.Descriptors) == 0 {
		return "", ErrNone
	}
	out, err := yaml.Marshal(d)
	return string(out), err
}

// parse reads a configuration of whatever kind it is.
func parse(json []byte) (cfg *config.Config, first error) {
	for _, kind := range []config.Kind{config.KindHTTP, config.KindTCP, config.KindVM} {
		cfg, err := config.Parse(json, kind)
		if err == nil {
			return cfg, nil
		}
		if first == nil {
			first = err
		}
	}
	return nil, first
}

// describe is the descriptor by which a filter in a mode asks for a rule; cluster is nil of one that it does not ask for.
func describe(r rule.Rule, mode config.Mode) (one descriptor, cluster *rule.Cluster, err error) {
	var below []descriptor
	var of *limit
	switch r := r.(type) {
	case *rule.Flow:
		if cluster = r.Cluster; cluster != nil {
			of, err = limitOf(r.ID, cluster, r.Threshold)
		}
	case *rule.Hotspot:
		if cluster = r.Cluster; cluster != nil {
			below, err = values(r)
		}
	}
	if cluster == nil || err != nil {
		return descriptor{}, nil, err
	}
	one = descriptor{Key: "rule", Value: cluster.Name(r.For().ID), RateLimit: of, Descriptors: below}
	if mode == config.Shadow {
		one.RateLimit, one.Descriptors = nil, []descriptor{{Key: "mode", Value: mode.String(), RateLimit: of, Descriptors: below}}
	}
	return one, cluster, nil
}

// values are the descriptors of a hotspot rule: those of the values that have a limit of their own, and that of all others.
func values(r *rule.Hotspot) ([]descriptor, error) {
	var all []descriptor
	for _, item := range r.SpecificItems {
		of, err := limitOf(r.ID, r.Cluster, float64(item.Threshold))
		if err == nil && strings.HasSuffix(item.ValStr, "*") {
			err = fmt.Errorf("rule %q: the service takes the value %q for all that begin like it", r.ID, item.ValStr)
		}
		if err != nil {
			return nil, err
		}
		all = append(all, descriptor{Key: "value", Value: quota.Name(item.ValStr), RateLimit: of})
	}
	of, err := limitOf(r.ID, r.Cluster, float64(r.Threshold))
	return append(all, descriptor{Key: "value", RateLimit: of}), err
}

// limitOf is what a rule in cluster mode admits by a threshold.
func limitOf(id string, c *rule.Cluster, threshold float64) (*limit, error) {
	units := map[uint32]string{1000: "second", 60_000: "minute", 3600_000: "hour"}
	total := math.Floor(c.Total(threshold))
	if total > math.MaxUint32 {
		return nil, fmt.Errorf("rule %q: the service counts to %d, not to %.0f", id, uint32(math.MaxUint32), total)
	}
	return &limit{Unit: units[c.WindowIntervalMs], RequestsPerUnit: uint32(total)}, nil
}
