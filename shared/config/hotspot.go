package config

import (
	"net/netip"
	"strconv"
	"strings"

	"sentinel-envoy/shared/request"
	"sentinel-envoy/shared/rule"
)

// maxHops bounds trustedHops.
const maxHops = 64

// paramFields are the keys that say which parameter a hotspot rule is about.
func (r *rules) paramFields(h *rule.Hotspot) []field {
	return []field{
		{"paramIndex", integer(r.parser, &h.ParamIndex, -1000, 1000)},
		{"paramKey", r.text(&h.ParamKey, maxResource)},
		{"paramPath", func(at *place, v value) { r.paramPath(at, v, h) }},
		{"paramSource", enum(r.parser, &h.ParamSource, rule.Header, rule.Query, rule.Cookie, rule.PathSegment, rule.Host,
			rule.SourceAddress, rule.SNI, rule.Property)},
		{"trustedHops", integer(r.parser, &h.TrustedHops, 0, maxHops)},
	}
}

// maxParts bounds an attribute's path.
const maxParts = 16

// paramPath reads an attribute's path as a list of its parts.
func (r *rules) paramPath(at *place, v value, h *rule.Hotspot) {
	r.list(at, v, func(at *place, v value) bool {
		if len(h.ParamPath) == maxParts {
			r.add(at, "more than ", strconv.Itoa(maxParts), " parts")
			return false
		}
		var part string
		r.label(&part, maxResource)(at, v)
		h.ParamPath = append(h.ParamPath, part)
		return true
	})
}

// checkProperty finds attributes that Envoy does not have, or not yet.
func (r *rules) checkProperty(at *place, h *rule.Hotspot) {
	key := at.at("paramKey")
	switch {
	case len(h.ParamPath) > 0 && h.ParamKey != "":
		r.add(at.at("paramPath"), "must be left out when paramKey is given")
		return
	case len(h.ParamPath) > 0:
		key = at.at("paramPath")
	case h.ParamKey == "":
		r.add(key, "missing: which Property?")
		return
	}
	path := request.AttributeOf(h)
	if err := request.CheckAttribute(path, r.kind == KindTCP); err != nil {
		r.add(key, quote(strings.Join(path, ".")), ": ", err.Error())
		return
	}
	if request.AfterUpstream(path) {
		r.warn(key, label(&h.Target), ": ", quote(strings.Join(path, ".")), " is known only in a filter of an upstream")
	}
}

// checkParam finds what does not go together. hasIndex is whether paramIndex was given.
func (r *rules) checkParam(at *place, h *rule.Hotspot, hasIndex bool) {
	source := h.ParamSource
	named := source == rule.Header || source == rule.Cookie
	placed := source == rule.PathSegment || source == rule.Query
	switch {
	case source == undefined:
		return
	case source == rule.NoParam:
		r.add(at.at("paramSource"), "missing; say where the parameter comes from: Header, Query, Cookie, PathSegment, Host, "+
			"SourceAddress, SNI or Property")
		return
	case named && h.ParamKey == "":
		r.add(at.at("paramKey"), "missing: which ", source.String(), "?")
	case source == rule.Property:
		r.checkProperty(at, h)
	case source == rule.Query && h.ParamKey == "" && !hasIndex:
		r.add(at.at("paramKey"), "missing: which query parameter? paramIndex would say it by its place")
	case !named && source != rule.Query && h.ParamKey != "":
		r.add(at.at("paramKey"), "must be empty with ", source.String())
	}
	if h.ParamIndex != 0 && !placed {
		r.add(at.at("paramIndex"), "must be left out with ", source.String())
	}
	if source == rule.Header && h.ParamKey != "" && !isToken(strings.TrimPrefix(h.ParamKey, ":")) {
		r.add(at.at("paramKey"), "must be a header's name, got ", quote(h.ParamKey))
	}
	if len(h.ParamPath) > 0 && source != rule.Property {
		r.add(at.at("paramPath"), "must be left out with ", source.String())
	}
	if h.TrustedHops != 0 && source != rule.SourceAddress {
		r.add(at.at("trustedHops"), "must be left out with ", source.String())
	}
	if r.kind != KindTCP {
		return
	}
	if source != rule.SourceAddress && source != rule.SNI && source != rule.Property {
		r.add(at.at("paramSource"), "must be SourceAddress, SNI or Property: a connection has no ", source.String())
	}
	if h.TrustedHops != 0 {
		r.add(at.at("trustedHops"), "is for the HTTP filter only: a connection has no x-forwarded-for")
	}
}

