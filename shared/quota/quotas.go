// Package quota spends limits of Envoy's rate limit service in many processes: a process reserves permits there, and its
// workers spend them.
//
// Pure are what is reserved (state.go) and what is known of the service's clock (clock.go). The records of both are
// shared by the process's workers.
package quota

import (
	"errors"
	"strconv"

	"sentinel-envoy/shared/host"
	"sentinel-envoy/shared/metrics"
	"sentinel-envoy/shared/record"
	"sentinel-envoy/shared/rls"
	"sentinel-envoy/shared/rule"
)

// Key tells limits apart: of which service they are, and what they are called there.
type Key struct {
	rule.RateLimitService
	ID record.ID
}

// name is the key as that of a map that is ranged over: TinyGo's range reads a key with texts in it after the last one, too,
// wherever that points.
func (k Key) name() record.ID {
	return record.IDOf(string(k.ID[:]), strconv.FormatUint(uint64(k.TimeoutMs), 10))
}

// service is a rate limit service: those of one cluster have one clock.
type service struct {
	cell record.Cell
	// clock is the record's as this worker has last seen it.
	clock Clock
	refs  int
}

// Quotas are the limits that the rules of one worker spend. It is not safe for concurrent use.
type Quotas struct {
	host     host.Host
	table    *record.Table
	fault    func(what string, err error)
	all      map[record.ID]*Quota
	values   map[record.ID]*Values
	services map[string]*service
	message  []byte

	// Calls are those to services, Hits what was reserved by them, Failed the calls without a usable answer, Late the answers
	// that came too late to be of use, and Changes how often a rule has begun or ceased to fall back.
	Calls, Hits, Failed, Late, Changes metrics.Counter
}

// NewQuotas returns the limits of a worker. Records are in table; fault counts what is ours or the host's.
func NewQuotas(h host.Host, table *record.Table, fault func(what string, err error)) *Quotas {
	return &Quotas{
		host: h, table: table, fault: fault, all: map[record.ID]*Quota{}, values: map[record.ID]*Values{}, services: map[string]*service{},
		Calls:   metrics.Counter{Name: "sentinel_cluster_calls"},
		Hits:    metrics.Counter{Name: "sentinel_cluster_reserved"},
		Failed:  metrics.Counter{Name: "sentinel_cluster_failures"},
		Late:    metrics.Counter{Name: "sentinel_cluster_late"},
		Changes: metrics.Counter{Name: "sentinel_cluster_changes"},
	}
}

// Descriptor is that of a rule by its name at the service. Shadow decisions have one of their own, lest they take from what
// is enforced.
func Descriptor(name string, shadow bool) []rls.Entry {
	entries := []rls.Entry{{Key: "rule", Value: name}}
	if shadow {
		entries = append(entries, rls.Entry{Key: "mode", Value: "shadow"})
	}
	return entries
}

// Acquire returns the limit that a descriptor has at a service, until each who has acquired it has called Release. name is
// the rule's, for the log.
func (qs *Quotas) Acquire(at rule.RateLimitService, name string, entries []rls.Entry) *Quota {
	key := keyOf(at, entries)
	q := qs.all[key.name()]
	if q == nil {
		q = &Quota{of: qs, key: key, name: name, entries: entries, cell: record.Cell{ID: key.ID}, service: qs.serviceOf(at.Cluster)}
		qs.all[key.name()] = q
	}
	q.refs++
	return q
}

func keyOf(at rule.RateLimitService, entries []rls.Entry) Key {
	parts := []string{"quota", at.Cluster, at.Domain}
	for _, e := range entries {
		parts = append(parts, e.Key, e.Value)
	}
	return Key{at, record.IDOf(parts...)}
}

func (qs *Quotas) serviceOf(cluster string) *service {
	s := qs.services[cluster]
	if s == nil {
		s = &service{cell: record.Cell{ID: record.IDOf("service clock", cluster)}}
		qs.services[cluster] = s
	}
	s.refs++
	return s
}

// Release gives the limit up.
func (q *Quota) Release() {
	if q.refs--; q.refs > 0 {
		return
	}
	delete(q.of.all, q.key.name())
	if q.service.refs--; q.service.refs == 0 {
		delete(q.of.services, q.key.Cluster)
	}
}

// Tick does what is due in each tick at the time now, in nanoseconds.
func (qs *Quotas) Tick(now int64) {
	for _, s := range qs.services {
		qs.check("reading the rate limit service's clock", s.read(qs.table, now))
	}
	for _, q := range qs.all {
		qs.check("reserving permits", q.tick(now))
	}
	for _, v := range qs.values {
		qs.check("returning permits", v.tick(now))
	}
}

// read reads what the process knows of the service's clock.
func (s *service) read(table *record.Table, now int64) error {
	var look observation
	err := table.Update(&s.cell, now, &look)
	if err == nil {
		s.clock = look.clock
	}
	return err
}

// All calls f with each limit.
func (qs *Quotas) All(f func(*Quota)) {
	for _, q := range qs.all {
		f(q)
	}
}

// state is 0 where the service has yet to answer, 1 where it answers, 2 where it does not, as the worker has last seen it.
func (q *Quota) state() uint64 {
	switch s := &q.op.state; {
	case s.Failing():
		return 2
	case s.Sent > 0:
		return 1
	}
	return 0
}

// Export exports what was counted, and how each limit stands. now is in nanoseconds.
func (qs *Quotas) Export(m *metrics.Metrics, now int64) {
	for _, c := range [...]*metrics.Counter{&qs.Calls, &qs.Hits, &qs.Failed, &qs.Late, &qs.Changes} {
		m.Export(c, now)
	}
	for _, q := range qs.all {
		if state := q.state(); state != q.shown { // who has not looked for long must not hide what others have seen
			q.shown = state
			m.Gauge("sentinel_cluster_state"+metrics.Rule(q.name), state, now)
		}
	}
}

func (qs *Quotas) check(what string, err error) {
	if err != nil && !errors.Is(err, record.ErrContended) {
		qs.fault(what, err)
	}
}
