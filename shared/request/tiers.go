package request

import (
	"net/netip"
	"slices"
	"sort"
	"strings"

	"sentinel-envoy/shared/pattern"
	"sentinel-envoy/shared/rule"
)

// Tier is an item of a rule that many values have. Each has its threshold for itself, or all have it together where Shared.
type Tier struct {
	Threshold int64
	Shared    bool
	// Kind and Text are what the values have in common, by which workers know the tier.
	Kind rule.PatternKind
	Text string

	expression *pattern.Expression
}

// Tiers are the items of a rule that look at what values have in common, and of a rule about several parameters all items:
// they are about the value of the first.
type Tiers struct {
	values   map[string]*Tier
	networks map[netip.Prefix]*Tier
	lengths  []int // of the networks' prefixes, the longest first; v4 and v6 together
	patterns []*Tier
}

// TiersOf returns the tiers of a rule, nil where its items are about single values only.
func TiersOf(r *rule.Hotspot) *Tiers {
	t := &Tiers{values: map[string]*Tier{}, networks: map[netip.Prefix]*Tier{}}
	source := r.Each()[0].ParamSource
	for _, item := range r.SpecificItems {
		tier := &Tier{Threshold: item.Threshold, Shared: item.Shared, Kind: item.Pattern, Text: item.ValStr}
		prefix, isNetwork := ParseNetwork(item.ValStr)
		switch {
		case isNetwork && (item.Pattern == rule.PatternCIDR || item.Pattern == rule.NoPattern && source == rule.SourceAddress):
			t.networks[prefix] = tier
			t.lengths = append(t.lengths, prefix.Bits())
		case item.Pattern == rule.NoPattern:
			t.values[item.ValStr] = tier
		case item.Pattern == rule.PatternRegex:
			tier.expression, _ = pattern.Compile(item.ValStr) // the configuration has been checked
			t.patterns = append(t.patterns, tier)
		default:
			t.patterns = append(t.patterns, tier)
		}
	}
	if len(t.networks)+len(t.patterns) == 0 && (len(r.Params) == 0 || len(t.values) == 0) {
		return nil
	}
	sort.Slice(t.lengths, func(i, j int) bool { return t.lengths[i] > t.lengths[j] })
	t.lengths = slices.Compact(t.lengths)
	return t
}

// Find is the tier of a value, nil where it has none: the item that is the value itself, the smallest network with it, or
// the first pattern that it meets.
func (t *Tiers) Find(value string) *Tier {
	if tier := t.values[value]; tier != nil {
		return tier
	}
	if len(t.networks) > 0 {
		if tier := t.network(value); tier != nil {
			return tier
		}
	}
	for _, tier := range t.patterns {
		if tier.matches(value) {
			return tier
		}
	}
	return nil
}

func (t *Tiers) network(address string) *Tier {
	ip, ok := parseAddress(address)
	if !ok {
		return nil
	}
	for _, bits := range t.lengths {
		prefix, err := ip.Prefix(bits)
		if err != nil {
			continue // v4 has no prefixes so long
		}
		if tier := t.networks[prefix]; tier != nil {
			return tier
		}
	}
	return nil
}

// matches is whether a value has what the tier's have in common. One that is too long for an expression has not: it would be
// a way into a tier that has more.
func (t *Tier) matches(value string) bool {
	switch t.Kind {
	case rule.PatternPrefix:
		return strings.HasPrefix(value, t.Text)
	case rule.PatternSuffix:
		return strings.HasSuffix(value, t.Text)
	case rule.PatternRegex:
		return t.expression != nil && len(value) <= pattern.MaxText && t.expression.Matches(value)
	}
	return false
}

// ParseNetwork reads a network, "10.0.0.0/8", and reports whether it is one. v4 in v6 is v4, as the addresses are that it is
// compared with.
func ParseNetwork(text string) (netip.Prefix, bool) {
	if !strings.Contains(text, "/") {
		return netip.Prefix{}, false
	}
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		return netip.Prefix{}, false
	}
	if ip := prefix.Addr(); ip.Is4In6() {
		prefix = netip.PrefixFrom(ip.Unmap(), prefix.Bits()-96) // shorter than 96 bits is no v4: invalid
	}
	return prefix.Masked(), prefix.IsValid()
}
