// Package metrics defines Envoy's metrics on first use, and bounds how many there are.
package metrics

import (
	"errors"
	"math"
	"strings"

	"sentinel-envoy/shared/host"
	"sentinel-envoy/shared/percent"
	"sentinel-envoy/shared/record"
)

// definitionsPerTick bounds the new names of a tick: to define one costs Envoy up to a tenth of a millisecond, and a worker
// whose clients have just found ten thousand resources would stand still for seconds.
const definitionsPerTick = 64

const (
	// namePages are those of the directory of labelled names, MaxNames how many names it has at most.
	namePages = 1024
	MaxNames  = 32 * namePages
	// MaxIDs bounds the ids of metrics that a worker remembers.
	MaxIDs = 2 * MaxNames
)

const (
	otherLabels = ";resource=(other)"
	// ofWorker begins labels of which there are few whatever the configuration is: they need no place among the names.
	ofWorker = "worker="
)

var (
	// errLater means that a metric cannot be defined in this tick.
	errLater = errors.New("too many new metrics in one tick")
	// errNoName means that a gauge has no name: of what all others have together it could tell nothing.
	errNoName = errors.New("too many metrics")
)

// noID is remembered of a gauge that has no name.
const noID = math.MaxUint32

// Host is what metrics ask of the proxy.
type Host interface {
	host.SharedData
	host.Metrics
}

// Metrics are those of one worker. Labels are part of a metric's name, as ";label=value", which the bootstrap's stats_tags
// turn into labels.
//
// Metrics cannot be removed, so the number of labelled names that a process ever defines is bounded, by a directory in
// shared data. What counters beyond it count is counted under otherLabels; a gauge beyond it is not set.
type Metrics struct {
	host  Host
	names *record.Directory
	ids   map[string]uint32
	// room is how many labelled names may still be defined in this tick, behind whether one had to wait for the next.
	room   int
	behind bool
	fault  func(what string, err error)
}

// New returns the metrics of a host. fault is called with what could not be exported.
func New(h Host, fault func(what string, err error)) *Metrics {
	return &Metrics{
		host: h, names: record.NewNames(h, "sentinel/1/metrics/", namePages), ids: map[string]uint32{}, fault: fault,
	}
}

// Corrupt is how many pages of the directory of names were found that nobody of us can have written.
func (m *Metrics) Corrupt() uint64 { return m.names.Corrupt() }

// Len is how many ids a worker remembers.
func (m *Metrics) Len() int { return len(m.ids) }

// BeginTick lets a bounded number of new names be defined.
func (m *Metrics) BeginTick() { m.room = definitionsPerTick }

// Unbounded lets any number of new names be defined in this tick: what is exported now would be lost otherwise.
func (m *Metrics) Unbounded() { m.room = math.MaxInt }

// BeginExport forgets what had to wait before; Behind is whether something has had to wait since.
func (m *Metrics) BeginExport() { m.behind = false }

// Behind is described with BeginExport.
func (m *Metrics) Behind() bool { return m.behind }

// Counter is a count of ours, and how much of it was exported.
type Counter struct {
	Name     string
	N        uint64
	exported uint64
	defined  defined
}

// Gauge is a gauge that is set often.
type Gauge struct {
	Name    string
	defined defined
	// shown is what it was set to last, at the time shownAt in nanoseconds, 0 if never.
	shown   uint64
	shownAt int64
}

// showAgainAfter is when Show sets a gauge again to what it has set it to, in nanoseconds: another worker may have set it
// since.
const showAgainAfter = 1e9

// defined is the id of a metric, once it is known: to look a long name up costs more than to set what it names.
type defined struct {
	id    uint32
	known bool
}

// Define makes sure that a metric is there, also while there is nothing to export.
func (m *Metrics) Define(c *Counter, now int64) {
	if _, err := m.idOf(&c.defined, host.Counter, c.Name, now); err != nil && err != errLater {
		m.fault("defining a metric", err)
	}
}

