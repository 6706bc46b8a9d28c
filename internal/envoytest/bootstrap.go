package envoytest

import (
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"
)

// object is a piece of Envoy configuration, in its JSON form.
type object = map[string]any

// Listener is one listener of the Envoy: HTTP or TCP.
type Listener interface {
	// name is how the listener is called in Envoy and in this package's methods.
	name() string
	// port is where it listens, 0 for any; on gives the same listener on a port, unless it has one.
	port() int
	on(port int) Listener
	// upstreams lists the host:port addresses that the listener forwards to.
	upstreams() []string
	// render gives the listener in Envoy's JSON; files such as access logs go to dir.
	render(dir string) (object, error)
}

// HTTP is a listener with an HTTP connection manager.
type HTTP struct {
	Name     string        // default "http"
	Port     int           // 0 for a free one; see Process.Addr
	Upstream string        // host:port of the service behind it; not needed where Routes say everything
	Routes   []Route       // first match wins; default: everything to Upstream
	Timeout  time.Duration // a route's timeout where it sets none; 0 keeps Envoy's 15 s

	FiltersBefore []object // HTTP filters in Envoy's JSON, before the Wasm filters
	Wasm          []Wasm   // Wasm filters, in order
	Filters       []object // further HTTP filters in Envoy's JSON, between the Wasm filters and the router

	Codec        string // AUTO (default), HTTP1 or HTTP2
	RawPaths     bool   // leave paths as the client sent them; by default normalised as in envoy/envoy.yaml
	MaxHeadersKB int    // 0 keeps Envoy's 60
	ExactBalance bool   // spread connections evenly over the workers, instead of as the kernel likes
	AccessLog    string // format of a line of the access log; empty for none; see Process.AccessLog
	Manager      object // further fields of the connection manager in Envoy's JSON, such as time limits
}

// Route sends requests whose path begins with Prefix to Upstream, or answers them itself.
type Route struct {
	Prefix       string
	Upstream     string        // host:port; default: the listener's
	DirectStatus int           // not 0: Envoy answers with this status, and no upstream is asked
	DirectBody   string        // body of that answer
	Timeout      time.Duration // 0: the listener's
}

// TCP is a listener with a TCP proxy.
type TCP struct {
	Name     string // default "tcp"
	Port     int    // 0 for a free one; see Process.Addr
	Upstream string // host:port of the service behind it

	Wasm    []Wasm   // Wasm filters, in order
	Filters []object // further network filters in Envoy's JSON, between the Wasm filters and the TCP proxy

	// TLSInspector reads the SNI of TLS clients. A client that sends nothing is kept from the filters meanwhile, so a
	// server never gets to speak first: after InspectFor such a connection goes on without SNI. Where that is 0, Envoy
	// closes the connection after its 15 s.
	TLSInspector bool
	InspectFor   time.Duration

	ExactBalance bool   // spread connections evenly over the workers, instead of as the kernel likes
	AccessLog    string // format of a line of the access log; empty for none; see Process.AccessLog
	Proxy        object // further fields of the TCP proxy in Envoy's JSON, such as time limits
}

// Wasm is one Wasm filter, network or HTTP according to where it is put.
type Wasm struct {
	File   string // path of the .wasm
	RootID string
	Name   string // default: RootID
	VMID   string // default "sentinel"

	Config           string // plugin configuration; empty for none
	ConfigAsString   bool   // pass Config as a StringValue, so that it need not be JSON; otherwise as a Struct
	ConfigAsBytes    bool   // the same with a BytesValue, for bytes that are no text
	VMConfig         string // VM configuration; empty for none
	VMConfigAsString bool   // the same for VMConfig

	FailurePolicy string // FAIL_CLOSED (Envoy's default), FAIL_OPEN or FAIL_RELOAD
}

