package engine

import (
	"errors"
	"strconv"
	"strings"

	"sentinel-envoy/shared/family"
	"sentinel-envoy/shared/host"
	"sentinel-envoy/shared/metrics"
	"sentinel-envoy/shared/record"
	"sentinel-envoy/shared/stat"
	"sentinel-envoy/shared/worker"
)

const (
	queueName = "sentinel/2/reports"
	// messagesPerTick bounds what the aggregator reads in one tick.
	messagesPerTick = 4096
	// lookEvery is how often the aggregator looks at some records to count them, in nanoseconds. A tick makes up for mostLooks:
	// all since it last worked at rest, and a late tick's. When nothing was reported for so long that all are counted, it
	// makes up for fewLooks: what is left to count is which ids are gone.
	lookEvery, mostLooks, fewLooks = 40e6, 2 * restWorkEvery / lookEvery, 8
)

// leader is a worker's part in bringing the counts of all together: it reports its own to the aggregator, or is it.
type leader struct {
	env       *family.Env
	resources *metrics.Resources
	about     string
	role      worker.Role
	queue     uint32
	report    []byte
	reported  int64
	counted   int64
	looked    int64
	// free are the records that there is room for, as was last counted, where it knows. After looksDue more looks all of what
	// was counted is of after the last message.
	free, looksDue int
	knowsFree      bool
	// received is when the aggregator received its last message.
	received int64
	// announced is the hash of the rules that were written to the log.
	announced  uint64
	aggregator *stat.Aggregator
}

func newLeader(env *family.Env, resources *metrics.Resources, about string) *leader {
	return &leader{env: env, resources: resources, about: about, aggregator: stat.NewAggregator()}
}

// tick reports this worker's counts and, in the aggregator, merges and publishes.
func (l *leader) tick(now int64) {
	role, err := l.env.Worker.Role(now)
	if err != nil {
		l.env.Fault("asking for the aggregator", err)
		return
	}
	if role.Term != l.role.Term {
		l.env.Nodes.ReportAll() // the new one has received nothing
		if role.Mine {
			l.aggregator = stat.NewAggregator()
			l.env.Check("taking over the snapshot", l.env.Board.Adopt(l.aggregator, now))
			l.queue = 0
		}
	}
	l.role = role
	if !l.findQueue() {
		return
	}
	report := l.toReport(now)
	switch {
	case role.Mine:
		l.aggregate(report, now)
	case len(report) > 0:
		l.env.Check("sending a report", l.env.Host.Enqueue(l.queue, report))
	}
}

// rejoined makes a worker that has a new identity report everything under it.
func (l *leader) rejoined() {
	l.env.Nodes.ReportAll()
	l.announced = 0
}

// findQueue makes sure that the queue's id is known. The aggregator opens it, the others wait until it has.
func (l *leader) findQueue() bool {
	if l.queue != 0 {
		return true
	}
	find := l.env.Host.Resolve
	if l.role.Mine {
		find = l.env.Host.Open
	}
	id, err := find(queueName)
	if err != nil {
		if !errors.Is(err, host.ErrNotFound) {
			l.env.Fault("finding the queue", err)
		}
		return false
	}
	l.queue = id
	return true
}

// toReport is a message of this worker's counts, empty where there is nothing to report. It is void with the next.
func (l *leader) toReport(now int64) []byte {
	me, held := l.env.Worker.Identity()
	if !held {
		return nil
	}
	if now-l.reported >= stat.ReportEvery {
		l.env.Nodes.ReportRecent(now)
		l.reported = now
	}
	l.report, _ = l.env.Nodes.Report(l.report[:0], stat.Origin{Slot: me.Slot, Epoch: me.Epoch})
	return l.report
}