// hotspotDraft is a hotspot rule as it is read.
type hotspotDraft struct {
	rule.Hotspot
	behavior value // controlBehavior, whose numbers Java Sentinel has for other things
	java     javaParam
}

// hotspotWords are the keys of a hotspot rule. Where the parameter comes from Java Sentinel's rules may say as well.
func (r *rules) hotspotWords(d *hotspotDraft) words {
	h := &d.Hotspot
	return words{
		both: append(r.targetFields(&h.Target,
			r.limitApp(&h.LimitApp),
			r.candidates(&h.Target),
			field{"controlBehavior", func(_ *place, v value) { d.behavior = v }},
			field{"maxQueueingTimeMs", integer(r.parser, &h.MaxQueueingTimeMs, 0, maxUint32)},
			field{"burstCount", integer(r.parser, &h.BurstCount, 0, maxExact)},
			field{"durationInSec", integer(r.parser, &h.DurationInSec, 0, maxSeconds)},
			field{"paramsMaxCapacity", integer(r.parser, &h.ParamsMaxCapacity, 0, MaxValues)},
			field{"clusterMode", r.clusterMode(&h.Cluster)},
			field{"clusterConfig", r.clusterConfig(&h.Cluster)},
		), r.paramFields(h)...),
		own: []field{
			{"metricType", enum(r.parser, &h.MetricType, rule.HotspotConcurrency, rule.HotspotQPS)},
			{"threshold", integer(r.parser, &h.Threshold, 0, maxExact)},
			{"specificItems", func(at *place, v value) { r.items(at, v, h) }},
		},
		java: r.javaParamFields(d),
	}
}

// hotspot completes a hotspot rule, and finds what is wrong with it.
func (r *rules) hotspot(s *saying, d *hotspotDraft) {
	h := d.Hotspot // a copy: the draft is the next rule's, too
	if s.java {
		r.fromJavaParam(s, d, &h)
	} else {
		r.require(s, "resource", "threshold")
		if s.has("controlBehavior") {
			enum(r.parser, &h.ControlBehavior, rule.Reject, rule.Throttling)(s.at.at("controlBehavior"), d.behavior)
		}
	}
	r.ignoreLimitApp(s, &h.Target)
	if h.MetricType == rule.HotspotQPS && h.DurationInSec == 0 {
		r.add(s.at.at("durationInSec"), "must be > 0 with QPS")
	}
	if h.ParamIndex != 0 && h.ParamKey != "" {
		r.add(s.at.at("paramKey"), "must be empty when paramIndex is given")
	}
	if !s.java || s.has("paramIdx") { // without, it is not known whether an argument says it
		r.checkParam(s.at, &h, s.has("paramIndex") || s.java)
	}
	r.checkItems(s.key("specificItems", "paramFlowItemList"), s.item(), &h)
	r.checkClusterHotspot(s, &h)
	r.checkResource(s.at, &h.Target)
	r.include(s, &h)
}

// checkClusterHotspot finds what a service that counts cannot do for values.
func (r *rules) checkClusterHotspot(s *saying, h *rule.Hotspot) {
	r.cluster(s.at, &h.Target, &h.Cluster, uint32(min(h.DurationInSec*1000, maxInterval)))
	if h.Cluster == nil {
		return
	}
	if h.MetricType != rule.HotspotQPS || h.ControlBehavior != rule.Reject || h.BurstCount != 0 {
		r.add(s.at.at("clusterMode"), "goes with QPS, controlBehavior Reject and burstCount 0: the service only counts")
	}
	for i, item := range h.SpecificItems {
		_, network := request.ParseNetwork(item.ValStr)
		if network && h.ParamSource == rule.SourceAddress {
			r.add(s.key("specificItems", "paramFlowItemList").item(i).at(s.item()), "must be an address with clusterMode: the service knows no networks")
		}
	}
}

