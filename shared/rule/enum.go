package rule

// TokenCalculateStrategy says how a flow rule arrives at the threshold that holds now.
type TokenCalculateStrategy int32

// The strategies, with sentinel-golang's integers.
const (
	Direct         TokenCalculateStrategy = 0 // the threshold as it stands
	WarmUp         TokenCalculateStrategy = 1 // rises to the threshold while the resource is in use
	MemoryAdaptive TokenCalculateStrategy = 2 // falls as memory fills
)

// String is Sentinel's name of the strategy.
func (s TokenCalculateStrategy) String() string {
	return name(int(s), "Direct", "WarmUp", "MemoryAdaptive")
}

// ControlBehavior says what happens to a request that is over the limit.
type ControlBehavior int32

// The behaviors, with sentinel-golang's integers.
const (
	Reject     ControlBehavior = 0 // refused at once
	Throttling ControlBehavior = 1 // waits for its turn
)

// String is Sentinel's name of the behavior.
func (b ControlBehavior) String() string { return name(int(b), "Reject", "Throttling") }

// RelationStrategy says whose traffic a flow rule measures.
type RelationStrategy int32

// The relations, with sentinel-golang's integers.
const (
	CurrentResource    RelationStrategy = 0 // that of the rule's own resource
	AssociatedResource RelationStrategy = 1 // that of the rule's RefResource
)

// String is Sentinel's name of the relation.
func (s RelationStrategy) String() string {
	return name(int(s), "CurrentResource", "AssociatedResource")
}

// Window says how a flow rule's interval lies in time.
type Window int32

// The windows. Sentinel has the first.
const (
	SlidingWindow Window = 0 // two or more buckets of 500 ms, the last of which is not over; one aligned bucket where that does not fit
	FixedWindow   Window = 1 // one aligned bucket
	ExactWindow   Window = 2 // every interval, wherever it begins
)

// String is the window's name in a configuration.
func (w Window) String() string { return name(int(w), "sliding", "fixed", "exact") }

// BreakerStrategy says what opens a circuit breaker.
type BreakerStrategy int32

// The strategies, with sentinel-golang's integers.
const (
	SlowRequestRatio BreakerStrategy = 0
	ErrorRatio       BreakerStrategy = 1
	ErrorCount       BreakerStrategy = 2
)

// String is Sentinel's name of the strategy.
func (s BreakerStrategy) String() string {
	return name(int(s), "SlowRequestRatio", "ErrorRatio", "ErrorCount")
}

// Forced is the state that a breaker is kept in whatever happens.
type Forced int32

// The states; 0 is none.
const (
	ForcedOpen   Forced = 1
	ForcedClosed Forced = 2
)

// String is the state's name in a configuration.
func (f Forced) String() string { return name(int(f), "", "open", "closed") }

// IsolationMetric is what an isolation rule limits.
type IsolationMetric int32

// IsolationConcurrency, requests in flight, is the only one Sentinel has.
const IsolationConcurrency IsolationMetric = 0

// String is Sentinel's name of the metric.
func (m IsolationMetric) String() string { return name(int(m), "Concurrency") }

// HotspotMetric is what a hotspot rule limits per parameter value.
type HotspotMetric int32

// The metrics, with sentinel-golang's integers.
const (
	HotspotConcurrency HotspotMetric = 0 // requests in flight
	HotspotQPS         HotspotMetric = 1 // requests per DurationInSec
)

// String is Sentinel's name of the metric.
func (m HotspotMetric) String() string { return name(int(m), "Concurrency", "QPS") }

// SystemMetric is the figure that triggers a system rule.
type SystemMetric int32

// The metrics, with sentinel-golang's integers.
const (
	SystemLoad        SystemMetric = 0 // load average over one minute
	SystemAvgRT       SystemMetric = 1 // average response time, milliseconds
	SystemConcurrency SystemMetric = 2 // requests in flight
	SystemInboundQPS  SystemMetric = 3 // requests per second
	SystemCPUUsage    SystemMetric = 4 // 0 to 1
)

// String is Sentinel's name of the metric.
func (m SystemMetric) String() string {
	return name(int(m), "load", "avgRT", "concurrency", "inboundQPS", "cpuUsage")
}

// AdaptiveStrategy says how a system rule decides once its metric is over the trigger.
type AdaptiveStrategy int32

// The strategies, with sentinel-golang's integers; there, 0 has no name and acts as NoAdaptive.
const (
	NoAdaptive AdaptiveStrategy = -1 // refuse
	BBR        AdaptiveStrategy = 1  // refuse only what exceeds the estimated capacity
)