// aggregate merges the reports, its own last, which needs no queue: what it has sent before it had the role comes first. And
// it publishes what they come to.
func (l *leader) aggregate(own []byte, now int64) {
	read := l.receive(now)
	if len(own) > 0 {
		l.take(own, now)
	}
	if !read {
		return
	}
	l.aggregator.Expire(now)
	l.countRecords(now)
	if now-l.counted >= flushEvery {
		l.counted = now
		l.countWorkers(now)
		l.env.Metrics.Gauge("sentinel_aggregator_term", l.role.Term, now)
		if l.knowsFree {
			l.env.Metrics.Gauge("sentinel_records_free", uint64(l.free), now)
		}
	}
	h := stat.PageHeader{Term: l.role.Term, At: now}
	show := func(hash uint64, name string, r stat.Rates) { l.resources.ShowRates(hash, name, r, now) }
	l.aggregator.Publish(h, show, func(number int, content []byte) bool {
		done, err := l.env.Board.Put(number, content, h.Term)
		l.env.Check("publishing", err)
		return done
	})
}

// receive merges what is in the queue, and reports whether the queue could be read.
func (l *leader) receive(now int64) bool {
	for range messagesPerTick {
		message, err := l.env.Host.Dequeue(l.queue)
		if errors.Is(err, host.ErrEmpty) {
			break
		}
		if err != nil {
			l.env.Fault("reading the queue", err)
			return false
		}
		l.take(message, now)
	}
	return true
}

// take merges a report.
func (l *leader) take(report []byte, now int64) {
	l.received, l.looksDue = now, 2*record.Looks
	l.env.Check("reading a report", l.aggregator.Receive(report, now))
}

// countWorkers exports how many workers live, of the VM that has the fewest: VMs with another configuration have a worker on
// each thread too, and must not hide one that is missing. The slots are counted, and not whoever reports: a worker without
// traffic does not.
func (l *leader) countWorkers(now int64) {
	live, ended, err := l.env.Worker.Count(now)
	for _, slot := range ended {
		l.env.Metrics.Gauge(rulesHash(slot), 0, now)
	}
	if err != nil {
		l.env.Fault("counting workers", err)
		return
	}
	l.env.Metrics.Gauge("sentinel_workers", uint64(fewest(live)), now)
}

func fewest(live map[uint64]int) (n int) {
	for _, of := range live {
		if n == 0 || of < n {
			n = of
		}
	}
	return n
}

// countRecords exports for how many more records there is room. The count takes many looks, one for each lookEvery since the
// last: at rest ticks are few.
func (l *leader) countRecords(now int64) {
	most := fewLooks
	if l.looksDue > 0 {
		most = mostLooks
	}
	looks := int(min(max((now-l.looked)/lookEvery, 1), int64(most)))
	l.looked, l.looksDue = now, max(l.looksDue-looks, 0)
	for range looks {
		var err error
		if l.free, l.knowsFree, err = l.env.Table.Free(); err != nil {
			l.env.Fault("counting records", err)
			return
		}
	}
}

// announce writes once, from the aggregator, what is in force.
func (l *leader) announce(hash uint64, filters []*Filter) {
	if !l.role.Mine || l.queue == 0 || hash == l.announced || len(filters) == 0 {
		return
	}
	l.announced = hash
	var parts []string
	for _, f := range filters {
		if !f.draining && !f.Parked() {
			parts = append(parts, f.describe())
		}
	}
	l.env.Host.Log(host.Info, "sentinel "+l.about+": "+strings.Join(parts, "; ")+"; rules_hash "+
		strconv.FormatUint(hash&0xffffffff, 10)+"; this worker ("+strconv.Itoa(int(l.role.Slot))+") aggregates")
}

// warn writes, from the aggregator alone, what is odd in the configurations that are new.
func (l *leader) warn(filters []*Filter) {
	if l.role.Term == 0 {
		return // nobody aggregates yet
	}
	for _, f := range filters {
		if l.role.Mine {
			f.vm.warn("configuration of root_id "+f.title(), f.warnings)
			f.vm.warn("vm_config.configuration", f.ofVM)
		}
		f.warnings, f.ofVM = nil, nil
	}
}

// rulesHash is the gauge of the rules that a worker applies.
func rulesHash(slot uint16) string { return "sentinel_rules_hash;worker=" + strconv.Itoa(int(slot)) }
