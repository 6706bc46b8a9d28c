package convert

import (
	"fmt"
	"slices"
	"strings"

	"sentinel-envoy/internal/configfile"
)

// The service's descriptors do not say what of a request they are: that stands in Envoy's routes. What follows from a key's name
// is taken, all else is taken for a header, and said.

// namedKeys are the keys whose values are names that somebody has given to routes or matches.
var namedKeys = []string{"generic_key", "header_match", "query_match"}

const (
	// enough is a threshold that nobody reaches.
	enough = "1000000000"
	// everything is the resource of what no descriptor names.
	everything = "everything"
)

// units are the service's units in milliseconds.
var units = map[string]int{"second": 1000, "minute": 60_000, "hour": 3600_000}

// descriptorKeys are those of a descriptor; nothing is made of detailed_metric and value_to_metric, which are the service's metrics'.
const descriptorKeys = "key value rate_limit descriptors shadow_mode detailed_metric value_to_metric share_threshold"

// rateLimit converts configurations of envoyproxy/ratelimit: descriptors with a value become resources with flow rules, those
// without one hotspot rules.
func (r *Result) rateLimit(docs []configfile.Document) {
	for _, d := range docs {
		list, has := d.Get("descriptors")
		if !has || text(d, "domain") == "" {
			r.wrong(d, "is no configuration of the rate limit service: it needs domain and descriptors")
			continue
		}
		r.need("# domain " + quoted(text(d, "domain")) + ": limits hold here for each Envoy by itself; for all together see clusterMode")
		r.descriptors(list, nil)
	}
}

// condition is what a request must be for a descriptor to be about it.
type condition struct{ key, value string }

// descriptors converts a list of them below conditions. A value's entry beside one of the same key without a value is its exception.
func (r *Result) descriptors(list configfile.Document, above []condition) {
	items := list.Items()
	for _, d := range items {
		r.known(d, descriptorKeys)
		key, value := text(d, "key"), text(d, "value")
		switch {
		case key == "":
			r.wrong(d, "needs a key")
			continue
		case text(d, "shadow_mode") == "true":
			r.wrong(d, "shadow_mode: here a whole filter is in mode shadow: convert it by itself")
			continue
		case strings.HasSuffix(value, "*") && len(value) > 1:
			r.wrong(d, "value %s: a prefix is a match in resources; write it there", quoted(value))
			continue
		}
		limit, limits := d.Get("rate_limit")
		below, nested := d.Get("descriptors")
		if value == "" {
			if nested {
				r.wrong(d, "limits each pair of values of %s and what is below it: a hotspot rule has one parameter", quoted(key))
			}
			if limits {
				r.eachValue(d, limit, above, items)
			}
			continue
		}
		exception := slices.ContainsFunc(items, func(o configfile.Document) bool {
			_, has := o.Get("rate_limit")
			return has && text(o, "key") == key && text(o, "value") == ""
		})
		if limits && !exception {
			r.oneValue(d, limit, append(slices.Clone(above), condition{key, value}))
		}
		if nested {
			r.descriptors(below, append(slices.Clone(above), condition{key, value}))
		}
	}
}

// per is what a limit says, false where it says what cannot be.
func (r *Result) per(limit configfile.Document) (count string, ms int, ok bool) {
	r.known(limit, "unit requests_per_unit unlimited name replaces unit_multiplier")
	if _, has := limit.Get("replaces"); has {
		r.wrong(limit, "replaces: which rules are asked does not depend on others here")
		return "", 0, false
	}
	if text(limit, "unlimited") == "true" {
		return enough, 1000, true
	}
	unit := strings.ToLower(text(limit, "unit"))
	ms, known := units[unit]
	if n := text(limit, "unit_multiplier"); known && n != "" {
		times := 0
		if _, err := fmt.Sscan(n, &times); err != nil || times < 1 {
			r.wrong(limit, "unit_multiplier: must be a number of at least 1, got %s", quoted(n))
			return "", 0, false
		}
		ms *= times
	}
	if !known || ms > units["hour"] {
		r.wrong(limit, "unit %s: must be second, minute or hour, and all together at most an hour", quoted(text(limit, "unit")))
		return "", 0, false
	}
	return r.number(limit, "requests_per_unit", ""), ms, true
}

