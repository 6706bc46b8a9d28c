package request

import (
	"errors"
	"math"
	"sort"
	"strconv"
	"strings"
	"unicode/utf8"

	"sentinel-envoy/shared/rule"
)

// form is how Envoy gives an attribute's value.
type form uint8

const (
	text   form = iota + 1
	whole       // 8 bytes: an integer, or a time or duration in nanoseconds
	truth       // a byte
	parts       // has parts that are attributes themselves, in a form that only Envoy knows
	header      // has parts that are headers
	meta        // metadata: its parts are filter_metadata, a filter's name, and keys
	late        // not known yet when a stream enters
)

// attribute is the last part of an attribute's name, and its form.
type attribute struct {
	name string
	form form
}

// certificate are the attributes of a TLS connection, its own and the upstream's.
var certificate = []attribute{
	{"tls_version", text}, {"subject_local_certificate", text}, {"subject_peer_certificate", text},
	{"dns_san_local_certificate", text}, {"dns_san_peer_certificate", text}, {"uri_san_local_certificate", text},
	{"uri_san_peer_certificate", text}, {"sha256_peer_certificate_digest", text}, {"peer_certificate", text},
	{"transport_failure_reason", text},
}

// attributes are Envoy's, as its documentation and its sources have them. They are lists and no maps, which would be made by
// code at the start of each VM.
var attributes = [...]struct {
	group string
	has   []attribute
}{
	{"request", []attribute{
		{"path", text}, {"url_path", text}, {"host", text}, {"scheme", text}, {"method", text}, {"headers", header},
		{"headers_bytes", whole}, {"referer", text}, {"useragent", text}, {"time", whole}, {"id", text}, {"protocol", text},
		{"query", text}, {"size", whole}, {"duration", late}, {"total_size", late},
	}},
	{"response", []attribute{
		{"code", late}, {"code_details", late}, {"flags", late}, {"grpc_status", late}, {"headers", late}, {"headers_bytes", late},
		{"trailers", late}, {"size", late}, {"total_size", late}, {"backend_latency", late},
	}},
	{"source", []attribute{{"address", text}, {"port", whole}}},
	{"destination", []attribute{{"address", text}, {"port", whole}}},
	{"connection", []attribute{
		{"id", whole}, {"mtls", truth}, {"requested_server_name", text}, {"termination_details", late},
	}},
	{"connection", certificate},
	{"upstream", []attribute{
		{"address", text}, {"port", whole}, {"local_address", text}, {"num_endpoints", whole}, {"request_attempt_count", whole},
		{"cx_pool_ready_duration", whole}, {"locality", parts},
	}},
	{"upstream", certificate},
	{"xds", []attribute{
		{"node", parts}, {"cluster_name", text}, {"cluster_metadata", meta}, {"listener_direction", whole},
		{"listener_metadata", meta}, {"route_name", text}, {"route_metadata", meta}, {"virtual_host_name", text},
		{"virtual_host_metadata", meta}, {"upstream_host_metadata", meta}, {"upstream_host_locality_metadata", meta},
		{"filter_chain_name", text},
	}},
}

// roots are the attributes that have no second part by which they are known.
var roots = []attribute{
	{"metadata", meta}, {"filter_state", parts}, {"upstream_filter_state", parts}, {"node", parts}, {"plugin_name", text},
	{"plugin_root_id", text}, {"plugin_vm_id", text}, {"listener_direction", whole}, {"listener_metadata", meta},
	{"cluster_name", text}, {"cluster_metadata", meta}, {"route_name", text}, {"route_metadata", meta},
	{"upstream_host_metadata", meta}, {"connection_id", whole},
}

// formIn is the form that a list has for a name, 0 where it has none.
func formIn(list []attribute, name string) form {
	for i := range list {
		if list[i].name == name {
			return list[i].form
		}
	}
	return 0
}

// formOf is the form of an attribute, and what of its path is left to name its parts; 0 where Envoy has none of the name.
func formOf(path []string) (form, []string) {
	if f := formIn(roots, path[0]); f != 0 {
		return f, path[1:]
	}
	if len(path) < 2 {
		return 0, nil
	}
	for i := range attributes {
		if attributes[i].group != path[0] {
			continue
		}
		if f := formIn(attributes[i].has, path[1]); f != 0 {
			return f, path[2:]
		}
	}
	return 0, path[2:]
}

