package configfile

import (
	"sentinel-envoy/shared/config"
	"sentinel-envoy/shared/rule"
)

// Lenient is the configuration of a filter that knows all that rules may ask for: an origin, the machine, and what the first
// arguments of a method are.
func Lenient() *config.Config {
	c := &config.Config{
		Origin:       &rule.Origin{Source: rule.Header, Name: "x-app"},
		SystemSource: &config.SystemSource{Cluster: "node", Path: "/metrics", Authority: "node", IntervalMs: 1000},
	}
	for i := range 32 {
		param := &rule.Param{ParamSource: rule.Header, ParamKey: "x-arg"}
		c.Arguments = append(c.Arguments, config.Argument{Index: i, Param: param})
	}
	return c
}
