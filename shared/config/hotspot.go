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

// paramFields are the keys that say what a parameter is.
func (r *rules) paramFields(p *rule.Param) []field {
	return []field{
		{"paramIndex", integer(r.parser, &p.ParamIndex, -1000, 1000)},
		{"paramKey", r.text(&p.ParamKey, maxResource)},
		{"paramPath", func(at *place, v value) { r.paramPath(at, v, p) }},
		{"paramSource", enum(r.parser, &p.ParamSource, rule.Header, rule.Query, rule.Cookie, rule.PathSegment, rule.Host,
			rule.SourceAddress, rule.SNI, rule.Property)},
		{"trustedHops", integer(r.parser, &p.TrustedHops, 0, maxHops)},
		{"v4PrefixLen", integer(r.parser, &p.V4PrefixLen, 0, 32)},
		{"v6PrefixLen", integer(r.parser, &p.V6PrefixLen, 0, 128)},
		{"lowercase", r.boolean(&p.Lowercase)},
		{"missing", enum(r.parser, &p.Missing, rule.SkipMissing, rule.EmptyMissing)},
	}
}

// maxParams bounds the parameters that have a value together.
const maxParams = 8

// params reads several parameters.
func (r *rules) params(at *place, v value, h *rule.Hotspot) {
	h.Params = nil // not the rule's before
	r.list(at, v, func(at *place, v value) bool {
		if len(h.Params) == maxParams {
			r.add(at, "more than ", strconv.Itoa(maxParams), " parameters")
			return false
		}
		var p rule.Param
		fields := r.paramFields(&p)
		before := r.count()
		seen := r.object(at, v, fields)
		if r.count() == before {
			r.checkParam(at, &p, has(seen, fields, "paramIndex"), &h.Target)
		}
		h.Params = append(h.Params, p)
		return true
	})
	if len(h.Params) == 0 {
		r.add(at, "must not be empty")
	}
}

// checkParams looks at the parameter of a rule, or at what is said beside several.
func (r *rules) checkParams(s *saying, h *rule.Hotspot) {
	if !s.has("params") {
		r.checkParam(s.at, &h.Param, s.has("paramIndex") || s.java, &h.Target)
		return
	}
	for _, f := range r.paramFields(&rule.Param{}) {
		if s.has(f.key) {
			r.add(s.at.at(f.key), "must be left out with params, whose parts say it")
		}
	}
	if len(h.Params) == 1 { // is the same as the one
		h.Param, h.Params = h.Params[0], nil
	}
}

// maxParts bounds an attribute's path.
const maxParts = 16

// paramPath reads an attribute's path as a list of its parts.
func (r *rules) paramPath(at *place, v value, p *rule.Param) {
	r.list(at, v, func(at *place, v value) bool {
		if len(p.ParamPath) == maxParts {
			r.add(at, "more than ", strconv.Itoa(maxParts), " parts")
			return false
		}
		var part string
		r.label(&part, maxResource)(at, v)
		p.ParamPath = append(p.ParamPath, part)
		return true
	})
}

// checkProperty finds attributes that Envoy does not have, or not yet.
func (r *rules) checkProperty(at *place, p *rule.Param, of *rule.Target) {
	key := at.at("paramKey")
	switch {
	case len(p.ParamPath) > 0 && p.ParamKey != "":
		r.add(at.at("paramPath"), "must be left out when paramKey is given")
		return
	case len(p.ParamPath) > 0:
		key = at.at("paramPath")
	case p.ParamKey == "":
		r.add(key, "missing: which Property?")
		return
	}
	path := request.AttributeOf(p)
	if err := request.CheckAttribute(path, r.kind == KindTCP); err != nil {
		r.add(key, quote(strings.Join(path, ".")), ": ", err.Error())
		return
	}
	if request.AfterUpstream(path) {
		r.warn(key, label(of), ": ", quote(strings.Join(path, ".")), " is known only in a filter of an upstream")
	}
}

// checkParam finds what does not go together in a parameter of a rule. hasIndex is whether paramIndex was given.
func (r *rules) checkParam(at *place, p *rule.Param, hasIndex bool, of *rule.Target) {
	source := p.ParamSource
	named := source == rule.Header || source == rule.Cookie
	placed := source == rule.PathSegment || source == rule.Query
	switch {
	case source == undefined:
		return
	case source == rule.NoParam:
		r.add(at.at("paramSource"), "missing; say where the parameter comes from: Header, Query, Cookie, PathSegment, Host, "+
			"SourceAddress, SNI or Property")
		return
	case named && p.ParamKey == "":
		r.add(at.at("paramKey"), "missing: which ", source.String(), "?")
	case source == rule.Property:
		r.checkProperty(at, p, of)
	case source == rule.Query && p.ParamKey == "" && !hasIndex:
		r.add(at.at("paramKey"), "missing: which query parameter? paramIndex would say it by its place")
	case !named && source != rule.Query && p.ParamKey != "":
		r.add(at.at("paramKey"), "must be empty with ", source.String())
	case p.ParamIndex != 0 && p.ParamKey != "":
		r.add(at.at("paramKey"), "must be empty when paramIndex is given")
	}
	if p.ParamIndex != 0 && !placed {
		r.add(at.at("paramIndex"), "must be left out with ", source.String())
	}
	if source == rule.Header && p.ParamKey != "" && !isToken(strings.TrimPrefix(p.ParamKey, ":")) {
		r.add(at.at("paramKey"), "must be a header's name, got ", quote(p.ParamKey))
	}
	if len(p.ParamPath) > 0 && source != rule.Property {
		r.add(at.at("paramPath"), "must be left out with ", source.String())
	}
	r.checkAddress(at, p)
	if r.kind == KindTCP {
		r.checkParamOfTCP(at, p)
	}
}

