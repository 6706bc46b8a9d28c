package config

import (
	"strings"

	"github.com/buger/jsonparser"

	"sentinel-envoy/shared/request"
	"sentinel-envoy/shared/rule"
)

// maxCost bounds how many permits an entry takes.
const maxCost = 1_000_000_000

// contentLength stands among the sources of a cost for the header of that name.
const contentLength = rule.ParamSource(100)

// batchCount is the key that says how many permits an entry takes of a rule.
func (r *rules) batchCount(dst **rule.Cost) field {
	return field{"batchCount", func(at *place, v value) { *dst = r.cost(at, v) }}
}

// cost reads a number, or where in a request one stands. One permit is none.
func (r *rules) cost(at *place, v value) *rule.Cost {
	c := &rule.Cost{Default: 1}
	if v.typ != jsonparser.Object {
		integer(r.parser, &c.Default, 1, maxCost)(at, v)
		if c.Max = c.Default; c.Default == 1 {
			return nil
		}
		return c
	}
	fields := []field{
		{"from", func(at *place, v value) {
			c.ParamSource = rule.ParamSource(r.choose(at, v, []choice{
				{int32(rule.Header), "Header"}, {int32(rule.Query), "Query"}, {int32(rule.Property), "Property"}, {int32(contentLength), "ContentLength"},
			}))
		}},
		{"name", r.label(&c.ParamKey, maxResource)},
		{"default", integer(r.parser, &c.Default, 0, maxCost)},
		{"max", integer(r.parser, &c.Max, 1, maxCost)},
	}
	before := r.count()
	seen := r.object(at, v, fields)
	if r.count() == before {
		r.checkCost(at, c, has(seen, fields, "max"))
	}
	return c
}

// checkCost finds what does not go together. hasMax is whether it says what an entry costs at most.
func (r *rules) checkCost(at *place, c *rule.Cost, hasMax bool) {
	switch {
	case c.ParamSource == rule.NoParam:
		r.add(at.at("from"), "missing; say where the number stands: Header, Query, Property or ContentLength, or write a number for batchCount")
	case c.ParamSource == contentLength && c.ParamKey != "":
		r.add(at.at("name"), "must be left out with ContentLength")
	case c.ParamSource != contentLength && c.ParamKey == "":
		r.add(at.at("name"), "missing: which ", c.ParamSource.String(), "?")
	case r.kind == KindTCP && c.ParamSource != rule.Property:
		r.add(at.at("from"), "must be Property: a connection has nothing else that says a number")
	case c.ParamSource == rule.Header && !isToken(strings.TrimPrefix(c.ParamKey, ":")):
		r.add(at.at("name"), "must be a header's name, got ", quote(c.ParamKey))
	case c.ParamSource == rule.Property:
		path := request.AttributeOf(&c.Param)
		if err := request.CheckAttribute(path, r.kind == KindTCP); err != nil {
			r.add(at.at("name"), quote(c.ParamKey), ": ", err.Error())
		} else if request.AfterUpstream(path) {
			r.warn(at.at("name"), quote(c.ParamKey), " is known only in a filter of an upstream")
		}
	}
	if c.ParamSource == contentLength {
		c.ParamSource, c.ParamKey = rule.Header, "content-length"
	}
	if !hasMax {
		r.add(at.at("max"), "missing: what does an entry cost at most, whatever it says?")
	} else if c.Default > c.Max {
		r.add(at.at("default"), "must be ≤ max")
	}
}

// checkFlowCost finds rules of which entries cannot take several permits, or no entry as many as it takes.
func (r *rules) checkFlowCost(s *saying, f *rule.Flow) {
	at := s.at.at("batchCount")
	switch {
	case f.Cost == nil:
	case f.Cluster != nil:
		r.add(at, "does not go with clusterMode: reservations at the service are for entries; leave it out")
	case f.RelationStrategy == rule.AssociatedResource:
		r.add(at, "does not go with relationStrategy AssociatedResource, which takes nothing of its own resource; leave it out")
	case f.Burst > 0:
		r.checkRoom(s, &f.Target, f.Cost, float64(f.Burst))
	case f.TokenCalculateStrategy == rule.MemoryAdaptive:
		r.checkRoom(s, &f.Target, f.Cost, float64(f.LowMemUsageThreshold))
	case f.TokenCalculateStrategy == rule.WarmUp && float64(f.Cost.Default) > max(f.Threshold/float64(f.WarmUpColdFactor), 1):
		r.warn(at, label(&f.Target), " may never warm up, and then refuses everything: an entry takes more than the threshold of a cold ",
			"rule, which is threshold / warmUpColdFactor; write less, or a larger threshold")
	default:
		r.checkRoom(s, &f.Target, f.Cost, f.Threshold)
	}
}

// checkHotspotCost is checkFlowCost for a hotspot rule.
func (r *rules) checkHotspotCost(s *saying, h *rule.Hotspot) {
	at := s.at.at("batchCount")
	switch {
	case h.Cost == nil:
	case h.Cluster != nil:
		r.add(at, "does not go with clusterMode: reservations at the service are for entries; leave it out")
	case h.MetricType != rule.HotspotQPS:
		r.add(s.at.at("metricType"), "must be QPS with batchCount: in flight an entry is one")
	case h.ControlBehavior == rule.Throttling:
		r.checkRoom(s, &h.Target, h.Cost, float64(h.Threshold))
	default:
		r.checkRoom(s, &h.Target, h.Cost, float64(h.Threshold+h.BurstCount))
	}
}

// checkRoom warns of a rule that has no room for an entry that says nothing, or for the dearest.
func (r *rules) checkRoom(s *saying, of *rule.Target, c *rule.Cost, room float64) {
	at := s.at.at("batchCount")
	switch {
	case room < 1: // has room for nothing
	case float64(c.Default) > room && c.ParamSource == rule.NoParam:
		r.warn(at, label(of), " refuses everything: an entry takes more than the threshold; write less, or a larger threshold")
	case float64(c.Default) > room:
		r.warn(at.at("default"), label(of), " refuses what says no number: it takes more than the threshold; write less")
	case float64(c.Max) > room:
		r.warn(at.at("max"), label(of), " refuses at once what takes more than the threshold, however long nobody came; "+
			"write the threshold for max if such an entry may enter when all is free")
	}
}
