package config

import (
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/buger/jsonparser"

	"sentinel-envoy/shared/rule"
)

// SourceType is what kind of server a data source is.
type SourceType int

// The types, in the order of sourceTypes.
const (
	SourceHTTP       SourceType = iota // a file: the answer to a GET
	SourceNacos                        // a configuration of Nacos, by its API v1
	SourceEtcd                         // a key of etcd, by its JSON gateway
	SourceConsul                       // a key of Consul
	SourceKubernetes                   // a key of a ConfigMap, by the API of Kubernetes
)

var sourceTypes = []string{"http", "nacos", "etcd", "consul", "kubernetes"}

// String is the type's name in a configuration.
func (t SourceType) String() string { return sourceTypes[t] }

// DataSource is where rules come from while the filter runs.
type DataSource struct {
	Origin
	Rules    string // rules: the family whose list the document is, as "flowRules"; "" where it is an object of such lists
	Format   Format // format: whose words its rules are in
	Required bool   // required: until the first answer nothing is admitted, where failure_mode is closed
}

// Origin is what is asked, and how. Sources with one origin are one.
type Origin struct {
	Type      SourceType // type
	Cluster   string     // cluster: Envoy's name of it
	Authority string     // authority of the requests; default Cluster
	Path      string     // path: of HTTP the file's, of Nacos its context path, by default "/nacos"
	Key       string     // key: of etcd, Consul, and the ConfigMap's data
	DataID    string     // data_id: of Nacos
	Group     string     // group: of Nacos, default "DEFAULT_GROUP"
	Namespace string     // namespace: of Nacos the namespace's id, default ""; of Kubernetes default "default"
	Name      string     // name: of the ConfigMap

	IntervalMs uint32 // interval_ms: how often it is asked, 200 to 3,600,000 milliseconds; default 3000
	TimeoutMs  uint32 // timeout_ms: how long an answer may take, 50 to 60,000 milliseconds; default 1000
}

// Title names the origin to people and in metrics, as "nacos/DEFAULT_GROUP/orders".
func (o *Origin) Title() string {
	parts := []string{o.Cluster}
	for _, part := range []string{strings.Trim(o.Path, "/"), o.Namespace, o.Group, o.DataID, o.Name, strings.Trim(o.Key, "/")} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, "/")
}

// maxSources is how many data sources a filter has at most.
const maxSources = 8

// dataSources reads where rules come from while the filter runs.
func (p *parser) dataSources(at *place, v value, cfg *Config) {
	p.list(at, v, func(at *place, v value) bool {
		if len(cfg.Sources) == maxSources {
			p.add(at, "more than ", strconv.Itoa(maxSources), " sources in one configuration")
			return false
		}
		s := p.dataSource(at, v)
		if i := slices.Index(cfg.Sources, s); i >= 0 {
			p.add(at, "is the same as ", at.parent.item(i).String())
		}
		cfg.Sources = append(cfg.Sources, s)
		return true
	})
}

func (p *parser) dataSource(at *place, v value) DataSource {
	s := DataSource{Origin: Origin{Type: -1, IntervalMs: 3000, TimeoutMs: 1000}}
	fields := []field{
		{"type", word(p, &s.Type, sourceTypes...)},
		{"cluster", p.label(&s.Cluster, maxResource)},
		{"authority", p.label(&s.Authority, maxResource)},
		{"path", p.label(&s.Path, maxResource)},
		{"key", p.label(&s.Key, maxResource)},
		{"data_id", p.label(&s.DataID, maxResource)},
		{"group", p.label(&s.Group, maxResource)},
		{"namespace", p.label(&s.Namespace, maxResource)},
		{"name", p.label(&s.Name, maxResource)},
		{"rules", p.familyKey(&s.Rules)},
		{"format", word(p, &s.Format, "guess", "sentinel", "java")},
		{"interval_ms", integer(p, &s.IntervalMs, 200, 3_600_000)},
		{"timeout_ms", integer(p, &s.TimeoutMs, 50, 60_000)},
		{"required", p.boolean(&s.Required)},
	}
	before := p.count()
	seen := p.object(at, v, fields)
	if p.count() > before {
		return s
	}
	for _, key := range []string{"type", "cluster"} {
		if !has(seen, fields, key) {
			p.add(at.at(key), "missing")
		}
	}
	if p.count() == before {
		p.completeOrigin(at, &s.Origin)
	}
	return s
}

// originKey is a key that says what to ask a server for, whether it is needed, and its default where it is not.
type originKey struct {
	key     string
	needed  bool
	initial string
}

// originKeys are those of each type.
var originKeys = [][]originKey{
	SourceHTTP:       {{"path", true, ""}},
	SourceNacos:      {{"data_id", true, ""}, {"group", false, "DEFAULT_GROUP"}, {"namespace", false, ""}, {"path", false, "/nacos"}},
	SourceEtcd:       {{"key", true, ""}},
	SourceConsul:     {{"key", true, ""}},
	SourceKubernetes: {{"name", true, ""}, {"key", true, ""}, {"namespace", false, "default"}},
}

// completeOrigin finds the keys that a type needs and does not have, or has and does not know, and gives others their defaults.
func (p *parser) completeOrigin(at *place, o *Origin) {
	if o.Authority == "" {
		o.Authority = o.Cluster
	}
	for _, k := range []struct {
		key   string
		value *string
	}{{"path", &o.Path}, {"key", &o.Key}, {"data_id", &o.DataID}, {"group", &o.Group}, {"namespace", &o.Namespace}, {"name", &o.Name}} {
		i := slices.IndexFunc(originKeys[o.Type], func(own originKey) bool { return own.key == k.key })
		switch {
		case i < 0 && *k.value != "":
			p.add(at.at(k.key), "is not for the type ", o.Type.String())
		case i >= 0 && *k.value == "" && originKeys[o.Type][i].needed:
			p.add(at.at(k.key), "missing")
		case i >= 0 && *k.value == "":
			*k.value = originKeys[o.Type][i].initial
		}
	}
	if o.Path != "" && o.Path[0] != '/' {
		p.add(at.at("path"), "must begin with /, got ", quote(o.Path))
	}
}

// familyKey reads the key of a family's list, ours or Java Sentinel's.
func (p *parser) familyKey(dst *string) setter {
	return func(at *place, v value) {
		var keys []string
		for _, f := range rule.Families {
			keys = append(keys, f.Key)
		}
		for java := range javaKeys {
			keys = append(keys, java)
		}
		sort.Slice(keys, func(i, j int) bool { return keys[i] < keys[j] })
		if v.typ == jsonparser.String && slices.Contains(keys, string(v.raw)) {
			*dst, _ = RuleKey(string(v.raw))
			return
		}
		p.add(at, "must be ", strings.Join(keys, " or "), ", got ", v.describe())
	}
}

// checkRequired warns of a filter that waits for its sources, and admits everything meanwhile.
func (p *parser) checkRequired(cfg *Config, top *place) {
	for i := range cfg.Sources {
		if cfg.Sources[i].Required && cfg.FailureMode == FailOpen {
			p.warn(top.at("datasource").item(i).at("required"), "has no effect with failure_mode open: write closed")
		}
	}
}