// StatsTags are envoy/envoy.yaml's patterns that turn parts of our metrics' names into labels.
var StatsTags = []object{
	{"tag_name": "resource", "regex": `^wasmcustom\.sentinel_[a-z_]+.*?(;resource=([^;]*))`},
	{"tag_name": "rule", "regex": `^wasmcustom\.sentinel_[a-z_]+.*?(;rule=([^;]*))`},
	{"tag_name": "kind", "regex": `^wasmcustom\.sentinel_[a-z_]+.*?(;kind=([^;]*))`},
	{"tag_name": "worker", "regex": `^wasmcustom\.sentinel_[a-z_]+.*?(;worker=([^;]*))`},
	{"tag_name": "from", "regex": `^wasmcustom\.sentinel_[a-z_]+.*?(;from=([^;]*))`},
	{"tag_name": "to", "regex": `^wasmcustom\.sentinel_[a-z_]+.*?(;to=([^;]*))`},
}

// bootstrap gives the JSON bootstrap for the listeners, and a cluster for each upstream they or extraUpstreams name,
// besides extraClusters in Envoy's JSON. With ldsFile the listeners are left out, and Envoy reads them from that file
// instead (see listenerUpdate).
func bootstrap(listeners []Listener, extraUpstreams []string, extraClusters []object, dir, ldsFile string) ([]byte, error) {
	static := object{"clusters": append(clusters(listeners, extraUpstreams), extraClusters...)}
	b := object{
		"node":             object{"id": "envoytest", "cluster": "envoytest"},
		"admin":            object{"address": address(0)},
		"stats_config":     object{"stats_tags": StatsTags},
		"static_resources": static,
	}
	if ldsFile != "" {
		b["dynamic_resources"] = object{"lds_config": object{
			"path_config_source":   object{"path": ldsFile},
			"resource_api_version": "V3",
		}}
		return json.Marshal(b)
	}
	rendered, err := renderAll(listeners, dir)
	if err != nil {
		return nil, err
	}
	static["listeners"] = rendered
	return json.Marshal(b)
}

// listenerUpdate gives the discovery response that a file of listeners holds.
func listenerUpdate(listeners []Listener, dir string, version int) ([]byte, error) {
	rendered, err := renderAll(listeners, dir)
	if err != nil {
		return nil, err
	}
	for _, l := range rendered {
		l["@type"] = "type.googleapis.com/envoy.config.listener.v3.Listener"
	}
	return json.Marshal(object{"version_info": strconv.Itoa(version), "resources": rendered})
}

func renderAll(listeners []Listener, dir string) ([]object, error) {
	rendered := make([]object, 0, len(listeners))
	for _, l := range listeners {
		r, err := l.render(dir)
		if err != nil {
			return nil, fmt.Errorf("listener %s: %w", l.name(), err)
		}
		rendered = append(rendered, r)
	}
	return rendered, nil
}

func clusters(listeners []Listener, extra []string) []object {
	wanted := map[string]bool{}
	for _, l := range listeners {
		for _, u := range l.upstreams() {
			wanted[u] = true
		}
	}
	for _, u := range extra {
		wanted[u] = true
	}
	delete(wanted, "")
	addrs := make([]string, 0, len(wanted))
	for u := range wanted {
		addrs = append(addrs, u)
	}
	sort.Strings(addrs)
	out := make([]object, 0, len(addrs))
	for _, u := range addrs {
		out = append(out, cluster(u))
	}
	return out
}

// cluster gives the static cluster for a host:port. It speaks to the upstream what the client spoke to Envoy.
func cluster(addr string) object {
	host, portText, _ := net.SplitHostPort(addr)
	port, _ := strconv.Atoi(portText)
	endpoint := object{"address": object{"socket_address": object{"address": host, "port_value": port}}}
	return object{
		"name":            addr,
		"type":            "STATIC",
		"connect_timeout": "1s",
		"load_assignment": object{
			"cluster_name": addr,
			"endpoints":    []object{{"lb_endpoints": []object{{"endpoint": endpoint}}}},
		},
		// The load of a benchmark must not meet Envoy's default limits of 1024 connections and requests.
		"circuit_breakers": object{"thresholds": []object{{
			"max_connections": 100000, "max_pending_requests": 100000, "max_requests": 100000,
		}}},
		"typed_extension_protocol_options": object{
			"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": object{
				"@type":                          "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
				"use_downstream_protocol_config": object{"http_protocol_options": object{}, "http2_protocol_options": object{}},
			},
		},
	}
}

