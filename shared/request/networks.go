package request

import (
	"net/netip"
	"slices"
	"sort"
	"strings"

	"sentinel-envoy/shared/rule"
)

// Networks are the items of a rule that are networks: each address in one has the item's threshold for itself.
type Networks struct {
	thresholds map[netip.Prefix]int64
	lengths    []int // of the prefixes, the longest first; v4 and v6 together
}

// NetworksOf returns the networks of a rule, nil where it has none.
func NetworksOf(r *rule.Hotspot) *Networks {
	n := &Networks{thresholds: map[netip.Prefix]int64{}}
	for _, item := range r.SpecificItems {
		if prefix, ok := ParseNetwork(item.ValStr); ok && r.Each()[0].ParamSource == rule.SourceAddress {
			n.thresholds[prefix] = item.Threshold
			n.lengths = append(n.lengths, prefix.Bits())
		}
	}
	if len(n.lengths) == 0 {
		return nil
	}
	sort.Slice(n.lengths, func(i, j int) bool { return n.lengths[i] > n.lengths[j] })
	n.lengths = slices.Compact(n.lengths)
	return n
}

// Threshold is that of the smallest network with an address, and whether there is one.
func (n *Networks) Threshold(address string) (int64, bool) {
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return 0, false
	}
	for _, bits := range n.lengths {
		prefix, err := ip.Prefix(bits)
		if err != nil {
			continue // v4 has no prefixes so long
		}
		if t, ok := n.thresholds[prefix]; ok {
			return t, true
		}
	}
	return 0, false
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
