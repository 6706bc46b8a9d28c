package stat

import (
	"bytes"
	"encoding/binary"
	"math"
	"testing"

	"sentinel-envoy/shared/checksum"
	"sentinel-envoy/shared/outcome"
)

// sealed gives a message the checksum that it needs to be read at all: noise behind a right one is the harder case.
func sealed(rest []byte) []byte {
	message := append(make([]byte, 4), rest...)
	binary.LittleEndian.PutUint32(message, checksum.Sum(rest))
	return message
}

// FuzzMessage reads rubbish as a report and as a page of the snapshot, with a wrong checksum and with a right one.
func FuzzMessage(f *testing.F) {
	ns := NewNodes()
	n := ns.Acquire("r")
	n.Pass(start)
	n.Complete(start+second, outcome.End{Outcome: outcome.Badly, ResponseMs: 12})
	m, _ := ns.Report(nil, Origin{Slot: 3, Epoch: 9})
	f.Add(m[4:])
	f.Add(m[4 : len(m)-3])
	f.Add([]byte{})
	f.Add([]byte{reportVersion, 0xff})
	f.Add(bytes.Repeat([]byte{0xff}, 60))
	f.Add(hostile())
	page := appendRates(appendPageHeader(nil, PageHeader{Term: 4, At: start}), 77, Rates{Pass: 3, RT: 900, MinRT: 5})
	f.Add(page[4:])
	f.Add(page[4 : len(page)-2])
	f.Add([]byte{pageVersion})
	f.Fuzz(func(t *testing.T, rest []byte) {
		readPage(t, rest)
		a := NewAggregator()
		if err := a.Receive(rest, start); err == nil && !bytes.Equal(rest[:min(4, len(rest))], sealed(rest[min(4, len(rest)):])[:4]) {
			t.Error("a wrong checksum was read")
		}
		_ = a.Receive(sealed(rest), start)
		a.Adopt(rest, start)
		a.Adopt(sealed(rest), start)
		if n := len(a.windows); n > len(rest)/8 {
			t.Errorf("%d bytes make %d windows", len(rest), n)
		}
		snapshot(t, a, start)
		// Whatever it said, the aggregator goes on counting.
		ns := NewNodes()
		n := ns.Acquire("other")
		n.Pass(start)
		m, _ := ns.Report(nil, Origin{Slot: maxWorkers - 1, Epoch: math.MaxUint64})
		if err := a.Receive(m, start); err != nil {
			t.Error(err)
		}
		a.Expire(start + 10*second)
		snapshot(t, a, start+10*second)
	})
}

// hostile is a well-formed report from no time of ours.
func hostile() []byte {
	rest := []byte{reportVersion}
	rest = binary.AppendUvarint(rest, 3)
	rest = binary.LittleEndian.AppendUint64(rest, 9)
	rest = binary.AppendUvarint(rest, 1)
	rest = binary.LittleEndian.AppendUint64(rest, HashOf("r"))
	rest = append(rest, 0) // no name
	rest = binary.AppendUvarint(rest, math.MaxUint64)
	rest = appendBucket(rest, &Bucket{Number: BucketOf(start), MinRT: NoRT})
	return appendBucket(rest, &Bucket{Number: math.MaxInt64, Counts: Counts{Pass: math.MaxUint64, RT: math.MaxUint64}})
}

// A report from no time of ours does not stop a resource from being counted.
func TestHostileReportDoesNotPoisonAWindow(t *testing.T) {
	a := NewAggregator()
	if err := a.Receive(sealed(hostile()), start); err != nil {
		t.Fatal(err)
	}
	ns := NewNodes()
	n := ns.Acquire("r")
	n.Pass(start)
	m, _ := ns.Report(nil, Origin{Slot: 4, Epoch: 1})
	if err := a.Receive(m, start); err != nil {
		t.Fatal(err)
	}
	if got := snapshot(t, a, start)[n.Hash]; got.Pass != 1 {
		t.Errorf("one entry passed, the snapshot says %+v", got)
	}
}

func readPage(t *testing.T, rest []byte) {
	_, _ = DecodePage(rest, func(uint64, Rates) {})
	header, err := DecodePage(sealed(rest), func(uint64, Rates) {})
	alone, aloneErr := DecodePageHeader(sealed(rest))
	if err == nil && (aloneErr != nil || alone != header) {
		t.Errorf("a page read as %+v has the header %+v, %v", header, alone, aloneErr)
	}
}
