// Package rule holds the rules of Sentinel's six families: the fields, the JSON names and the integers of
// sentinel-golang 1.0.4. Package config reads, checks and completes them.
package rule

import (
	"math"
	"regexp"
	"strings"

	"sentinel-envoy/shared/answer"
	"sentinel-envoy/shared/outcome"
)

const (
	// LongestMs is the longest interval that a rule can have, in milliseconds: 366 days.
	LongestMs = 366 * 24 * 3600 * 1000
	// FarthestTurn is how far ahead a time may lie that was given out to an entry that waits its turn, in nanoseconds:
	// maxQueueingTimeMs has 32 bits, and the permits of one entry last an interval. A record that has given out a later time
	// was written by nobody of us.
	FarthestTurn = (1<<32)*1e6 + LongestMs*1e6
)

// Target is what every rule has: a name, and what it is for.
type Target struct {
	ID       string `json:"id"`       // names the budget; the same in two configurations is one budget
	Resource string `json:"resource"` // name, or with Regex an expression for whole names; empty in a system rule: all
	Regex    bool   `json:"regex"`
	// Pattern is the expression, anchored and compiled, of a rule with Regex that was read from a configuration.
	Pattern *regexp.Regexp `json:"-"`
	// LimitApp names the origins that the rule is about: one, OtherOrigin, or of authority rules several with commas between;
	// empty where it is about all.
	LimitApp string `json:"limitApp"`
	// Only is whose requests of the resource these are; nil are all.
	Only *Origins `json:"-"`
	// Block is what the answer to what the rule refuses is in place of the resource's and the filter's; nil is nothing.
	Block *answer.Block `json:"block,omitempty"`
	// Trial is how the rule is tried out; nil where it simply holds.
	*Trial
	// Candidate is the threshold of a rule that is another's candidate, and has that one's id; empty of all others.
	Candidate string `json:"-"`
}

// Origins are some of those that requests come from.
type Origins struct {
	Names  []string // in the form that values are compared in
	Others bool     // not those named, but all others
	From   Origin
}

// Origin is where in a request the origin stands: a source, what it is called there, and of SourceAddress which address of
// x-forwarded-for.
type Origin struct {
	Source      ParamSource
	Name        string
	TrustedHops uint32
}

// Param is the origin as a parameter of a hotspot rule.
func (o *Origin) Param() *Param {
	return &Param{ParamSource: o.Source, ParamKey: o.Name, TrustedHops: o.TrustedHops}
}

// Authority lets in, or keeps out, what comes from some origins.
type Authority struct {
	Target
	Refused     *Origins          `json:"-"` // those that LimitApp and Strategy keep out
	Strategy    AuthorityStrategy `json:"strategy"`
	EmptyOrigin EmptyOrigin       `json:"emptyOrigin"` // of a request that says no origin
}

// Origins that a limitApp stands for, beside those it names.
const (
	AnyOrigin   = "default" // all, and those without one
	OtherOrigin = "other"   // those that no other rule of the resource names
)

// For is the rule's target.
func (t *Target) For() *Target { return t }

// Flow limits how many entries a resource gets per interval.
type Flow struct {
	Target
	TokenCalculateStrategy TokenCalculateStrategy `json:"tokenCalculateStrategy"`
	ControlBehavior        ControlBehavior        `json:"controlBehavior"`
	Threshold              float64                `json:"threshold"` // entries per StatIntervalInMs
	RelationStrategy       RelationStrategy       `json:"relationStrategy"`
	RefResource            string                 `json:"refResource"`       // measured instead, with AssociatedResource
	MaxQueueingTimeMs      uint32                 `json:"maxQueueingTimeMs"` // milliseconds, with Throttling; 0 never waits
	WarmUpPeriodSec        uint32                 `json:"warmUpPeriodSec"`   // seconds, with WarmUp
	WarmUpColdFactor       uint32                 `json:"warmUpColdFactor"`  // with WarmUp: starts at Threshold / factor
	StatIntervalInMs       uint64                 `json:"statIntervalInMs"`  // milliseconds, 1 to 366 days; 0 after parsing with a unit
	Window                 Window                 `json:"window,omitempty"`  // of our own
	Burst                  int64                  `json:"burst,omitempty"`   // of our own: tokens of a bucket that fills at Threshold; 0 is no bucket

	// With MemoryAdaptive the threshold falls from LowMem… at MemLowWaterMarkBytes to HighMem… at MemHighWaterMarkBytes.
	// Sentinel looks at the memory of its own process, we at that in use on the machine that system_source tells of.
	LowMemUsageThreshold  int64 `json:"lowMemUsageThreshold"`
	HighMemUsageThreshold int64 `json:"highMemUsageThreshold"`
	MemLowWaterMarkBytes  int64 `json:"memLowWaterMarkBytes"`
	MemHighWaterMarkBytes int64 `json:"memHighWaterMarkBytes"`

	// Cluster is nil where the rule is for this Envoy alone. In JSON it is clusterMode and clusterConfig.
	Cluster *Cluster `json:"-"`

	// Calendar, of our own, is what the threshold is for instead of an interval.
	Calendar
	// CountOnly, of our own, are the answers that the rule counts, when they come; nil are the entries, when they enter.
	CountOnly *Answers `json:"countOnly,omitempty"`
	// Cost is how many permits an entry takes, nil for one. In JSON it is batchCount.
	Cost *Cost `json:"-"`
}