func (h HTTP) name() string { return or(h.Name, "http") }

func (h HTTP) port() int { return h.Port }

func (h HTTP) on(port int) Listener {
	h.Port = or(h.Port, port)
	return h
}

func (h HTTP) upstreams() []string {
	list := []string{h.Upstream}
	for _, r := range h.Routes {
		list = append(list, r.Upstream)
	}
	return list
}

func (h HTTP) render(dir string) (object, error) {
	filters := slices.Clone(h.FiltersBefore)
	for _, w := range h.Wasm {
		f, err := w.render("http")
		if err != nil {
			return nil, err
		}
		filters = append(filters, f)
	}
	filters = append(filters, h.Filters...)
	filters = append(filters, typed("envoy.filters.http.router", "filters.http.router.v3.Router", object{}))

	manager := object{
		"stat_prefix":  h.name(),
		"codec_type":   or(h.Codec, "AUTO"),
		"http_filters": filters,
		"route_config": object{"name": h.name(), "virtual_hosts": []object{{
			"name": h.name(), "domains": []string{"*"}, "routes": h.routes(),
		}}},
	}
	if !h.RawPaths {
		manager["normalize_path"] = true
		manager["merge_slashes"] = true
		manager["path_with_escaped_slashes_action"] = "UNESCAPE_AND_REDIRECT"
	}
	if h.MaxHeadersKB > 0 {
		manager["max_request_headers_kb"] = h.MaxHeadersKB
	}
	if h.AccessLog != "" {
		manager["access_log"] = []object{fileAccessLog(dir, h.name(), h.AccessLog)}
	}
	maps.Copy(manager, h.Manager)
	hcm := typed("envoy.filters.network.http_connection_manager",
		"filters.network.http_connection_manager.v3.HttpConnectionManager", manager)
	return listener(h.name(), h.Port, h.ExactBalance, []object{hcm}), nil
}

func (h HTTP) routes() []object {
	routes := h.Routes
	if len(routes) == 0 {
		routes = []Route{{Prefix: "/"}}
	}
	out := make([]object, 0, len(routes))
	for _, r := range routes {
		match := object{"prefix": or(r.Prefix, "/")}
		if r.DirectStatus != 0 {
			direct := object{"status": r.DirectStatus}
			if r.DirectBody != "" {
				direct["body"] = object{"inline_string": r.DirectBody}
			}
			out = append(out, object{"match": match, "direct_response": direct})
			continue
		}
		action := object{"cluster": or(r.Upstream, h.Upstream)}
		if t := or(r.Timeout, h.Timeout); t > 0 {
			action["timeout"] = seconds(t)
		}
		out = append(out, object{"match": match, "route": action})
	}
	return out
}

func (t TCP) name() string { return or(t.Name, "tcp") }
func (t TCP) port() int    { return t.Port }
func (t TCP) on(port int) Listener {
	t.Port = or(t.Port, port)
	return t
}
func (t TCP) upstreams() []string { return []string{t.Upstream} }

