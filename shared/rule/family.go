package rule

// Family is a kind of rules.
type Family struct {
	Name  string // what a refusal names, and what the id begins with of a rule that was given none
	Key   string // of the list of such rules in a configuration
	Order int    // Sentinel's: rules of a lower one are asked first
}

// The families.
var (
	AuthorityFamily = &Family{Name: "authority", Key: "authorityRules", Order: 0}
	SystemFamily    = &Family{Name: "system", Key: "systemRules", Order: 1}
	FlowFamily      = &Family{Name: "flow", Key: "flowRules", Order: 2}
	IsolationFamily = &Family{Name: "isolation", Key: "isolationRules", Order: 3}
	HotspotFamily   = &Family{Name: "hotspot", Key: "hotspotRules", Order: 4}
	BreakerFamily   = &Family{Name: "circuitBreaker", Key: "circuitBreakerRules", Order: 5}
)

// Families are all of them, in their order.
var Families = []*Family{AuthorityFamily, SystemFamily, FlowFamily, IsolationFamily, HotspotFamily, BreakerFamily}

// Rule is what the families have in common.
type Rule interface {
	Family() *Family
	// For is whose rule it is.
	For() *Target
	// Canonical appends every field but the ID in one fixed form: rules that mean the same have the same bytes.
	Canonical(b []byte) []byte
	// naming are the parts, beside family and resource, that tell the rule's budget from others of the resource: what it
	// measures and over how long, and not how much of it the rule lets in.
	naming() []string
}

// Referrer is a rule that measures another resource than its own.
type Referrer interface {
	// Refers is the other resource, empty where there is none.
	Refers() string
}

// Refers is the resource that is measured instead of the rule's own.
func (r *Flow) Refers() string {
	if r.RelationStrategy != AssociatedResource {
		return ""
	}
	return r.RefResource
}

// Family of a flow rule.
func (*Flow) Family() *Family { return FlowFamily }

// Family of a circuit breaker.
func (*CircuitBreaker) Family() *Family { return BreakerFamily }

// Family of an isolation rule.
func (*Isolation) Family() *Family { return IsolationFamily }

// Family of a hotspot rule.
func (*Hotspot) Family() *Family { return HotspotFamily }

// Family of an authority rule.
func (*Authority) Family() *Family { return AuthorityFamily }

// Family of a system rule.
func (*System) Family() *Family { return SystemFamily }

// Of are the rules of one type, such as Flow, in their order.
func Of[T any](rules []Rule) (some []*T) {
	for _, r := range rules {
		if one, ok := r.(any).(*T); ok {
			some = append(some, one)
		}
	}
	return some
}