// Cost is how many permits an entry takes: Sentinel's batchCount, which there the program passes. Without a ParamSource it
// is Default for each.
type Cost struct {
	Param
	// Default is for an entry that does not say it, Max the most that it counts as, whatever it says; 0 to 1,000,000,000.
	Default, Max int64
}

// CircuitBreaker refuses a resource for a while after it was slow or failed too often.
type CircuitBreaker struct {
	Target
	Strategy                     BreakerStrategy `json:"strategy"`
	RetryTimeoutMs               uint32          `json:"retryTimeoutMs"`               // milliseconds open before the first probe
	MinRequestAmount             uint64          `json:"minRequestAmount"`             // requests per StatIntervalMs, below which it stays closed
	StatIntervalMs               uint32          `json:"statIntervalMs"`               // milliseconds, 1 to 3,600,000
	StatSlidingWindowBucketCount uint32          `json:"statSlidingWindowBucketCount"` // 1 to 60, divides StatIntervalMs
	MaxAllowedRtMs               uint64          `json:"maxAllowedRtMs"`               // milliseconds; longer is slow
	Threshold                    float64         `json:"threshold"`                    // ratio 0 to 1, or a count with ErrorCount
	ProbeNum                     uint64          `json:"probeNum"`                     // successful probes that close it; 0 means 1

	// Of our own. Each time that it opens again before it has recovered, it stays open RetryTimeoutMultiplier times as long, at
	// most MaxRetryTimeoutMs; 0 is always as long, and no bound but 32 bits.
	RetryTimeoutMultiplier float64 `json:"retryTimeoutMultiplier,omitempty"`
	MaxRetryTimeoutMs      uint32  `json:"maxRetryTimeoutMs,omitempty"`  // milliseconds
	RecoveryDurationMs     uint32  `json:"recoveryDurationMs,omitempty"` // milliseconds in which it lets in ever more once it has closed
	Forced                 Forced  `json:"forced,omitempty"`
}

// Isolation limits how many requests of a resource are in flight.
type Isolation struct {
	Target
	MetricType IsolationMetric `json:"metricType"`
	Threshold  uint32          `json:"threshold"` // requests or connections in flight, at least 1
}

// Hotspot limits a resource per value of one parameter.
type Hotspot struct {
	Target
	MetricType        HotspotMetric   `json:"metricType"`
	ControlBehavior   ControlBehavior `json:"controlBehavior"`
	Threshold         int64           `json:"threshold"` // per value: entries per DurationInSec, or in flight
	MaxQueueingTimeMs int64           `json:"maxQueueingTimeMs"`
	BurstCount        int64           `json:"burstCount"`        // entries above Threshold, with Reject
	DurationInSec     int64           `json:"durationInSec"`     // seconds, 1 to 366 days with QPS
	ParamsMaxCapacity int64           `json:"paramsMaxCapacity"` // values tracked at once; 0 lets the engine choose
	SpecificItems     []SpecificItem  `json:"specificItems"`     // values with a threshold of their own

	// Param is what the values are of; Params are several that have a value together, and then Param is none.
	Param
	Params []Param `json:"params"`

	// Cluster and Cost are as in Flow.
	Cluster *Cluster `json:"-"`
	Cost    *Cost    `json:"-"`

	// Of our own. A value that was refused BanAfter times in DurationInSec is refused for BanMs milliseconds; 0 is never.
	BanAfter int64 `json:"banAfter,omitempty"`
	BanMs    int64 `json:"banMs,omitempty"`
	// Calendar and CountOnly are as in Flow.
	Calendar
	CountOnly *Answers `json:"countOnly,omitempty"`
}

