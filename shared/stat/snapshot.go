package stat

import (
	"encoding/binary"

	"sentinel-envoy/shared/checksum"
)

// Rates are what happened to one resource in all workers, over the last second.
type Rates struct {
	// Complete are the ends that tell a response time.
	Pass, Block, Complete uint64
	// RT is the sum of the response times of what completed, in milliseconds; MinRT the shortest (1 at least, Sentinel's
	// default maximum where nothing completed).
	RT    uint64
	MinRT uint32
	// MaxComplete is the most that completed in one bucket.
	MaxComplete uint64
	// InFlight are the entries in flight now.
	InFlight uint32
}

// AvgRT is the mean response time in milliseconds, 0 where nothing completed.
func (r Rates) AvgRT() float64 {
	if r.Complete == 0 {
		return 0
	}
	return float64(r.RT) / float64(r.Complete)
}

// Idle is whether there is nothing to say of a resource.
func (r Rates) Idle() bool {
	return r.Pass+r.Block+r.Complete+uint64(r.InFlight) == 0
}

// Pages is the number of pages that a snapshot is cut into: a reader of one resource reads one page.
const Pages = 64

// PageOf is the page that has a resource.
func PageOf(hash uint64) int { return int(hash % Pages) }

// pageVersion is the layout of a page.
const pageVersion = 3

// PageHeader says who published a page, and when.
type PageHeader struct {
	// Term grows with each change of aggregator: a page of a later term is never replaced by an earlier one.
	Term uint64
	// At is the time of publishing in nanoseconds.
	At int64
}

// appendPageHeader begins a page. Layout as of a report: checksum (4), version (1), term, time, then per resource hash
// (8) and the fields of Rates; the page's end ends the list.
func appendPageHeader(dst []byte, h PageHeader) []byte {
	dst = append(dst, 0, 0, 0, 0, pageVersion)
	dst = binary.AppendUvarint(dst, h.Term)
	return binary.AppendUvarint(dst, uint64(h.At))
}

func appendRates(dst []byte, hash uint64, r Rates) []byte {
	dst = binary.LittleEndian.AppendUint64(dst, hash)
	for _, v := range [...]uint64{r.Pass, r.Block, r.Complete, r.RT, uint64(r.MinRT), uint64(r.InFlight), r.MaxComplete} {
		dst = binary.AppendUvarint(dst, v)
	}
	return dst
}

func sealPage(page []byte) {
	binary.LittleEndian.PutUint32(page, checksum.Sum(page[4:]))
}

// DecodePageHeader reads a page's header, or fails with ErrMalformed.
func DecodePageHeader(page []byte) (PageHeader, error) {
	r, err := open(page, pageVersion)
	if err != nil {
		return PageHeader{}, err
	}
	h := r.header()
	if r.bad {
		return PageHeader{}, ErrMalformed
	}
	return h, nil
}

func (r *reader) header() PageHeader {
	return PageHeader{Term: r.uvarint(), At: int64(r.uvarint())}
}

// DecodePage calls f for each resource of a page, and fails with ErrMalformed.
func DecodePage(page []byte, f func(hash uint64, r Rates)) (PageHeader, error) {
	in, err := open(page, pageVersion)
	if err != nil {
		return PageHeader{}, err
	}
	h := in.header()
	for len(in.rest) > 0 && !in.bad {
		hash := in.uint64()
		r := Rates{
			Pass: in.uvarint(), Block: in.uvarint(), Complete: in.uvarint(), RT: in.uvarint(),
			MinRT: uint32(in.uvarint()), InFlight: uint32(in.uvarint()), MaxComplete: in.uvarint(),
		}
		if !in.bad {
			f(hash, r)
		}
	}
	if in.bad {
		return PageHeader{}, ErrMalformed
	}
	return h, nil
}