// AttributeOf is the path of the attribute that a rule with the source Property is about. As text it has dots between its
// parts; a header's, a filter's name or a filter state's key may have dots of its own, and where that cannot be told
// paramPath gives the parts as they are.
func AttributeOf(p *rule.Param) []string {
	if len(p.ParamPath) > 0 {
		return p.ParamPath
	}
	path := strings.Split(p.ParamKey, ".")
	f, rest := formOf(path)
	known := len(path) - len(rest)
	switch {
	case f == header && len(rest) > 1, strings.HasSuffix(path[0], "filter_state") && len(rest) > 1:
		return append(path[:known:known], strings.Join(rest, "."))
	case f == meta && len(rest) > 1:
		n := 1 + filterName(rest[1:])
		return append(append(path[:known+1:known+1], strings.Join(rest[1:n], ".")), rest[n:]...)
	}
	return path
}

// filterName is how many parts of a path are the name of a filter: those of Envoy's own have two, "envoy.lb", or four,
// "envoy.filters.http.jwt_authn".
func filterName(path []string) int {
	n := 1
	if path[0] == "envoy" {
		if n = 2; len(path) > 1 && path[1] == "filters" {
			n = 4
		}
	}
	return min(n, len(path))
}

// CheckAttribute says what is wrong with the path of an attribute that a rule is about, of connections where tcp.
func CheckAttribute(path []string, tcp bool) error {
	f, rest := formOf(path)
	switch {
	case f == 0:
		return errors.New("Envoy has no such attribute" + instead(path))
	case f == late:
		return errors.New("is not known yet when a rule is asked")
	case tcp && path[0] == "request":
		return errors.New("a connection has no request")
	case f >= parts && len(rest) == 0:
		return errors.New("is no value: name a part of it")
	case f == header && len(rest) > 1 || f < parts && len(rest) > 0:
		return errors.New("is a value, and has no part " + strings.Join(rest, "."))
	case f == meta && rest[0] != "filter_metadata" && rest[0] != "typed_filter_metadata":
		return errors.New("metadata has filter_metadata and typed_filter_metadata, then the filter's name, then its keys")
	case f == meta && len(rest) < 3:
		return errors.New("is no value: after the filter's name comes a key")
	}
	return nil
}

// instead are the names that there are.
func instead(path []string) string {
	var names []string
	for _, a := range attributes {
		for _, of := range a.has {
			if a.group == path[0] && of.form != late {
				names = append(names, of.name)
			}
		}
	}
	sort.Slice(names, func(i, j int) bool { return names[i] < names[j] })
	if len(names) > 0 {
		return "; " + path[0] + " has " + strings.Join(names, ", ")
	}
	return "; what another Wasm plugin has set under a name is filter_state.wasm.<name>"
}

// AfterUpstream is whether an attribute is known only once an upstream was chosen: in a filter of an upstream, and nowhere
// else.
func AfterUpstream(path []string) bool {
	name := path[0]
	if name == "xds" && len(path) > 1 {
		name = path[1]
	}
	return strings.HasPrefix(name, "upstream")
}

// attributeText is an attribute's value as text: numbers, which Envoy gives as 8 bytes, and booleans, which it gives as
// one, as Go writes them.
func attributeText(path []string, value string) string {
	f, _ := formOf(path)
	switch {
	case f == whole && len(value) == 8:
		return strconv.FormatInt(int64(word(value)), 10)
	case f == truth && len(value) == 1:
		return strconv.FormatBool(value[0] != 0)
	case f == text:
		return value
	case len(value) == 8 && !printable(value): // of metadata, where a number is a double
		if n := math.Float64frombits(word(value)); !math.IsNaN(n) && !math.IsInf(n, 0) {
			return formatNumber(n)
		}
	case value == "\x00" || value == "\x01":
		return strconv.FormatBool(value == "\x01")
	}
	return value
}

// printable is whether a value can be text.
func printable(value string) bool {
	return utf8.ValidString(value) && !strings.ContainsFunc(value, func(r rune) bool { return r < ' ' })
}