// Answers are some of those that requests get.
type Answers struct {
	Status outcome.StatusSet
	GRPC   outcome.GRPCSet
}

// Has is whether an answer is one of them, as far as is known.
func (a *Answers) Has(of outcome.Answer) bool {
	return a.Status.Has(of.Status) || of.HasGRPC && a.GRPC.Has(of.GRPC)
}

// String is the answers by their statuses, as "401,403" or "401 or gRPC 7,16".
func (a *Answers) String() string {
	if a.GRPC == 0 {
		return a.Status.String()
	}
	grpc := "gRPC " + a.GRPC.String()
	if a.Status.Empty() {
		return grpc
	}
	return a.Status.String() + " or " + grpc
}

// MarshalJSON writes the answers as a configuration has them.
func (a *Answers) MarshalJSON() ([]byte, error) {
	text := a.Status.String()
	for class := '1'; class <= '5'; class++ {
		text = strings.ReplaceAll(text, string(class)+"xx", `"`+string(class)+`xx"`)
	}
	if a.Status.Empty() {
		return []byte(`{"grpc":[` + a.GRPC.String() + `]}`), nil
	}
	if a.GRPC != 0 {
		text += `],"grpc":[` + a.GRPC.String()
	}
	return []byte(`{"status":[` + text + `]}`), nil
}

// Param is where a parameter comes from. Sentinel has its index and key only: there the program passes the parameters.
type Param struct {
	ParamSource ParamSource `json:"paramSource"`
	ParamKey    string      `json:"paramKey"`    // name of one of the source's values
	ParamIndex  int         `json:"paramIndex"`  // of the source's values; negative counts from the end
	ParamPath   []string    `json:"paramPath"`   // with Property: the attribute's path, instead of ParamKey
	TrustedHops uint32      `json:"trustedHops"` // with SourceAddress: which address of x-forwarded-for, from its end; 0 is none
	// V4PrefixLen and V6PrefixLen are, with SourceAddress, how many bits of an address are its value; 0 is all.
	V4PrefixLen int  `json:"v4PrefixLen"`
	V6PrefixLen int  `json:"v6PrefixLen"`
	Lowercase   bool `json:"lowercase"` // values that differ in the case of letters are one
	// Missing says what an entry without a value is.
	Missing Missing `json:"missing"`
}

// DurationMs is about how long a value's window is, in milliseconds: of a unit of the calendar, which are not all as long.
func (r *Hotspot) DurationMs() int64 {
	if r.Unit != NoUnit {
		return r.Unit.Ms()
	}
	return r.DurationInSec * 1000
}

// Each are the parameters of the rule, mostly one.
func (r *Hotspot) Each() []Param {
	if len(r.Params) > 0 {
		return r.Params
	}
	return []Param{r.Param}
}

// SpecificItem gives one parameter value its own threshold, in the form of sentinel-golang's data source.
type SpecificItem struct {
	ValKind   ParamKind `json:"valKind"`
	ValStr    string    `json:"valStr"`
	Threshold int64     `json:"threshold"` // or Unlimited
	// Pattern is whether ValStr is no value, but what many have in common; Shared is whether these have the threshold
	// together, not each for itself. In JSON it is valPattern.
	Pattern PatternKind `json:"-"`
	Shared  bool        `json:"shared"`
}

// Unlimited is the threshold of a value that a rule does not limit.
const Unlimited = math.MaxInt64

// System limits everything that comes in while one figure of the whole process or machine is too high.
type System struct {
	Target
	MetricType   SystemMetric     `json:"metricType"`
	TriggerCount float64          `json:"triggerCount"` // in the metric's unit
	Strategy     AdaptiveStrategy `json:"strategy"`
}