// String is Sentinel's name of the strategy.
func (s AdaptiveStrategy) String() string { return name(int(s)+1, "none", "none", "bbr") }

// AuthorityStrategy says whether an authority rule names those who may enter or those who may not.
type AuthorityStrategy int32

// The strategies, with Java Sentinel's integers.
const (
	Allow AuthorityStrategy = 0 // nobody else
	Deny  AuthorityStrategy = 1
)

// String is the strategy's name in a configuration.
func (s AuthorityStrategy) String() string { return name(int(s), "allow", "deny") }

// EmptyOrigin says what an authority rule does with a request that has no origin.
type EmptyOrigin int32

// What it does.
const (
	PassEmpty  EmptyOrigin = 0 // it passes, as in Java Sentinel
	BlockEmpty EmptyOrigin = 1
)

// String is its name in a configuration.
func (e EmptyOrigin) String() string { return name(int(e), "pass", "block") }

// Unit is a part of the calendar that a threshold is for.
type Unit int32

// The units, with the integers of Envoy's RateLimitUnit but for the order of the last: it has WEEK behind YEAR.
const (
	NoUnit Unit = iota // an interval
	Second
	Minute
	Hour
	Day
	Week // from Monday on
	Month
	Year
)

// String is its name in a configuration.
func (u Unit) String() string {
	return name(int(u), "none", "SECOND", "MINUTE", "HOUR", "DAY", "WEEK", "MONTH", "YEAR")
}

// Ms is about how long a unit is, in milliseconds.
func (u Unit) Ms() int64 {
	const day = 24 * 3600 * 1000
	return [...]int64{0, 1000, 60_000, 3600_000, day, 7 * day, 30 * day, 365 * day}[u]
}

// Calendar is that a threshold is for a unit of the calendar. Its zero value is an interval.
type Calendar struct {
	Unit     Unit   `json:"unit,omitempty"`
	Timezone string `json:"timezone,omitempty"` // whose calendar; empty is UTC
}

// Name is what tells the calendar's budget from others, "" of an interval.
func (c *Calendar) Name() string {
	if c.Unit == NoUnit {
		return ""
	}
	return c.Unit.String() + bracketed("", c.Timezone)
}

// append appends the calendar, of an interval nothing.
func (c *Calendar) append(b []byte) []byte {
	if c.Unit == NoUnit && c.Timezone == "" {
		return b
	}
	return appendString(appendInts(appendString(b, "unit"), int64(c.Unit)), c.Timezone)
}

// Missing says what is done with an entry that has no value of a parameter.
type Missing int32

// What is done.
const (
	SkipMissing  Missing = 0 // the rule is not asked
	EmptyMissing Missing = 1 // all without a value have one together
)

// String is its name in a configuration.
func (m Missing) String() string { return name(int(m), "skip", "empty") }

// PatternKind is what values of an item have in common.
type PatternKind int32

// The kinds.
const (
	NoPattern     PatternKind = iota // it is one value
	PatternPrefix                    // how they begin
	PatternSuffix                    // how they end
	PatternRegex                     // an RE2 expression for the whole value
	PatternCIDR                      // the network that they are addresses in
)

// String is its name in a configuration.
func (k PatternKind) String() string {
	return name(int(k), "none", "prefix", "suffix", "regex", "cidr")
}

// ParamKind is the type of a hotspot parameter's value.
type ParamKind int32

// The kinds, with the integers of sentinel-golang's data source.
const (
	KindInt     ParamKind = 0
	KindString  ParamKind = 1
	KindBool    ParamKind = 2
	KindFloat64 ParamKind = 3
)

// String is Sentinel's name of the kind.
func (k ParamKind) String() string {
	return name(int(k), "KindInt", "KindString", "KindBool", "KindFloat64")
}

// ParamSource is where a hotspot rule's parameter comes from.
type ParamSource int32

// The sources. Those with a name take it from ParamKey.
const (
	NoParam       ParamSource = iota
	Header                    // the request header of that name
	Query                     // the query parameter of that name, or by ParamIndex
	Cookie                    // the cookie of that name
	PathSegment               // by ParamIndex
	Host                      // the host the client asked for, without its port
	SourceAddress             // the client's address
	SNI                       // the server name of the client's TLS handshake
	Property                  // the Envoy attribute of that name, such as "connection.subject_local_certificate"
)

// String is the source's name in a configuration.
func (s ParamSource) String() string {
	return name(int(s), "none", "Header", "Query", "Cookie", "PathSegment", "Host", "SourceAddress", "SNI", "Property")
}

func name(i int, names ...string) string {
	if i < 0 || i >= len(names) {
		return "Undefined"
	}
	return names[i]
}
