package record

import (
	"errors"
	"strconv"

	"sentinel-envoy/shared/host"
)

// ErrFull means that an id's page has no free slot: far more ids are in use than a directory is made for.
var ErrFull = errors.New("record: no free slot")

// ErrContended means that compare-and-set was lost as often as is tried.
var ErrContended = errors.New("record: lost compare-and-set too often")

// Directory assigns slots to ids, the same in every worker. It has a fixed number of pages, each of which has a key and at
// most 648 bytes. An id belongs to one page.
type Directory struct {
	data host.SharedData
	// prefix carries the version of the codec: two versions never read each other's pages.
	prefix string
	pages  int
	// slots are what the directory is about; where nil, a slot is for ever.
	slots   *slots
	buf     []byte
	name    []byte
	corrupt uint64
}

// NewNames returns a directory of that many pages of 32, with that prefix of its keys, in which a slot is for ever: it
// bounds how many ids there ever are.
func NewNames(data host.SharedData, prefix string, pages int) *Directory {
	return &Directory{data: data, prefix: prefix, pages: pages}
}

// Corrupt is how many pages were found that nobody of us can have written; they are replaced.
func (d *Directory) Corrupt() uint64 { return d.corrupt }

// Slot returns the number of id's slot, which it takes if id has none. unsure is whether a record that is not in the slot
// may be one that was lost. It fails with ErrFull, ErrContended, or the host's error.
func (d *Directory) Slot(id ID) (slot int, unsure bool, err error) {
	number := id.page(d.pages)
	for range maxTries {
		p, cas, err := d.load(number)
		// The clock is read after the page: to an older reading a slot that others have just used would be of a time to
		// come.
		seconds := d.seconds()
		at, changed := 0, false
		if err == nil {
			at, changed, err = d.place(&p, number, id, seconds)
		}
		if err == nil && changed {
			p.entries[at] = entry{id: id, touched: seconds}
			d.buf = p.encode(d.buf[:0])
			err = d.data.Set(d.key(number), d.buf, cas)
		}
		if !errors.Is(err, host.ErrCASMismatch) {
			return number*slotsPerPage + at, p.unsure(seconds), err
		}
	}
	return 0, false, ErrContended
}

func (d *Directory) key(number int) string {
	d.name = strconv.AppendInt(append(d.name[:0], d.prefix...), int64(number), 10)
	return string(d.name)
}

// seconds is the time, where it matters.
func (d *Directory) seconds() uint32 {
	if d.slots == nil {
		return 0
	}
	return uint32(d.slots.host.Now() / 1e9)
}

// load reads a page. One that was lost is what the records of its slots say.
func (d *Directory) load(number int) (p page, cas uint32, err error) {
	value, cas, err := read(d.data, d.key(number))
	if err != nil {
		return page{}, 0, err
	}
	p, intact := decodePage(value)
	if !intact {
		d.corrupt++
		if d.slots != nil {
			p, err = d.slots.census(number * slotsPerPage)
		}
	}
	return p, cas, err
}

// place finds id's place in a page, or the place it shall have, and whether the page must be written. It fails with
// ErrFull or the host's error.
func (d *Directory) place(p *page, number int, id ID, seconds uint32) (at int, changed bool, err error) {
	if at = p.find(id); at >= 0 {
		return at, d.slots != nil && p.entries[at].idle(seconds) >= touchSeconds, nil
	}
	for range slotsPerPage {
		if at = p.vacant(seconds); at < 0 {
			break
		}
		if p.entries[at].id == (ID{}) {
			return at, true, nil
		}
		vacated, err := d.slots.vacate(number*slotsPerPage+at, p.entries[at].id)
		if err != nil || vacated {
			return at, true, err
		}
		p.entries[at].touched = seconds // somebody uses it all the same
	}
	return 0, false, ErrFull
}

// inUse is how many slots of a page are in use at a time in seconds. What cannot be read counts for nothing.
func (d *Directory) inUse(number int, seconds uint32) (n int, err error) {
	value, _, err := read(d.data, d.key(number))
	if value == nil {
		return 0, err
	}
	p, _ := decodePage(value)
	return p.inUse(seconds), err
}