// item is the key of the value in an element of a hotspot rule's items.
func (s *saying) item() string {
	if s.java {
		return "object"
	}
	return "valStr"
}

// items reads the values that have a threshold of their own.
func (r *rules) items(at *place, v value, h *rule.Hotspot) {
	r.itemList(at, v, h, func(item *itemDraft) []field {
		return []field{
			{"valStr", r.text(&item.ValStr, maxResource)},
			{"threshold", integer(r.parser, &item.Threshold, 0, maxExact)},
			{"unlimited", r.boolean(&item.unlimited)},
			{"valKind", enum(r.parser, &item.ValKind, rule.KindInt, rule.KindString, rule.KindBool, rule.KindFloat64)},
		}
	})
}

// itemDraft is an item as it is read.
type itemDraft struct {
	rule.SpecificItem
	unlimited bool
}

// itemList reads a list of items.
func (r *rules) itemList(at *place, v value, h *rule.Hotspot, keys func(*itemDraft) []field) {
	r.list(at, v, func(at *place, v value) bool { return r.readItem(at, v, h, keys) })
}

// readItem reads an item. The first two of its keys are its value and its threshold.
func (r *rules) readItem(at *place, v value, h *rule.Hotspot, keys func(*itemDraft) []field) bool {
	if len(h.SpecificItems) == maxItems {
		r.add(at, "more than ", strconv.Itoa(maxItems), " specific items")
		return false
	}
	before := r.count()
	var item itemDraft
	fields := keys(&item)
	s := &saying{at: at, fields: fields, seen: r.object(at, v, fields)}
	r.require(s, fields[0].key)
	switch threshold := fields[1].key; {
	case !item.unlimited:
		r.require(s, threshold)
	case s.has(threshold):
		r.add(at.at(threshold), "must be left out of an item that is unlimited")
	default:
		item.Threshold = rule.Unlimited
	}
	if r.count() == before && !isKind(item.ValStr, item.ValKind) { // upstream would silently leave it out
		r.add(at.at(fields[0].key), "must be a ", item.ValKind.String(), ", got ", quote(item.ValStr))
	}
	h.SpecificItems = append(h.SpecificItems, item.SpecificItem)
	return true
}

// checkItems, whose values have that key, brings the items into the form that values are compared in, and finds those that are one.
func (r *rules) checkItems(at *place, key string, h *rule.Hotspot) {
	param, seen := request.ParamOf(h), map[string]bool{}
	for i := range h.SpecificItems {
		item, at := &h.SpecificItems[i], at.item(i).at(key)
		prefix, isNetwork := request.ParseNetwork(item.ValStr)
		switch {
		case item.ValStr == "": // has been said, or is the empty value
		case h.ParamSource != rule.SourceAddress:
			if isNetwork {
				r.warn(at, label(&h.Target), " compares ", quote(item.ValStr), " as text: networks are for the paramSource ",
					rule.SourceAddress.String())
			}
			item.ValStr = param.Canonical(item.ValStr)
		case isNetwork:
			item.ValStr = prefix.String()
		case !isAddress(item.ValStr):
			r.add(at, "must be an address, or a network such as 10.0.0.0/8, got ", quote(item.ValStr))
			continue
		default:
			item.ValStr = param.Canonical(item.ValStr)
		}
		if seen[item.ValStr] {
			r.add(at, quote(item.ValStr), " is given twice")
		}
		seen[item.ValStr] = true
	}
}

func isAddress(s string) bool {
	_, err := netip.ParseAddr(s)
	return err == nil
}

// isKind says whether sentinel-golang's data source could read s as a value of the kind.
func isKind(s string, kind rule.ParamKind) bool {
	var err error
	switch kind {
	case rule.KindInt:
		_, err = strconv.ParseInt(s, 10, 64)
	case rule.KindBool:
		_, err = strconv.ParseBool(s)
	case rule.KindFloat64:
		_, err = strconv.ParseFloat(s, 64)
	}
	return err == nil
}
