// Package config reads a configuration, says everything that is wrong with it, and completes what it leaves out.
package config

import (
	"sentinel-envoy/shared/answer"
	"sentinel-envoy/shared/outcome"
	"sentinel-envoy/shared/rule"
)

// Kind is whose configuration it is.
type Kind int

const (
	KindVM   Kind = iota // vm_config.configuration: rules only
	KindHTTP             // the HTTP filter's
	KindTCP              // the network filter's
)

// Mode says whether decisions have effect.
type Mode int

const (
	Enforce Mode = iota // "enforce", the default
	Shadow              // "shadow": decide and count, never block
)

// String is the mode's name in a configuration.
func (m Mode) String() string {
	if m == Shadow {
		return "shadow"
	}
	return "enforce"
}

// FailureMode says what happens to a request when a fault of ours keeps us from deciding.
type FailureMode int

const (
	FailOpen   FailureMode = iota // "open", the default: it passes
	FailClosed                    // "closed": it is refused
)

// String is the mode's name in a configuration.
func (m FailureMode) String() string {
	if m == FailClosed {
		return "closed"
	}
	return "open"
}

// RateLimitHeaders are those by which clients are told what is left.
type RateLimitHeaders int

const (
	NoHeaders RateLimitHeaders = iota // "off", the default
	Draft03                           // "draft_03": x-ratelimit-limit, -remaining and -reset, as Envoy writes them
	Draft11                           // "draft_11": ratelimit-policy and ratelimit
)

// ResourceFrom is what in Envoy's configuration names resources.
type ResourceFrom int

const (
	FromNothing     ResourceFrom = iota // the default
	FromRoute                           // "route_name"
	FromCluster                         // "cluster_name"
	FromVirtualHost                     // "virtual_host"
)

// Traffic says which way a filter's streams go, as Sentinel's trafficType.
type Traffic int

const (
	Inbound  Traffic = iota // "inbound", the default
	Outbound                // "outbound": no system rule looks at it
)

// Config is a checked configuration. Every rule has an id.
type Config struct {
	Rules []rule.Rule // flowRules and the other families' lists, in the document's order

	SystemSource *SystemSource // system_source: nil if there is none
	// rate_limit_service: nil if there is none
	RateLimitService *rule.RateLimitService
	Persist          *Persist     // persist: nil if counts end with the process
	Sources          []DataSource // datasource: where further rules come from, at most 8
	Arguments        []Argument   // arguments: what Java Sentinel's paramIdx means here
	Origin           *rule.Origin // origin: where requests say whom they come from; nil if nowhere

	ResourceName string // resource_name: the resource of whatever nothing else matches; "" is none
	// resource_from: whose name in Envoy is a resource where a rule is for it
	ResourceFrom ResourceFrom
	Traffic      Traffic    // traffic_type
	Resources    []Resource // resources, in order: the first match wins
	Block        Block
	Failures     outcome.Failures
	// RateLimitHeaders are on answers that pass and that refuse: rate_limit_headers.
	RateLimitHeaders RateLimitHeaders
	Mode             Mode
	FailureMode      FailureMode

	// Warnings are what is odd in the configuration, at most 50.
	Warnings []Warning

	// RuleHash tells rule sets apart. It covers every rule with its id and does not depend on their order.
	RuleHash uint64
}

// SystemSource is an HTTP service that answers in node_exporter's text format.
type SystemSource struct {
	Cluster    string // Envoy's name of the cluster
	Path       string // default "/metrics"
	Authority  string // of the request; default Cluster
	IntervalMs uint32 // how often it is asked, 100 to 60,000 milliseconds; default 1000
}

// Block is the answer to a blocked request or connection, unless its rule or its resource has another.
type Block struct {
	answer.Block
	TCPMessage bool // tcp_message: the client of a blocked connection gets Body in place of the first upstream data
	// FilterState is whether an access log finds there what refused: filter_state, default true.
	FilterState bool
}
