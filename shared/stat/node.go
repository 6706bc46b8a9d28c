// Package stat counts what passed, was blocked, ended and failed, and brings the counts of all workers together.
//
// A worker counts in plain integers (Node), reports them in one message a tick (Report), and one worker of the process,
// the aggregator, merges the messages into sentinel-golang's windows (Aggregator) and publishes them (Snapshot).
package stat

import (
	"math"
	"slices"

	"sentinel-envoy/shared/checksum"
	"sentinel-envoy/shared/outcome"
)

// BucketMs is the length of a statistic bucket: Sentinel's 500 ms. Rates are read over RateBuckets of them, one second.
const (
	BucketMs    = 500
	RateBuckets = 2
)

// BucketOf is the number of the statistic bucket that holds the time now, in nanoseconds.
func BucketOf(now int64) int64 { return now / (BucketMs * 1e6) }

// Counts are the events of one resource in one worker over some time.
type Counts struct {
	Pass, Block, Complete uint64
	// RT is the sum of the response times of completed entries, in milliseconds.
	RT uint64
}

// Bucket is what happened to one resource in one worker in one bucket of time.
type Bucket struct {
	Number int64
	Counts
	// MinRT is the shortest response time in milliseconds, or NoRT.
	MinRT uint32
}

// events grows with everything that is counted.
func (b *Bucket) events() uint64 { return b.Pass + b.Block + b.Complete }

// NoRT is the MinRT of a bucket in which there was no response time.
const NoRT = math.MaxUint32

// Node counts one resource in one worker. It is not safe for concurrent use.
type Node struct {
	Name string
	// Hash is HashOf(Name), by which the node is known to other workers.
	Hash uint64
	// InFlight are the entries that have passed and not ended.
	InFlight uint32
	// Total is everything since the node was made; Shadow are entries that passed only because their filter does not
	// enforce, Failed those of the completed ones that failed.
	Total          Counts
	Shadow, Failed uint64

	current, previous Bucket
	// end is that of the current bucket, in nanoseconds.
	end int64
	// dirty is whether there is something to report, recent whether ReportRecent looks at the node, named whether the aggregator
	// has been told the name, and gone whether nobody uses it any more.
	dirty, recent, named, gone bool
	nodes                      *Nodes
}

// Hidden begins the names of what is counted though it is no resource: nobody is shown it, and no resource can have one.
const Hidden = "\x00"

// HashOf is 64-bit FNV-1a of a resource's name.
func HashOf(name string) uint64 { return checksum.Hash(checksum.Seed, name) }

// at returns the bucket that holds now.
func (n *Node) at(now int64) *Bucket {
	if !n.dirty {
		n.nodes.changed(n)
	}
	if now < n.end {
		return &n.current
	}
	if number := BucketOf(now); number > n.current.Number {
		n.previous = n.current
		n.current = Bucket{Number: number, MinRT: NoRT}
		n.end = (number + 1) * BucketMs * 1e6
	}
	return &n.current
}

// Pass counts an entry that was admitted at the time now, in nanoseconds. It is in flight until Complete.
func (n *Node) Pass(now int64) {
	n.at(now).Pass++
	n.Total.Pass++
	n.InFlight++
}

// Block counts an entry that was refused.
func (n *Node) Block(now int64) {
	n.at(now).Block++
	n.Total.Block++
}

// Complete counts the end of an entry. Total has all of them, buckets those that tell a response time.
func (n *Node) Complete(now int64, end outcome.End) {
	b := n.at(now)
	n.Total.Complete++
	if end.ResponseMs != outcome.NoTime && !end.GaveUp {
		rt := uint32(min(end.ResponseMs, NoRT-1))
		b.Complete++
		b.RT += uint64(rt)
		n.Total.RT += uint64(rt)
		b.MinRT = min(b.MinRT, rt)
	}
	if end.Outcome == outcome.Badly {
		n.Failed++
	}
	if n.InFlight > 0 {
		n.InFlight--
	}
}

// Nodes are the resources of one worker. There are as many as its configurations name; clients cannot add any.
type Nodes struct {
	byName map[string]*Node
	refs   map[*Node]int
	dirty  []*Node
	// recent are those that may have entries in flight, or were used lately.
	recent []*Node
}

// NewNodes returns an empty set.
func NewNodes() *Nodes { return &Nodes{byName: map[string]*Node{}, refs: map[*Node]int{}} }

// Acquire returns the node of a resource, shared by all who acquire it, until each has called Release.
func (ns *Nodes) Acquire(name string) *Node {
	n := ns.byName[name]
	if n == nil {
		n = &Node{Name: name, Hash: HashOf(name), nodes: ns, current: Bucket{MinRT: NoRT}, previous: Bucket{MinRT: NoRT}}
		ns.byName[name] = n
	}
	ns.refs[n]++
	return n
}

// Release ends one use of a node, and reports whether it was the last: the node is then gone.
func (ns *Nodes) Release(n *Node) (gone bool) {
	if ns.refs[n]--; ns.refs[n] > 0 {
		return false
	}
	n.gone = true
	delete(ns.refs, n)
	delete(ns.byName, n.Name)
	return true
}

// All calls f for every node.
func (ns *Nodes) All(f func(*Node)) {
	for n := range ns.refs {
		f(n)
	}
}

// recentBuckets is for how long what has happened is reported again and again.
const recentBuckets = 4

// ReportRecent marks the nodes with entries in flight, of which an aggregator must hear or it takes this worker for dead,
// and those that were used in the last two seconds: a report can be lost with the aggregator that has read it.
func (ns *Nodes) ReportRecent(now int64) {
	oldest := BucketOf(now) - recentBuckets
	ns.recent = slices.DeleteFunc(ns.recent, func(n *Node) bool {
		n.recent = !n.gone && (n.InFlight > 0 || n.current.Number > oldest)
		if n.recent && !n.dirty {
			ns.changed(n)
		}
		return !n.recent
	})
}

// ReportAll marks every node that was ever used, for an aggregator that has not heard of it.
func (ns *Nodes) ReportAll() {
	for n := range ns.refs {
		n.named = false
	}
	for n := range ns.refs {
		if !n.dirty && n.current.Number > 0 {
			ns.changed(n)
		}
	}
}

// changed marks a node that is not marked as one that has something to report.
func (ns *Nodes) changed(n *Node) {
	n.dirty = true
	ns.dirty = append(ns.dirty, n)
	if !n.recent {
		n.recent = true
		ns.recent = append(ns.recent, n)
	}
}
