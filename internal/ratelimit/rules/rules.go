// Package rules makes the configuration of envoyproxy/ratelimit of a plugin's.
package rules

import (
	"errors"
	"fmt"
	"math"

	"sigs.k8s.io/yaml"

	"sentinel-envoy/shared/config"
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
	Value       string       `json:"value"`
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
	for _, r := range rule.Of[rule.Flow](cfg.Rules) {
		if r.Cluster == nil {
			continue
		}
		one, err := describe(r, cfg.Mode)
		if err != nil {
			return "", err
		}
		d.Domain, d.Descriptors = r.Cluster.Service.Domain, append(d.Descriptors, one)
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

// describe is the descriptor by which a filter in a mode asks for a rule.
func describe(r *rule.Flow, mode config.Mode) (descriptor, error) {
	units := map[uint32]string{1000: "second", 60_000: "minute", 3600_000: "hour"}
	total := math.Floor(r.Cluster.Total(r.Threshold))
	if total > math.MaxUint32 {
		return descriptor{}, fmt.Errorf("rule %q: the service counts to %d, not to %.0f", r.ID, uint32(math.MaxUint32), total)
	}
	of := &limit{Unit: units[r.IntervalMs()], RequestsPerUnit: uint32(total)}
	one := descriptor{Key: "rule", Value: r.Cluster.Name(r.ID), RateLimit: of}
	if mode == config.Shadow {
		one.RateLimit, one.Descriptors = nil, []descriptor{{Key: "mode", Value: mode.String(), RateLimit: of}}
	}
	return one, nil
}
