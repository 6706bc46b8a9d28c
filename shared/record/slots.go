package record

import (
	"encoding/binary"
	"errors"
	"strconv"

	"sentinel-envoy/shared/checksum"
	"sentinel-envoy/shared/host"
)

// slots are the places in which records lie. A record says whose it is: that is the truth, and the directory the way to it.
type slots struct {
	host Host
	keys string
}

func (s *slots) key(slot int) string { return s.keys + strconv.Itoa(slot) }

// vacate takes a slot that has gone unused from the id that has it, before another gets it: from then on nobody writes to
// the record as that id's. It reports false where the record was in use all the same. What is not that id's stays as it
// is: who has read an old page must not make somebody else's record nobody's, or one that was lost seem to be none.
func (s *slots) vacate(slot int, id ID) (vacated bool, err error) {
	var r record
	cas, err := load(&r, s.host, s.key(slot))
	if err != nil || r.owner != id {
		return err == nil, err
	}
	if age(uint32(r.written/1e9), uint32(s.host.Now()/1e9)) < idleSeconds {
		return false, nil
	}
	return s.disown(s.key(slot), cas)
}

// disown makes a record nobody's, unless it has changed meanwhile.
func (s *slots) disown(key string, cas uint32) (done bool, err error) {
	value := appendHeader(nil, ID{}, s.host.Now())
	seal(value)
	err = s.host.Set(key, value, cas)
	if errors.Is(err, host.ErrCASMismatch) {
		return false, nil
	}
	return err == nil, err
}

// census makes a page anew from its records, of which the first has that slot. Where two are of one id the newer counts,
// and the other is nobody's before anybody reads the page: whoever uses it asks the directory. A record may have been
// lost, too, now or when the page was lost before. It fails with the host's error, or with its ErrCASMismatch where it is
// to be done again.
func (s *slots) census(first int) (p page, err error) {
	seconds := uint32(s.host.Now() / 1e9)
	var written [slotsPerPage]int64
	var tokens [slotsPerPage]uint32
	p = page{lost: max(seconds, 1), entries: make([]entry, slotsPerPage)}
	for i := range p.entries {
		var r record
		cas, err := load(&r, s.host, s.key(first+i))
		if err != nil {
			return page{}, err
		}
		if r.owner == (ID{}) {
			continue
		}
		written[i], tokens[i] = r.written, cas
		other := p.find(r.owner)
		if p.entries[i] = (entry{id: r.owner, touched: seconds}); other < 0 {
			continue
		}
		older := i
		if written[other] < written[i] {
			older = other
		}
		p.entries[older] = entry{}
		switch done, err := s.disown(s.key(first+older), tokens[older]); {
		case err != nil:
			return page{}, err
		case !done:
			return page{}, host.ErrCASMismatch
		}
	}
	return p, nil
}

// record is a stored value: a checksum of the rest, the id it belongs to, the time in nanoseconds at which it was written,
// and the payload. One that is missing has a nil payload and is nobody's.
type record struct {
	owner   ID
	written int64
	payload []byte
	// absent means that there is none yet, corrupt that it is none of ours.
	absent, corrupt bool
}

const headerSize = 4 + len(ID{}) + 8

func appendHeader(dst []byte, id ID, now int64) []byte {
	return binary.LittleEndian.AppendUint64(append(append(dst, 0, 0, 0, 0), id[:]...), uint64(now))
}

func seal(record []byte) {
	binary.LittleEndian.PutUint32(record, checksum.Sum(record[4:]))
}

func (r *record) decode(value []byte) {
	r.absent, r.corrupt = value == nil, false
	if len(value) < headerSize || binary.LittleEndian.Uint32(value) != checksum.Sum(value[4:]) {
		*r = record{absent: value == nil, corrupt: value != nil}
		return
	}
	r.owner = ID(value[4:])
	r.payload = value[headerSize:]
	if r.written = int64(binary.LittleEndian.Uint64(value[headerSize-8:])); r.written < 0 {
		*r = record{corrupt: true}
	}
}

// load reads a record.
func load(r *record, data host.SharedData, key string) (cas uint32, err error) {
	value, cas, err := read(data, key)
	r.decode(value)
	return cas, err
}

// read is Get in which an absent key is a nil value to be created, and a present one is never nil.
func read(data host.SharedData, key string) (value []byte, cas uint32, err error) {
	value, cas, err = data.Get(key)
	switch {
	case err == nil && value != nil:
	case errors.Is(err, host.ErrNotFound):
		return nil, host.CreateOnly, nil
	case err == nil:
		value = []byte{}
	}
	return value, cas, err
}
