package rule

import "strconv"

// RateLimitService is a service that speaks the protocol of Envoy's own.
type RateLimitService struct {
	Cluster   string // Envoy's name of the cluster
	Domain    string // of the service's configuration
	TimeoutMs uint32 // for how long an answer is waited for, in milliseconds
}

// ThresholdType says what the threshold of a rule in cluster mode is for.
type ThresholdType int32

// The types, with Sentinel's integers.
const (
	AvgLocal ThresholdType = 0 // each of the Envoys; all of them together have that many times as much
	Global   ThresholdType = 1 // all Envoys together
)

// String is Sentinel's name of the type.
func (t ThresholdType) String() string { return name(int(t), "AVG_LOCAL", "GLOBAL") }

// Cluster is what a rule in cluster mode has besides: its threshold holds for several Envoys, and a rate limit service
// counts.
type Cluster struct {
	Service RateLimitService
	// On is clusterMode, true in every rule that was read from a configuration.
	On                      bool
	FlowID                  uint64        `json:"flowId"` // what the service calls the rule, 0: by its id
	ThresholdType           ThresholdType `json:"thresholdType"`
	FallbackToLocalWhenFail bool          `json:"fallbackToLocalWhenFail"` // false: the failure mode decides
	ClusterSize             uint32        `json:"clusterSize"`             // how many Envoys there are; at least 1
	WindowIntervalMs        uint32        `json:"windowIntervalMs"`        // milliseconds, a whole second, minute or hour
}

// IntervalMs is what the threshold is for, in milliseconds.
func (r *Flow) IntervalMs() uint64 {
	if r.Cluster != nil {
		return uint64(r.Cluster.WindowIntervalMs)
	}
	return r.StatIntervalInMs
}

// Name is what the service calls a rule with an id.
func (c *Cluster) Name(id string) string {
	if c.FlowID != 0 {
		return strconv.FormatUint(c.FlowID, 10)
	}
	return id
}

// Total is what all Envoys together may let in in a window, by a threshold.
func (c *Cluster) Total(threshold float64) float64 {
	if c.ThresholdType == AvgLocal {
		return threshold * float64(c.ClusterSize)
	}
	return threshold
}

// Local is what one Envoy may let in in a window while the service does not answer, by a threshold.
func (c *Cluster) Local(threshold float64) float64 {
	if c.ThresholdType == AvgLocal {
		return threshold
	}
	return threshold / float64(c.ClusterSize)
}

// canonical appends what is different about the rule, nothing where it is in no cluster mode.
func (c *Cluster) canonical(b []byte) []byte {
	if c == nil {
		return b
	}
	b = appendString(appendString(b, c.Service.Cluster), c.Service.Domain)
	return appendInts(b, int64(c.Service.TimeoutMs), int64(c.FlowID), int64(c.ThresholdType), flag(c.FallbackToLocalWhenFail),
		int64(c.ClusterSize), int64(c.WindowIntervalMs))
}