// idOf is the id of a metric that knows it once it was asked for.
func (m *Metrics) idOf(d *defined, kind host.MetricKind, name string, now int64) (uint32, error) {
	if d.known {
		return d.id, nil
	}
	id, err := m.id(kind, name, now)
	*d = defined{id, err == nil}
	return id, err
}

// Export brings a counter up to date, if not in this tick then in one of the next. now is in nanoseconds.
func (m *Metrics) Export(c *Counter, now int64) {
	if c.N == c.exported {
		return
	}
	id, err := m.idOf(&c.defined, host.Counter, c.Name, now)
	if err == nil {
		if err = m.host.Add(id, int64(c.N-c.exported)); err == nil {
			c.exported = c.N
		}
	}
	m.check(err)
}

// Set sets a gauge, as Gauge does.
func (m *Metrics) Set(g *Gauge, value uint64, now int64) {
	id, err := m.idOf(&g.defined, host.Gauge, g.Name, now)
	if err == nil {
		err = m.host.Record(id, value)
	}
	if g.shownAt = 0; err == nil {
		g.shown, g.shownAt = value, now
	}
	m.check(err)
}

// Show is Set of a gauge that mostly nobody else sets: where the value is as it was, it does so once a second only.
func (m *Metrics) Show(g *Gauge, value uint64, now int64) {
	if g.shownAt != 0 && value == g.shown && now-g.shownAt < showAgainAfter {
		return
	}
	m.Set(g, value, now)
}

// Gauge sets a gauge. One whose name cannot be defined in this tick is set with its next value.
func (m *Metrics) Gauge(name string, value uint64, now int64) {
	id, err := m.id(host.Gauge, name, now)
	if err == nil {
		err = m.host.Record(id, value)
	}
	m.check(err)
}

func (m *Metrics) check(err error) {
	if err != nil && err != errLater && err != errNoName {
		m.fault("exporting a metric", err)
	}
}

func (m *Metrics) id(kind host.MetricKind, name string, now int64) (uint32, error) {
	if id, ok := m.ids[name]; ok {
		if id == noID {
			return 0, errNoName
		}
		return id, nil
	}
	defined := name
	if base, labels, _ := strings.Cut(name, ";"); labels != "" && !strings.HasPrefix(labels, ofWorker) {
		if m.room <= 0 {
			m.behind = true
			return 0, errLater
		}
		m.room--
		switch _, _, err := m.names.Slot(record.IDOf(name)); {
		case err == record.ErrFull && kind == host.Gauge:
			m.remember(name, noID)
			return 0, errNoName
		case err == record.ErrFull:
			defined = base + otherLabels
		case err != nil:
			return 0, err
		}
	}
	id, err := m.host.Define(kind, defined)
	if err == nil {
		m.remember(name, id)
	}
	return id, err
}

func (m *Metrics) remember(name string, id uint32) {
	if len(m.ids) < MaxIDs {
		m.ids[name] = id
	}
}

// Resource is the label of a resource, as part of a metric's name; Rule, Kind and Worker are likewise.
func Resource(name string) string { return ";resource=" + escape(name) }

// Rule is described with Resource.
func Rule(id string) string { return ";rule=" + escape(id) }

// Kind is described with Resource.
func Kind(name string) string { return ";kind=" + name }

// Change are the labels of a change from one state to another.
func Change(from, to string) string { return ";from=" + from + ";to=" + to }

// plain are the bytes that can be part of a metric's name, but for a dot at the end: no characters that mean something
// there, and none that Envoy replaces.
var plain = percent.Printable.Without(` ;=:"\`).WithTop()

// escape makes a value that can be part of a metric's name. Envoy drops a dot at the end.
func escape(value string) string {
	b := percent.Append(make([]byte, 0, len(value)), value, &plain)
	if strings.HasSuffix(value, ".") {
		b = append(b[:len(b)-1], "%2E"...)
	}
	return string(b)
}
