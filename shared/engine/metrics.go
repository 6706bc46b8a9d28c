package engine

import (
	"errors"
	"strings"

	"sentinel-envoy/shared/host"
	"sentinel-envoy/shared/ledger"
	"sentinel-envoy/shared/stat"
)

// metrics defines Envoy's metrics on first use. Labels are part of a metric's name, as ";label=value", which the
// bootstrap's stats_tags turn into labels.
//
// Metrics cannot be removed, so the number of labelled names that a process ever defines is bounded, by a directory in
// shared data; what is beyond is counted under otherLabels.
type metrics struct {
	host  host.Host
	names *ledger.Directory
	ids   map[string]uint32
	nodes map[*stat.Node]*nodeMetrics
	// resources are the labels of the resources this worker knows, by hash.
	resources map[uint64]string

	faults, retries, contended, corrupt counter
	// ticks of all VMs go on for as long as any lives; lost are VMs that were silent for long, returned those of them that
	// were only held up.
	ticks, lost, returned counter

	// room is how many labelled names may still be defined in this tick, behind whether one had to wait for the next.
	room   int
	behind bool
}

// definitionsPerTick bounds the new names of a tick: to define one costs Envoy up to a tenth of a millisecond, and a worker
// whose clients have just found ten thousand resources would stand still for seconds.
const definitionsPerTick = 64

// errLater means that a metric cannot be defined in this tick.
var errLater = errors.New("too many new metrics in one tick")

const otherLabels = ";resource=(other)"

func newMetrics(h host.Host) *metrics {
	return &metrics{
		host: h, names: ledger.NewDirectory(h, "sentinel/1/metrics/", false), ids: map[string]uint32{},
		nodes: map[*stat.Node]*nodeMetrics{}, resources: map[uint64]string{},
		faults:    counter{name: "sentinel_faults"},
		retries:   counter{name: "sentinel_cas_retries"},
		contended: counter{name: "sentinel_cas_contended"},
		corrupt:   counter{name: "sentinel_records_replaced"},
		ticks:     counter{name: "sentinel_ticks"},
		lost:      counter{name: "sentinel_workers_lost"},
		returned:  counter{name: "sentinel_workers_returned"},
	}
}

// counter is a count of ours and how much of it Envoy has been told.
type counter struct {
	name string
	n    uint64
	told uint64
}

// maxIDs bounds the ids that a worker remembers.
const maxIDs = 2 * ledger.Slots

func (m *metrics) id(kind host.MetricKind, name string, now int64) (uint32, error) {
	if id, ok := m.ids[name]; ok {
		return id, nil
	}
	defined := name
	if base, _, labelled := strings.Cut(name, ";"); labelled {
		if m.room <= 0 {
			m.behind = true
			return 0, errLater
		}
		m.room--
		if _, err := m.names.Slot(ledger.IDOf(name), now); err != nil {
			defined = base + otherLabels
		}
	}
	id, err := m.host.Define(kind, defined)
	if err == nil && len(m.ids) < maxIDs {
		m.ids[name] = id
	}
	return id, err
}

// tell brings a counter up to date, if not in this tick then in one of the next.
func (m *metrics) tell(c *counter, now int64) error {
	if c.n == c.told {
		return nil
	}
	id, err := m.id(host.Counter, c.name, now)
	if err != nil {
		return unlessLater(err)
	}
	if err := m.host.Add(id, int64(c.n-c.told)); err != nil {
		return err
	}
	c.told = c.n
	return nil
}

// set records a gauge. One whose name cannot be defined in this tick is set with its next value.
func (m *metrics) set(name string, value uint64, now int64) error {
	id, err := m.id(host.Gauge, name, now)
	if err != nil {
		return unlessLater(err)
	}
	return m.host.Record(id, value)
}

func unlessLater(err error) error {
	if err == errLater {
		return nil
	}
	return err
}

// escape makes a value that can be part of a metric's name: percent-encoding of what is not printable ASCII, and of the
// characters that mean something there or that Envoy replaces or, like a dot at the end, drops.
func escape(value string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(value) {
		c := value[i]
		dropped := c == '.' && i == len(value)-1
		if c > ' ' && c < 0x7f && !strings.ContainsRune(`;=%:"\`, rune(c)) && !dropped || c >= 0x80 {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('%')
		b.WriteByte(hex[c>>4])
		b.WriteByte(hex[c&15])
	}
	return b.String()
}

// nodeMetrics are the counters of one resource.
type nodeMetrics struct {
	pass, shadow, complete, failed, rt counter
}

// node tells the counts of one resource. The names are kept for as long as the node is.
func (m *metrics) node(n *stat.Node, now int64) error {
	c := m.nodes[n]
	if c == nil {
		if n.Total == (stat.Counts{}) {
			return nil
		}
		label := m.resources[n.Hash]
		c = &nodeMetrics{
			pass:     counter{name: "sentinel_passed" + label},
			shadow:   counter{name: "sentinel_shadow_passed" + label},
			complete: counter{name: "sentinel_completed" + label},
			failed:   counter{name: "sentinel_failed" + label},
			rt:       counter{name: "sentinel_rt_ms_sum" + label},
		}
		m.nodes[n] = c
	}
	c.pass.n, c.shadow.n, c.complete.n, c.failed.n, c.rt.n = n.Total.Pass, n.Shadow, n.Total.Complete, n.Total.Error, n.Total.RT
	return errors.Join(m.tell(&c.pass, now), m.tell(&c.shadow, now), m.tell(&c.complete, now), m.tell(&c.failed, now), m.tell(&c.rt, now))
}

// know keeps the labels of a resource, for whoever has only its hash.
func (m *metrics) know(n *stat.Node) { m.resources[n.Hash] = ";resource=" + escape(n.Name) }

// forget drops what is kept for a node that is gone.
func (m *metrics) forget(n *stat.Node) {
	delete(m.nodes, n)
	delete(m.resources, n.Hash)
}

// process tells the counts that have no resource.
func (m *metrics) process(seen ledger.Counts, faults uint64, now int64) error {
	m.faults.n, m.retries.n, m.contended.n, m.corrupt.n = faults, seen.Retries, seen.Contended, seen.Corrupt
	var errs []error
	for _, c := range []*counter{&m.faults, &m.retries, &m.contended, &m.corrupt, &m.ticks, &m.lost, &m.returned} {
		// Defined though there is nothing to tell: an operator wants to see that there were no faults.
		_, err := m.id(host.Counter, c.name, now)
		errs = append(errs, err, m.tell(c, now))
	}
	return errors.Join(errs...)
}
