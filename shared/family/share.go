package family

import (
	"sentinel-envoy/shared/checksum"
	"sentinel-envoy/shared/request"
	"sentinel-envoy/shared/rule"
)

// Share finds out whether a stream belongs to the share of all that a rule is tried on. It goes by a hash of the rule's id and
// the request's, or without that the client's address and port: all workers, and all Envoys, say the same.
type Share struct {
	id                string
	request           *request.Header
	client            *request.Attribute
	enabled, enforced uint64 // of whole
}

// whole is all, in the parts that a share is counted in.
const whole = 1 << 32

// NewShare returns the share of a rule, which streams belong to; nil where it is all.
func NewShare(to *rule.Target, s *request.Stream) *Share {
	if to.Trial == nil || to.EnabledPercent == nil && to.EnforcedPercent == nil {
		return nil
	}
	return &Share{
		id: to.ID, request: s.Header("x-request-id"), client: s.Attribute("source", "address"),
		enabled: partOf(to.EnabledPercent), enforced: partOf(to.EnforcedPercent),
	}
}

func partOf(percent *float64) uint64 {
	if percent == nil {
		return whole
	}
	return uint64(*percent / 100 * whole)
}

// Enabled is whether the rule is asked about the stream that is being asked about.
func (s *Share) Enabled() bool { return s.enabled == whole || s.hash()&(whole-1) < s.enabled }

// Enforced is whether the rule may refuse it.
func (s *Share) Enforced() bool { return s.enforced == whole || s.hash()>>32 < s.enforced }

// hash is FNV-1a, with its bits mixed: requests are numbered one after the other.
func (s *Share) hash() uint64 {
	of, there := s.request.Value()
	if !there || of == "" {
		of, _ = s.client.Value()
	}
	h := checksum.Hash(checksum.Hash(checksum.Hash(checksum.Seed, s.id), "\x00"), of)
	h = (h ^ h>>33) * 0xff51afd7ed558ccd
	h = (h ^ h>>33) * 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}