// oneValue makes a flow rule of a limit on requests that fulfil conditions.
func (r *Result) oneValue(d, limit configfile.Document, of []condition) {
	count, ms, ok := r.per(limit)
	if ok && count != enough {
		r.add("flowRules", d, fmt.Sprintf("{%sresource: %s, threshold: %s, statIntervalInMs: %d}",
			idOf(limit), r.resource(d, of), count, ms))
	}
}

// eachValue makes a hotspot rule of a limit on each value of a key, with those values that have a limit of their own.
func (r *Result) eachValue(d, limit configfile.Document, above []condition, beside []configfile.Document) {
	count, ms, ok := r.per(limit)
	if !ok {
		return
	}
	var own []string
	for _, o := range beside {
		value := text(o, "value")
		other, has := o.Get("rate_limit")
		if !has || text(o, "key") != text(d, "key") || value == "" {
			continue
		}
		its, itsMs, ok := r.per(other)
		if ok && its != enough && itsMs != ms {
			r.wrong(other, "unit: must be that of the key without a value, of which this is an exception")
		}
		own = append(own, fmt.Sprintf("{valKind: KindString, valStr: %s, threshold: %s}", quoted(value), its))
	}
	items := ""
	if len(own) > 0 {
		items = ", specificItems: [" + strings.Join(own, ", ") + "]"
	}
	r.add("hotspotRules", d, fmt.Sprintf("{%sresource: %s, metricType: QPS, threshold: %s, durationInSec: %d, %s%s}",
		idOf(limit), r.resource(d, above), count, ms/1000, r.parameter(text(d, "key")), items))
}

// idOf is the rule's id where the limit has a name.
func idOf(limit configfile.Document) string {
	if name := text(limit, "name"); name != "" {
		return "id: " + quoted(name) + ", "
	}
	return ""
}

// parameter is what a key's values are of a request.
func (r *Result) parameter(key string) string {
	if key == "remote_address" || key == "masked_remote_address" {
		return "paramSource: SourceAddress"
	}
	return "paramSource: Header, paramKey: " + quoted(r.header(key))
}

// header is the header that a key is taken for.
func (r *Result) header(key string) string {
	name := strings.ToLower(strings.ReplaceAll(key, "_", "-"))
	r.need("# key " + quoted(key) + " is taken for the header " + quoted(name) + ": see the route's rate_limits, and change it where it is another")
	return name
}

// resource is the name of what fulfils conditions. Those about headers become an entry of resources, once; names that routes have
// given are to be matched by hand.
func (r *Result) resource(d configfile.Document, of []condition) string {
	var names, headers []string
	for _, c := range of {
		names = append(names, c.value)
		if slices.Contains(namedKeys, c.key) {
			r.need("# " + c.key + " " + quoted(c.value) + " is a name that a route gives: name what it takes in an entry of resources")
			continue
		}
		headers = append(headers, fmt.Sprintf("{name: %s, exact: %s}", quoted(r.header(c.key)), quoted(c.value)))
	}
	if len(of) == 0 {
		r.need("resource_name: " + everything + "                # what no entry of resources matches")
		return quoted(everything)
	}
	name := quoted(strings.Join(names, "."))
	match := fmt.Sprintf("{name: %s, match: {headers: [%s]}}", name, strings.Join(headers, ", "))
	if len(headers) > 0 && !slices.ContainsFunc(r.lists["resources"], func(e entry) bool { return e.text == match }) {
		r.need("# a request is one resource here, the first of resources that matches")
		r.add("resources", d, match)
	}
	return name
}
