package stat

import (
	"encoding/binary"
	"errors"
	"strings"

	"sentinel-envoy/shared/checksum"
)

// A message has at most nodesPerReport nodes, or, where more have changed, a part of them that lets each be reported
// once in turnTicks ticks, which is within a bucket. maxPerReport bounds it all the same.
const (
	nodesPerReport = 64
	turnTicks      = 20
	maxPerReport   = 1024
)

// reportVersion is the layout of a report; a message of another version is not read.
const reportVersion = 2

// ErrMalformed means that a message or page is not one of ours, or of another version.
var ErrMalformed = errors.New("stat: malformed")

// Origin is the worker that a report is from: its slot, and the epoch in which it holds the slot.
type Origin struct {
	Slot  uint16
	Epoch uint64
}

// Report appends to dst a message of the nodes that changed since they were last reported, and reports whether there
// are any. Counts are cumulative in their bucket, so that a lost or repeated message does no harm.
//
// Layout, integers as unsigned varints where no size is given: checksum (4 bytes), version (1), slot, epoch (8), number
// of nodes; a node is its hash (8), the length of its name and the name, in flight, and its current and previous bucket.
// The name is there in the first report to an aggregator: whoever aggregates may have another configuration, in which
// nobody knows the resource.
func (ns *Nodes) Report(dst []byte, from Origin) (message []byte, any bool) {
	n := min(len(ns.dirty), max(nodesPerReport, len(ns.dirty)/turnTicks), maxPerReport)
	if n == 0 {
		return dst, false
	}
	start := len(dst)
	dst = append(dst, 0, 0, 0, 0, reportVersion)
	dst = binary.AppendUvarint(dst, uint64(from.Slot))
	dst = binary.LittleEndian.AppendUint64(dst, from.Epoch)
	dst = binary.AppendUvarint(dst, uint64(n))
	for _, node := range ns.dirty[:n] {
		node.dirty = false
		dst = binary.LittleEndian.AppendUint64(dst, node.Hash)
		dst = appendName(dst, node)
		dst = binary.AppendUvarint(dst, uint64(node.InFlight))
		dst = appendBucket(dst, &node.current)
		dst = appendBucket(dst, &node.previous)
	}
	rest := copy(ns.dirty, ns.dirty[n:])
	clear(ns.dirty[rest:])
	ns.dirty = ns.dirty[:rest]
	binary.LittleEndian.PutUint32(dst[start:], checksum.Sum(dst[start+4:]))
	return dst, true
}

// appendName appends the name of a node that the aggregator may not know. Names that no resource can have are our own, and
// nobody shows them.
func appendName(dst []byte, n *Node) []byte {
	if n.named || strings.HasPrefix(n.Name, Hidden) {
		return append(dst, 0)
	}
	n.named = true
	return append(binary.AppendUvarint(dst, uint64(len(n.Name))), n.Name...)
}

func appendBucket(dst []byte, b *Bucket) []byte {
	for _, v := range [...]uint64{uint64(b.Number), b.Pass, b.Block, b.Complete, b.RT, uint64(b.MinRT)} {
		dst = binary.AppendUvarint(dst, v)
	}
	return dst
}

// reader reads what appendBucket and its like wrote. After its end, or a malformed integer, it gives zeros and is bad.
type reader struct {
	rest []byte
	bad  bool
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 {
		r.bad, r.rest = true, nil
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

func (r *reader) uint64() uint64 {
	if len(r.rest) < 8 {
		r.bad, r.rest = true, nil
		return 0
	}
	v := binary.LittleEndian.Uint64(r.rest)
	r.rest = r.rest[8:]
	return v
}

// bytes are the next n.
func (r *reader) bytes(n uint64) []byte {
	if n > uint64(len(r.rest)) {
		r.bad, r.rest = true, nil
		return nil
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

func (r *reader) bucket() Bucket {
	return Bucket{
		Number: int64(r.uvarint()),
		Counts: Counts{Pass: r.uvarint(), Block: r.uvarint(), Complete: r.uvarint(), RT: r.uvarint()},
		MinRT:  uint32(r.uvarint()),
	}
}

// open checks the checksum and version that message begins with and returns a reader of the rest.
func open(message []byte, version byte) (*reader, error) {
	if len(message) < 5 || message[4] != version || binary.LittleEndian.Uint32(message) != checksum.Sum(message[4:]) {
		return nil, ErrMalformed
	}
	return &reader{rest: message[5:]}, nil
}