// checkAddress finds what is about addresses, and given of something else. What is the default is made none.
func (r *rules) checkAddress(at *place, p *rule.Param) {
	source := p.ParamSource
	if source != rule.SourceAddress {
		for _, of := range []struct {
			key   string
			given bool
		}{{"trustedHops", p.TrustedHops != 0}, {"v4PrefixLen", p.V4PrefixLen != 0}, {"v6PrefixLen", p.V6PrefixLen != 0}} {
			if of.given {
				r.add(at.at(of.key), "must be left out with ", source.String())
			}
		}
	}
	if p.V4PrefixLen == 32 {
		p.V4PrefixLen = 0
	}
	if p.V6PrefixLen == 128 {
		p.V6PrefixLen = 0
	}
	if p.Lowercase && (source == rule.SourceAddress || source == rule.Host || source == rule.SNI) {
		r.add(at.at("lowercase"), "must be left out with ", source.String(), ", in which case means nothing")
	}
}

// checkParamOfTCP finds what a connection has not.
func (r *rules) checkParamOfTCP(at *place, p *rule.Param) {
	source := p.ParamSource
	if source != rule.SourceAddress && source != rule.SNI && source != rule.Property {
		r.add(at.at("paramSource"), "must be SourceAddress, SNI or Property: a connection has no ", source.String())
	}
	if p.TrustedHops != 0 {
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
			field{"params", func(at *place, v value) { r.params(at, v, h) }},
			field{"clusterMode", r.clusterMode(&h.Cluster)},
			field{"clusterConfig", r.clusterConfig(&h.Cluster)},
			field{"banAfter", integer(r.parser, &h.BanAfter, 0, maxBanAfter)},
			field{"banMs", integer(r.parser, &h.BanMs, 0, maxBanMs)},
			r.countOnly(&h.CountOnly),
			r.batchCount(&h.Cost),
		), append(r.calendarFields(&h.Calendar), r.paramFields(&h.Param)...)...),
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
	if h.MetricType == rule.HotspotQPS && h.DurationInSec == 0 && h.Unit == rule.NoUnit {
		r.add(s.at.at("durationInSec"), "must be > 0 with QPS")
	}
	if !s.java || s.has("paramIdx") { // without, it is not known whether an argument says it
		r.checkParams(s, &h)
	}
	r.checkItems(s.key("specificItems", "paramFlowItemList"), s.item(), &h)
	r.checkClusterHotspot(s, &h)
	r.checkBan(s, &h)
	r.checkQueueing(s, &h.Target, h.ControlBehavior, h.MaxQueueingTimeMs)
	r.checkCountsHotspot(s, &h)
	r.checkHotspotCost(s, &h)
	r.checkResource(s.at, &h.Target)
	r.include(s, &h)
}

// checkClusterHotspot finds what a service that counts cannot do for values.
func (r *rules) checkClusterHotspot(s *saying, h *rule.Hotspot) {
	r.cluster(s.at, &h.Target, &h.Cluster, uint32(min(h.DurationInSec*1000, maxUint32)))
	if h.Cluster == nil {
		return
	}
	if h.MetricType != rule.HotspotQPS || h.ControlBehavior != rule.Reject || h.BurstCount != 0 {
		r.add(s.at.at("clusterMode"), "goes with QPS, controlBehavior Reject and burstCount 0: the service only counts")
	}
	source := h.Each()[0].ParamSource
	for i, item := range h.SpecificItems {
		at := s.key("specificItems", "paramFlowItemList").item(i)
		_, network := request.ParseNetwork(item.ValStr)
		switch {
		case item.Pattern != rule.NoPattern:
			r.add(at.at("valPattern"), "must be a value with clusterMode: the service knows no patterns")
		case network && source == rule.SourceAddress:
			r.add(at.at(s.item()), "must be an address with clusterMode: the service knows no networks")
		case len(h.Params) > 0:
			r.add(at, "does not go with clusterMode and several params: the service tells whole values apart")
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
			{"valPattern", func(at *place, v value) { r.valPattern(at, v, item) }},
			{"shared", r.boolean(&item.Shared)},
			{"valKind", enum(r.parser, &item.ValKind, rule.KindInt, rule.KindString, rule.KindBool, rule.KindFloat64)},
		}
	})
}

// itemDraft is an item as it is read.
type itemDraft struct {
	rule.SpecificItem
	unlimited bool
	pattern   string
}

