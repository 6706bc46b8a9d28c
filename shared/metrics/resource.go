package metrics

import "sentinel-envoy/shared/stat"

// ofResource are the label and the metrics of one resource: nil until there is something to export.
type ofResource struct {
	label    string
	counters *counters
	gauges   *gauges
}

type counters struct{ pass, shadow, complete, failed, rt Counter }

func newCounters(label string) *counters {
	return &counters{
		pass:     Counter{Name: "sentinel_passed" + label},
		shadow:   Counter{Name: "sentinel_shadow_passed" + label},
		complete: Counter{Name: "sentinel_completed" + label},
		failed:   Counter{Name: "sentinel_failed" + label},
		rt:       Counter{Name: "sentinel_rt_ms_sum" + label},
	}
}

type gauges struct{ inFlight, pass, block, rt Gauge }

func newGauges(label string) *gauges {
	return &gauges{
		inFlight: Gauge{Name: "sentinel_in_flight" + label},
		pass:     Gauge{Name: "sentinel_pass_qps" + label},
		block:    Gauge{Name: "sentinel_block_qps" + label},
		rt:       Gauge{Name: "sentinel_rt_ms" + label},
	}
}

// forget makes the gauges be set with their next values, whatever these are.
func (g *gauges) forget() {
	for _, one := range [...]*Gauge{&g.inFlight, &g.pass, &g.block, &g.rt} {
		one.shownAt = 0
	}
}

// Resources are the metrics of the resources that a worker knows.
type Resources struct {
	metrics *Metrics
	byHash  map[uint64]*ofResource
}

// NewResources returns the metrics of no resource.
func NewResources(m *Metrics) *Resources {
	return &Resources{metrics: m, byHash: map[uint64]*ofResource{}}
}

// Add makes the metrics of a resource, until Remove.
func (rs *Resources) Add(n *stat.Node) {
	if rs.byHash[n.Hash] == nil {
		rs.byHash[n.Hash] = &ofResource{label: Resource(n.Name)}
	}
}

// Remove drops what is kept for a node that is gone, at the time now in nanoseconds. Its gauges must not stay at their
// last value, where idle: nobody else uses the resource.
func (rs *Resources) Remove(n *stat.Node, idle bool, now int64) {
	if idle && n.Total != (stat.Counts{}) {
		rs.ShowRates(n.Hash, n.Name, stat.Rates{}, now)
	}
	delete(rs.byHash, n.Hash)
}

// Len is how many resources are kept.
func (rs *Resources) Len() int { return len(rs.byHash) }

// Export brings the counters of one resource up to date.
func (rs *Resources) Export(n *stat.Node, now int64) {
	of := rs.byHash[n.Hash]
	if of == nil || n.Total == (stat.Counts{}) {
		return
	}
	if of.counters == nil {
		of.counters = newCounters(of.label)
	}
	c := of.counters
	c.pass.N, c.shadow.N, c.complete.N, c.failed.N, c.rt.N = n.Total.Pass, n.Shadow, n.Total.Complete, n.Failed, n.Total.RT
	for _, counter := range [...]*Counter{&c.pass, &c.shadow, &c.complete, &c.failed, &c.rt} {
		rs.metrics.Export(counter, now)
	}
}

// ShowRates sets the gauges of one resource, which this worker need not know if it is told the name.
func (rs *Resources) ShowRates(hash uint64, name string, r stat.Rates, now int64) {
	g := rs.gauges(hash, name)
	if g == nil {
		return
	}
	if r.Idle() { // nobody sets them again while it is
		g.forget()
	}
	rs.metrics.Show(&g.inFlight, uint64(r.InFlight), now)
	rs.metrics.Show(&g.pass, r.Pass, now)
	rs.metrics.Show(&g.block, r.Block, now)
	rs.metrics.Show(&g.rt, uint64(r.AvgRT()+0.5), now)
}

// gauges are those of a resource, nil where nobody knows its name.
func (rs *Resources) gauges(hash uint64, name string) *gauges {
	of := rs.byHash[hash]
	switch {
	case of == nil && name == "":
		return nil
	case of == nil:
		return newGauges(Resource(name))
	case of.gauges == nil:
		of.gauges = newGauges(of.label)
	}
	return of.gauges
}