func (t TCP) render(dir string) (object, error) {
	filters := make([]object, 0, len(t.Wasm)+len(t.Filters)+1)
	for _, w := range t.Wasm {
		f, err := w.render("network")
		if err != nil {
			return nil, err
		}
		filters = append(filters, f)
	}
	filters = append(filters, t.Filters...)
	proxy := object{"stat_prefix": t.name(), "cluster": t.Upstream}
	if t.AccessLog != "" {
		proxy["access_log"] = []object{fileAccessLog(dir, t.name(), t.AccessLog)}
	}
	maps.Copy(proxy, t.Proxy)
	filters = append(filters, typed("envoy.filters.network.tcp_proxy", "filters.network.tcp_proxy.v3.TcpProxy", proxy))

	l := listener(t.name(), t.Port, t.ExactBalance, filters)
	if t.TLSInspector {
		l["listener_filters"] = []object{typed("envoy.filters.listener.tls_inspector",
			"filters.listener.tls_inspector.v3.TlsInspector", object{})}
	}
	if t.InspectFor > 0 {
		l["listener_filters_timeout"] = seconds(t.InspectFor)
		l["continue_on_listener_filters_timeout"] = true
	}
	return l, nil
}

func listener(name string, port int, exactBalance bool, filters []object) object {
	l := object{
		"name":          name,
		"address":       address(port),
		"filter_chains": []object{{"filters": filters}},
	}
	if exactBalance {
		l["connection_balance_config"] = object{"exact_balance": object{}}
	}
	return l
}

// render gives the filter in Envoy's JSON; kind is "http" or "network".
func (w Wasm) render(kind string) (object, error) {
	vm := object{
		"vm_id":   or(w.VMID, "sentinel"),
		"runtime": "envoy.wasm.runtime.v8",
		"code":    object{"local": object{"filename": w.File}},
	}
	config := object{"name": or(w.Name, w.RootID), "root_id": w.RootID, "vm_config": vm}
	if w.ConfigAsBytes {
		config["configuration"] = object{"@type": "type.googleapis.com/google.protobuf.BytesValue", "value": []byte(w.Config)}
	} else if err := setWasmConfig(config, w.Config, w.ConfigAsString); err != nil {
		return nil, fmt.Errorf("wasm filter %s: Config: %w", w.RootID, err)
	}
	if err := setWasmConfig(vm, w.VMConfig, w.VMConfigAsString); err != nil {
		return nil, fmt.Errorf("wasm filter %s: VMConfig: %w", w.RootID, err)
	}
	if w.FailurePolicy != "" {
		config["failure_policy"] = w.FailurePolicy
	}
	return typed("envoy.filters."+kind+".wasm", "filters."+kind+".wasm.v3.Wasm", object{"config": config}), nil
}

// setWasmConfig puts text under "configuration" of a plugin or a VM.
func setWasmConfig(in object, text string, asString bool) error {
	if text == "" {
		return nil
	}
	if asString {
		in["configuration"] = object{"@type": "type.googleapis.com/google.protobuf.StringValue", "value": text}
		return nil
	}
	var value map[string]any
	if err := json.Unmarshal([]byte(text), &value); err != nil {
		return fmt.Errorf("a Struct must be a JSON object (or set the AsString field): %w", err)
	}
	in["configuration"] = object{"@type": "type.googleapis.com/google.protobuf.Struct", "value": json.RawMessage(text)}
	return nil
}

func fileAccessLog(dir, listener, format string) object {
	if !strings.HasSuffix(format, "\n") {
		format += "\n"
	}
	return typed("envoy.access_loggers.file", "access_loggers.file.v3.FileAccessLog", object{
		"path":       accessLogPath(dir, listener),
		"log_format": object{"text_format_source": object{"inline_string": format}},
	})
}

func accessLogPath(dir, listener string) string { return filepath.Join(dir, listener+".access.log") }

// typed gives an extension's configuration of a type below envoy.extensions.
func typed(name, shortType string, config object) object {
	config["@type"] = "type.googleapis.com/envoy.extensions." + shortType
	return object{"name": name, "typed_config": config}
}

func address(port int) object {
	return object{"socket_address": object{"address": "127.0.0.1", "port_value": port}}
}

// seconds gives a duration as protobuf's JSON has it.
func seconds(d time.Duration) string { return fmt.Sprintf("%.9fs", d.Seconds()) }

// or gives v, or def where v is its type's zero value.
func or[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}