// valPattern reads what the values of an item have in common.
func (r *rules) valPattern(at *place, v value, item *itemDraft) {
	n, before := 0, r.count()
	kind := func(kind rule.PatternKind, limit int) field {
		return field{kind.String(), func(at *place, v value) {
			n++
			item.Pattern = kind
			r.text(&item.pattern, limit)(at, v)
			_, isNetwork := parsePrefix(item.pattern)
			switch {
			case r.count() > before:
			case item.pattern == "":
				r.add(at, "must not be empty")
			case kind == rule.PatternRegex:
				r.expression(at, item.pattern)
			case kind == rule.PatternCIDR && !isNetwork:
				r.add(at, "must be a network such as 10.0.0.0/8, got ", quote(item.pattern))
			}
		}}
	}
	r.object(at, v, []field{kind(rule.PatternPrefix, maxResource), kind(rule.PatternSuffix, maxResource),
		kind(rule.PatternRegex, maxExpression), kind(rule.PatternCIDR, maxResource)})
	if n != 1 && r.count() == before {
		r.add(at, "needs exactly one of prefix, suffix, regex, cidr")
	}
}

// checkPattern looks at the value of an item, which has that key, or what many have in common.
func (r *rules) checkPattern(s *saying, key string, item *itemDraft) {
	if !s.has("valPattern") {
		r.require(s, key)
		return
	}
	if s.has(key) {
		r.add(s.at.at(key), "must be left out with valPattern")
	}
	if item.Pattern == rule.NoPattern { // has been said
		item.Pattern = undefined
	}
	item.ValStr, item.ValKind = item.pattern, rule.KindString
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
	r.checkPattern(s, fields[0].key, &item)
	switch threshold := fields[1].key; {
	case !item.unlimited:
		r.require(s, threshold)
	case s.has(threshold):
		r.add(at.at(threshold), "must be left out of an item that is unlimited")
	default:
		item.Threshold = rule.Unlimited
	}
	if r.count() == before && item.Pattern == rule.NoPattern && !isKind(item.ValStr, item.ValKind) { // upstream would silently leave it out
		r.add(at.at(fields[0].key), "must be a ", item.ValKind.String(), ", got ", quote(item.ValStr))
	}
	h.SpecificItems = append(h.SpecificItems, item.SpecificItem)
	return true
}

// maxExpressions bounds the items of a rule with expressions: each is held against a value that has no other item.
const maxExpressions = 8

// checkItems, whose values have that key, brings the items into the form that values are compared in, and finds those that
// are one.
func (r *rules) checkItems(at *place, key string, h *rule.Hotspot) {
	param, seen, expressions := request.ParamsOf(h)[0], map[string]bool{}, 0
	for i := range h.SpecificItems {
		item, at := &h.SpecificItems[i], at.item(i)
		if item.Pattern == undefined {
			continue
		}
		if item.Pattern == rule.PatternRegex {
			if expressions++; expressions > maxExpressions {
				r.add(at.at("valPattern"), "more than ", strconv.Itoa(maxExpressions), " items with regex")
			}
		}
		place := at.at(key)
		if item.Pattern != rule.NoPattern {
			place = at.at("valPattern")
		}
		if !r.checkItem(place, item, &param, h) {
			continue
		}
		if _, isNetwork := request.ParseNetwork(item.ValStr); item.Shared && item.Pattern == rule.NoPattern &&
			!(isNetwork && param.Source == rule.SourceAddress) {
			r.add(at.at("valPattern"), "missing: one value shares with nobody")
		}
		if same := item.Pattern.String() + item.ValStr; seen[same] {
			r.add(place, quote(item.ValStr), " is given twice")
		} else {
			seen[same] = true
		}
	}
}

// checkItem brings an item into the form that values have, and reports whether it can be one.
func (r *rules) checkItem(at *place, item *rule.SpecificItem, param *request.Param, h *rule.Hotspot) bool {
	prefix, isNetwork := request.ParseNetwork(item.ValStr)
	switch {
	case item.ValStr == "": // has been said, or is the empty value
	case item.Pattern == rule.PatternCIDR:
		if prefix, ok := parsePrefix(item.ValStr); ok {
			item.ValStr = prefix.String()
		}
	case item.Pattern != rule.NoPattern:
		if param.Lowercase && item.Pattern != rule.PatternRegex {
			item.ValStr = strings.ToLower(item.ValStr)
		}
	case param.Source != rule.SourceAddress:
		if isNetwork {
			r.warn(at, label(&h.Target), " compares ", quote(item.ValStr), " as text: networks are for the paramSource ",
				rule.SourceAddress.String(), ", or a valPattern with cidr")
		}
		item.ValStr = param.Canonical(item.ValStr)
	case isNetwork:
		item.ValStr = prefix.String()
	case !isAddress(item.ValStr):
		r.add(at, "must be an address, or a network such as 10.0.0.0/8, got ", quote(item.ValStr))
		return false
	default:
		item.ValStr = param.Canonical(item.ValStr)
	}
	return true
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
